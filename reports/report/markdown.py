"""The report as Markdown, short enough for a pull request or a job summary."""

from __future__ import annotations

from collections.abc import Iterable

from fuseproof import units
from fuseproof.escaping import markdown, markdown_code
from fuseproof.reports.claims import band_words
from fuseproof.reports.claims.audit import tally
from fuseproof.reports.report import headlines, wording
from fuseproof.reports.report.summary import Mean, Summary


def to_markdown(summary: Summary) -> str:
    """The verdicts, the geometric means, every comparison, then what failed and what was skipped."""
    lines = ["# Does compiling make it faster here?", ""]
    lines += [f"{markdown(run.machine)} ({markdown(run.suite or run.source)})  " for run in summary.runs]
    lines += [
        f"\n**Incomplete run**: {markdown(run.source)} was stopped after {units.count(run.blocks, 'block')}."
        for run in summary.runs
        if not run.complete
    ]
    for claim, found in headlines.headlines(summary).items():
        lines += ["", f"## “{markdown(claim)}”"]
        for headline in found:
            lines += ["", markdown(headline.sentence), ""]
            for verdict in headline.verdicts:
                words = "; ".join(
                    f"read as {wording.READINGS.get(row.reading, row.reading)}, "
                    f"{band_words(row.band, row.reading)}: **{row.verdict}**"
                    for row in verdict.readings
                )
                lines.append(f"- {markdown(verdict.sentence)} Claimed, {words}")
    if summary.claims:
        lines.append("")
        lines += [f"**{word}**: {meaning}.  " for word, meaning in wording.meanings(summary).items()]
    lines += ["", *(f"- {markdown(caveat)}" for caveat in wording.caveats(summary))]

    lines += ["", "## Geometric means", ""]
    lines += table(
        ("operator", "pass", "implementation", "baseline", "cases", "speedup [95 %]", "cases resampled"),
        (
            (
                mean.operator or "all",
                _scope(mean, summary),
                mean.implementation,
                mean.baseline,
                str(mean.cases),
                wording.speedup(mean.speedup),
                units.bracket(*mean.resampled) if mean.resampled else "",
            )
            for mean in summary.means
            if mean.dtype is None
        ),
    )
    if summary.populations:
        lines += ["", "## All cases together", "", wording.WHAT_A_POPULATION_SAYS, ""]
        lines += table(
            wording.POPULATION_COLUMNS, (wording.population(each, summary) for each in summary.populations)
        )
    lines += ["", "## Every case", ""]
    lines += table(
        (
            *("operator", "case", "implementation", "time", "speedup [95 %]", "by other rounds"),
            *("compile", "graphs", "break-even calls"),
        ),
        (
            (
                row.case.operator,
                wording.case_name(row.case, summary),
                row.implementation,
                units.duration(row.median_seconds.value),
                wording.speedup(row.speedup)
                if row.speedup
                else "baseline"
                if row.is_baseline
                else units.NONE,
                wording.by_rounds(row),
                units.duration(row.compile_seconds),
                wording.graphs(row) or units.NONE,
                wording.calls(row.break_even_calls),
            )
            for row in summary.rows
        ),
    )
    if deployed := wording.deployments(summary):
        lines += ["", "## Deployment runtimes", "", wording.WHAT_DEPLOYMENT_TAKES, ""]
        lines += table(
            wording.DEPLOYMENT_COLUMNS,
            (
                (
                    row.case.operator,
                    wording.case_name(row.case, summary),
                    row.implementation,
                    *map(units.duration, (row.export_seconds, row.load_seconds, row.first_call_seconds)),
                    units.memory(row.artifact_bytes),
                )
                for row in deployed
            ),
        )
    if doubts := wording.doubts(summary):
        lines += ["", "## Doubted", "", wording.WHAT_A_SPEEDUP_IS_OF, ""]
        lines += [f"- **{markdown(which)}**: {markdown(why)}." for which, why in doubts]
    if summary.whys:
        lines += ["", "## Why", ""]
        lines.append(
            "As written → compiled. Kernels: counted by the profiler; peak memory: measured; bytes: computed "
            "from the program, not measured."
        )
        lines.append("")
        lines += table(
            ("operator", "case", "implementation", "kernels", "bytes", "peak memory", "fused"),
            (
                (
                    why.case.operator,
                    wording.case_name(why.case, summary),
                    why.account.implementation,
                    wording.pair(why.account.kernels, units.whole).text,
                    wording.pair(why.account.bytes, units.memory).text,
                    wording.pair(why.account.peak_memory_bytes, units.memory).text,
                    wording.fused(why.account) or why.account.reason or units.NONE,
                )
                for why in summary.whys
            ),
        )
    for undecided in summary.undecided:
        run_name = wording.run_label(undecided.run, summary) or "this run"
        lines += ["", f"## Not decided by {run_name}", "", *(f"- {markdown(one)}" for one in undecided.lines)]
    for index, run in enumerate(summary.runs):
        of_run = f", {name}" if (name := wording.run_label(index, summary)) else ""
        lines += ["", f"## Is the comparison fair?{of_run} {tally(run.audit)}", ""]
        lines += [
            f"- {check.question} **{check.answer}**: {markdown(check.basis)}"
            for check in run.audit
            if check.answer != "yes"
        ]
    if summary.missing:
        lines += ["", "## Failed and skipped", ""]
        lines += [
            f"- **{markdown(group.implementation)}** {markdown(group.kind)} at {markdown(group.stage)}, "
            f"{units.count(len(group.cases), 'case')}: {markdown(group.message)}"
            for group in wording.grouped(summary.missing)
        ]
    for run in summary.runs:
        command = wording.command(run)
        reproduce = f"; measured with {markdown_code(command)}" if command else ""
        lines += ["", f"Raw samples: {markdown_code(run.file)}{reproduce}."]
    return "\n".join(lines) + "\n"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(header)
    body = [[markdown(cell) for cell in row] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in (names, ["---"] * len(names), *body)]


def _scope(mean: Mean, summary: Summary) -> str:
    parts = (wording.words(mean.pass_), wording.timing(mean, summary), wording.run_label(mean.run, summary))
    return ", ".join(part for part in parts if part)
