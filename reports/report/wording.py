"""The sentences and figures of a report, the same in every format."""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fuseproof import units
from fuseproof.fusion.account import Account, Pair
from fuseproof.reports.claims import MEANINGS, MIN_BLOCKS, QUANTITIES, REDUCTION, SHARE, ClaimRow
from fuseproof.reports.report.summary import (
    Case,
    Interval,
    Mean,
    Missing,
    Population,
    Row,
    RunInfo,
    Summary,
)
from fuseproof.runs.population import Share
from fuseproof.runs.records import FIRST_RESULT, OWN
from fuseproof.units import count
from fuseproof.workloads.tensor import MODULE_PASSES

# Before the word of a verdict, so that verdicts differ in more than their colours.
SIGNS = {
    "supported": "✓",
    "mean-only": "≈",
    "refuted-low": "▼",
    "refuted-high": "▲",
    "inconclusive": "?",
    "insufficient": "…",
    "undecidable": "–",
}
# Figures that differ by less are shown as the same.
_UNCHANGED = 0.005
WHAT_A_SPEEDUP_IS_OF = (
    "A speedup is of the fast rounds, which are steady on a shared machine and hide what costs only "
    "sometimes; beside it stands the same by the median of the rounds and by their mean (throughput). It is "
    "doubted where one of these lies outside its interval, and the difference repeats from block to block."
)
POPULATION_COLUMNS = (
    *("comparison", "pass", "cases", "faster", "about the same", "slower", "failed"),
    *(
        "all [95 %, cases resampled]",
        "measured",
        "clipped",
        "one workload left out",
        "the interval comes from",
    ),
)
WHAT_A_POPULATION_SAYS = (
    "Faster and slower: by more than 5 %; with 95 % Wilson intervals of their shares, in which cases of one "
    "workload that are alike count as less than one each. Geometric means: of all cases, where a failed one "
    "is 1, as whoever gets an error goes back to the baseline; of the measured ones; and clipped at 1 with "
    "failed ones left out, as others have published them, to show what that hides. The last columns: how far "
    "the mean depends on one workload, and which part of its variance more rounds, more blocks or more cases "
    "would lower."
)
READINGS = {
    "throughput": "more throughput",
    "time_reduction": "less time",
    REDUCTION: "any reduction",
    SHARE: "a share of cases",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was measured of a claim in one comparison and pass, and the verdict on each reading of it."""

    sentence: str
    readings: tuple[ClaimRow, ...]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A figure without and with the compiler: `12 → 5`, `−58 %`, -0.58; None and empty where unknown."""

    text: str
    change: str
    share: float | None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cases that have no measurement of an implementation, all for the same reason."""

    implementation: str
    kind: str
    stage: str
    message: str
    cases: tuple[str, ...]


def verdicts(summary: Summary, *, pooled: bool) -> dict[str, list[Verdict]]:
    """By claim, its comparisons with all readings; `pooled` leaves out single dtypes where all are pooled."""
    slices: dict[tuple[int, *tuple[object, ...]], dict[str | None, list[ClaimRow]]] = {}
    for claim in summary.claims:
        row = claim.row
        key = (claim.run, row.claim, row.candidate, row.baseline, row.metric, row.cache, row.pass_)
        slices.setdefault(key, {}).setdefault(row.dtype, []).append(row)
    found: dict[str, list[Verdict]] = defaultdict(list)
    for (run, *_), by_dtype in slices.items():
        for dtype, rows in by_dtype.items():
            if not pooled or dtype == "all" or "all" not in by_dtype:
                verdict = Verdict(sentence=_sentence(rows[0], run, summary), readings=tuple(rows))
                found[rows[0].text].append(verdict)
    return dict(found)


def _sentence(row: ClaimRow, run: int, summary: Summary) -> str:
    where = [words(row.pass_ or "an unknown pass"), timing(row, summary)]
    if row.dtype not in ("all", None):
        where.append(row.dtype or "")
    where.append(run_label(run, summary))
    conditions = ", ".join(part for part in where if part)
    failed = f"; {count(row.failed, 'more case')} failed" if row.failed else ""
    if not row.cases:
        why = f" ({row.problems[0]})" if row.reading == REDUCTION and row.problems else ""
        lacking = f"has no sound {_lacking(row)} against {row.baseline}"
        return f"{row.candidate} {lacking} in {conditions}{failed}{why}."
    bounds = units.bracket(*row.ci95)
    interval = f" [95\u00a0%: {bounds[1:-1]}]" if bounds else ""
    if row.reading == REDUCTION:
        return f"{_reduced(row)} in {conditions}, over {count(row.cases, 'case')}{failed}."
    if row.reading == SHARE:
        return f"{row.sentence.removesuffix('.')} in {conditions}{interval}."
    if row.metric == FIRST_RESULT:
        return (
            f"{row.candidate} came to its first result {units.times(row.geomean)} as fast as {row.baseline}"
            f"{interval} in {conditions}, over {count(row.cases, 'case')}{failed}."
        )
    return (
        f"{row.candidate} made the cases {units.times(row.geomean)} as fast as {row.baseline}{interval} "
        f"in {conditions}, over {count(row.cases, 'case')}{failed}."
    )


def quantity(row: ClaimRow) -> str:
    """What a row is about: `peak memory`, `wall time`."""
    return QUANTITIES.get(row.metric, f"{row.metric} time")


def _lacking(row: ClaimRow) -> str:
    return {"kernels": "count of kernels", "peak_memory": "peak memory"}.get(row.metric, "measurement")


def _reduced(row: ClaimRow) -> str:
    """`jax.jit launched 3.2× fewer kernels than jax.eager [95 %, cases resampled: 2.1–4.4]`."""
    more = row.geomean < 1
    value, low, high = (
        (1 / row.geomean, 1 / row.ci95[1], 1 / row.ci95[0] if row.ci95[0] else math.inf)
        if more
        else (row.geomean, *row.ci95)
    )
    verb, increase, decrease = {
        "kernels": ("launched", "more kernels", "fewer kernels"),
        "peak_memory": ("took", "more memory at its peak", "less memory at its peak"),
    }[row.metric]
    bounds = units.bracket(low, high)
    interval = f" [95\u00a0%, cases resampled: {bounds[1:-1]}]" if bounds else ""
    how_many = f"{units.times(value)} {increase if more else decrease}"
    return f"{row.candidate} {verb} {how_many} than {row.baseline}{interval}"


def meanings(summary: Summary) -> dict[str, str]:
    """What each verdict in the summary means, by its word."""
    found = {claim.row.verdict for claim in summary.claims}
    return {verdict: meaning for verdict, meaning in MEANINGS.items() if verdict in found}


def caveats(summary: Summary) -> list[str]:
    """What limits the conclusions: blocks, failures, the null control, each with its number."""
    lines = []
    for index, run in enumerate(summary.runs):
        rows = [row for row in summary.rows if row.case.run == index]
        name = f"Run {index + 1}: " if len(summary.runs) > 1 else ""
        cases = len({row.case.group for row in rows})
        lines.append(
            f"{name}{count(run.blocks, 'block')} of fresh processes, {count(cases, 'case')}, "
            f"{count(len(rows), 'measurement')}, {count(run.samples, 'sample')}."
        )
        if run.blocks < MIN_BLOCKS:
            lines.append(
                f"{name}Fewer than {MIN_BLOCKS} blocks: claims are not judged; intervals are wide or absent."
            )
        asked = run.settings.get("baseline", OWN)
        if asked not in (OWN, run.baseline) and asked not in {row.implementation for row in rows}:
            lines.append(f"{name}{asked}, which everything was to be compared with, was not measured.")
        if run.baseline != OWN:
            lacking = f"; {count(len(run.uncompared), 'case')} without it, where nothing is compared"
            lines.append(
                f"{name}Everything is compared with {run.baseline}{lacking if run.uncompared else ''}; "
                "the claims with what they name."
            )
        if run.commit.get("dirty"):
            lines.append(f"{name}The checkout had uncommitted changes.")
    errors = sum(m.kind == "error" for m in summary.missing)
    skipped = sum(m.kind == "skipped" for m in summary.missing)
    if errors:
        lines.append(
            f"{count(errors, 'failure')}: a wrong or crashed implementation has no speedup; see below."
        )
    if skipped:
        lines.append(f"{count(skipped, 'combination')} skipped because they cannot run here; see below.")
    if doubted := sum(row.doubt is not None for row in summary.rows):
        compared = count(sum(row.speedup is not None for row in summary.rows), "speedup")
        lines.append(
            f"{doubted} of {compared} doubted: median or mean of the rounds says otherwise; see below."
        )
    if control := null_control(summary):
        lines.append(f"Null control: {control}")
    whole = {row.case.pass_ for row in summary.rows} & {*MODULE_PASSES}
    lines.append(
        "One machine: no statement about other hardware."
        if whole
        else "Single operators on one machine: no statement about whole models or other hardware."
    )
    return lines


def null_control(summary: Summary) -> str:
    """The result of the null control in one sentence; empty where there is none."""
    control = summary.null_control
    if control is None or not control.total:
        return ""
    share = units.percent(control.contained / control.total)
    return (
        f"In {control.contained} of {control.total} comparisons of an implementation with itself the "
        f"95\u00a0% interval contains 1× ({share}; honest intervals do in about 95\u00a0%)."
    )


def grouped(missing: Iterable[Missing]) -> list[Group]:
    """The missing cases, by implementation and reason."""
    cases: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for m in missing:
        cases[m.implementation, m.kind, m.stage, m.message].append(m.group)
    return [
        Group(implementation=key[0], kind=key[1], stage=key[2], message=key[3], cases=tuple(groups))
        for key, groups in cases.items()
    ]


def timing(row: Case | Mean | Missing | Population | ClaimRow, summary: Summary) -> str:
    """The metric and the cache regime, each only where a report holds several."""
    metrics = {r.case.metric for r in summary.rows}
    caches = {r.case.cache for r in summary.rows}
    # An implementation that was never timed has no metric.
    metric = ""
    if len(metrics) > 1 and not isinstance(row, Missing):
        untimed = isinstance(row, ClaimRow) and row.reading in (REDUCTION, SHARE)
        metric = "" if untimed else QUANTITIES.get(row.metric, f"{row.metric} time")
    cache = f"{row.cache} cache" if len(caches) > 1 and row.cache else ""
    return ", ".join(part for part in (metric, cache) if part)


def run_label(run: int, summary: Summary) -> str:
    """`run 2`; empty where the report has one run."""
    return f"run {run + 1}" if len(summary.runs) > 1 else ""


def case_name(case: Case | Missing, summary: Summary) -> str:
    """A case without its operator: `64x256 · float32 · forward`."""
    parts = (case.shape, case.dtype, words(case.pass_), timing(case, summary), run_label(case.run, summary))
    return " · ".join(part for part in parts if part)


def command(run: RunInfo) -> str:
    """The command that measures the run again, quoted for a shell; empty if it is not recorded."""
    argv = run.settings.get("command") or ""
    return argv if isinstance(argv, str) else shlex.join(str(word) for word in argv)


DEPLOYMENT_COLUMNS = ("operator", "case", "implementation", "export", "load", "first call", "artifact")
WHAT_DEPLOYMENT_TAKES = (
    "Of what runs in a deployment runtime, once and cold, in the order in which it happens: from the module "
    "with its weights to a file, with what the exporter imports; from the file to what can be called; the "
    "first call. None of it is in the time of a call."
)


def deployments(summary: Summary) -> list[Row]:
    """The rows of deployment runtimes, each once."""
    return [row for row in summary.rows if row.export_seconds is not None and row.case.metric == "wall"]


def speedup(interval: Interval) -> str:
    """`1.35× [1.30–1.41]`."""
    if interval.low is None or interval.high is None:
        return f"{units.times(interval.value)} (one block: no interval)"
    return f"{units.times(interval.value)} {units.bracket(interval.low, interval.high)}"


def by_rounds(row: Row) -> str:
    """The same speedup by the other times of a call: `median 1.34×, mean 1.29×`."""
    if row.speedup_by_median is None or row.speedup_by_mean is None:
        return ""
    return f"median {units.times(row.speedup_by_median.value)}, mean {units.times(row.speedup_by_mean.value)}"


def doubts(summary: Summary) -> list[tuple[str, str]]:
    """The doubted speedups: which, and why."""
    return [
        (
            f"{row.implementation} vs {row.baseline}, {row.case.operator} {case_name(row.case, summary)}",
            row.doubt,
        )
        for row in summary.rows
        if row.doubt is not None
    ]


def population(each: Population, summary: Summary) -> tuple[str, ...]:
    """The cells of a population, by POPULATION_COLUMNS."""
    means, shares, budget = each.means, each.shares, each.budget
    where = (words(each.pass_), timing(each, summary), run_label(each.run, summary))
    left = each.left_out
    return (
        f"{each.implementation} vs {each.baseline}",
        ", ".join(part for part in where if part),
        f"{means.cases} in {count(each.families, 'workload')}",
        *(_share(one) for one in (shares.above, shares.inside, shares.below, shares.failed)),
        f"{units.times(means.all.value)} {units.bracket(*means.over_cases)}".strip(),
        units.times(means.measured.value),
        units.times(means.flattering),
        f"{units.times(left.low)} without {left.low_without}, "
        f"{units.times(left.high)} without {left.high_without}"
        if left
        else units.NONE,
        ", ".join(f"{name} {share:.0%}" for name, share in budget.shares.items())
        if budget and budget.variance
        else units.NONE,
    )


def _share(share: Share) -> str:
    """`9 [18–57 %]`; nothing but the number where there is none."""
    return f"{share.count} [{100 * share.low:.0f}–{100 * share.high:.0f}\u00a0%]" if share.count else "0"


def graphs(row: Row) -> str:
    """What torch.compile made of it: `1 graph`, `3 graphs, 2 breaks, 1 recompilation`; empty if unknown."""
    if row.graphs is None:
        return ""
    more = ((row.graph_breaks, "break"), (row.recompiles, "recompilation"))
    return ", ".join(
        [units.count(row.graphs, "graph"), *(units.count(number, what) for number, what in more if number)]
    )


def calls(interval: Interval | None) -> str:
    """Break-even calls, `12.3k [9,800–never]`; never: compiling does not pay for itself."""
    if interval is None:
        return units.NONE
    if math.isinf(interval.value):
        return "never"
    text = units.compact(interval.value)
    if interval.low is None or interval.high is None:
        return text
    high = "never" if math.isinf(interval.high) else units.compact(interval.high)
    return f"{text} [{units.compact(interval.low)}–{high}]"


def pair(figure: Pair, text: Callable[[int | None], str]) -> Change:
    """`12 → 5` and `−58 %`; `text` writes one of the two figures."""
    share = figure.compiled / figure.eager - 1 if figure.eager and figure.compiled is not None else None
    sign = "" if share is None else "−" if share < 0 else "+"
    known = figure.eager is not None or figure.compiled is not None
    return Change(
        text=f"{text(figure.eager)} → {text(figure.compiled)}" if known else units.NONE,
        change="" if share is None or abs(share) < _UNCHANGED else f"{sign}{100 * abs(share):.0f}\u00a0%",
        share=share,
    )


def fused(account: Account) -> str:
    """What the compiled program launches: `2 fusions, 1 library call`."""
    if account.fusions is None:
        return ""
    calls = sum(o.kind == "library" for o in account.others)
    rest = len(account.others) - calls
    parts = [
        count(len(account.fusions), "fusion"),
        count(calls, "library call") if calls else "",
        count(rest, "other operation") if rest else "",
    ]
    return ", ".join(part for part in parts if part)


def words(name: str) -> str:
    """A name of the data as a reader sees it: `forward + backward`, `layer norm`."""
    return name.replace("forward_backward", "forward + backward").replace("_", " ")
