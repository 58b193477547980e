"""Is head slower than base? A regression gate for CI that passes, fails, or says that it cannot tell.

Base and head are separate runs, so nothing is paired: a benchmark's value in a block is the median over
legs of ln(leg time), its slowdown exp(mean of head - mean of base), with Welch's t interval over blocks. A
stock pytest-benchmark file is one block.

Verdicts of a row:
regression     the slowdown's lower limit is above the margin, by Holm's correction over benchmarks at a
               one-sided 2.5 %, so that the 95 % interval of such a row always clears the margin
missing        in base but not in head: removed, renamed or skipped there
failed         wrong, crashed or hung in head, and not so in base
inconclusive   too noisy, fewer than 2 blocks, or not measured alike
pass           none of these; a large slowdown (over 10 %, or twice the given margin if that is more) is
               excluded, as the interval's upper limit is below it
new            in head only; reported, never failing
failed-before  failed in both; reported, never failing

Margin: the given one (2 %), raised per benchmark to its A/A noise. That is the standard deviation between
base's blocks, at most 10 %, or the slowdown on which the benchmark's null control raised an alarm. Head has
no part in it, and a raised margin hides no large slowdown: one that is not confirmed leaves the row
inconclusive.

Null control: base against base, its even blocks against its odd ones, through the same comparison.

The gate says regression if any row is regression, missing or failed; else inconclusive if any row is, or
nothing was compared; else pass. Where fingerprints differ no timing is believed, in either direction, and
the gate never passes; missing and failed benchmarks need no clock and fail even then.

A confirmed slowdown deserves a second measurement with fresh blocks before anyone acts on it: `suspects`
and `remeasure_command` say of what and how. The gate only reads files; it cannot do that by itself yet.
"""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fuseproof.errors import UserError
from fuseproof.runs import statistics
from fuseproof.runs.records import Benchmark, Failure, Run

EXIT_CODES = {"pass": 0, "regression": 1, "error": 2, "inconclusive": 3}
SEVERITY = ("failed", "missing", "regression", "inconclusive", "failed-before", "new", "pass")
FAILING = frozenset({"failed", "missing", "regression"})
ALPHA = 0.025
LARGE = 0.10
ENOUGH_BLOCKS = 5
PASSES_SHOWN = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One benchmark. `slowdown` is head / base (1.05: 5 % slower), None where there is nothing to compare."""

    name: str
    verdict: str
    reason: str = ""
    slowdown: float | None = None
    ci: tuple[float, float] | None = None  # 95 %
    margin: float | None = None  # as a fraction, after raising

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ci": None if self.ci is None else list(self.ci)}


@dataclass(frozen=True, kw_only=True)
class NullControl:
    """Base against base: how many benchmarks had the 4 blocks it needs, and which raised an alarm."""

    rows: int
    alarms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What `compare` found; `fingerprint_differences` are (field, value in base, value in head)."""

    verdict: str  # pass, regression or inconclusive; "error" is what a command reports for a UserError
    base: str
    head: str
    margin: float
    rows: tuple[GateRow, ...]
    null: NullControl
    fingerprint_differences: tuple[tuple[str, Any, Any], ...]
    remeasure_command: str | None

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    @property
    def suspects(self) -> tuple[str, ...]:
        """Benchmarks to measure again: slower than the margin by their own interval, or too noisy to tell.

        None where fingerprints differ: base has to be measured again then, under head's conditions.
        """
        if self.fingerprint_differences:
            return ()
        return tuple(row.name for row in self.rows if row.ci is not None and _is_suspect(row, row.ci))

    def to_json(self) -> dict[str, Any]:
        """The document of `fuseproof gate --json`."""
        return {
            "verdict": self.verdict,
            "base": self.base,
            "head": self.head,
            "margin": self.margin,
            "rows": [row.to_json() for row in self.rows],
            "null": {
                "rows": self.null.rows,
                "false_alarms": len(self.null.alarms),
                "names": list(self.null.alarms),
            },
            "fingerprint_differences": [
                {"field": name, "base": before, "head": after}
                for name, before, after in self.fingerprint_differences
            ],
            "suspects": list(self.suspects),
            "remeasure_command": self.remeasure_command,
        }


def compare(base: Run, head: Run, *, margin: float = 0.02) -> GateResult:
    """Compare every benchmark of `base` with its namesake in `head`; the rules are at the top of this module.

    `margin` is the tolerated slowdown as a fraction. Raises UserError for a margin below 0 and for a run that
    holds neither benchmarks nor failures, or samples that are not positive seconds.
    """
    if not 0 <= margin < math.inf:
        raise UserError(f"margin {margin} is not a tolerated slowdown; give a percentage like 2%")
    for run in (base, head):
        _require_samples(run)
    before = {benchmark.name: _block_values(benchmark) for benchmark in base.benchmarks}
    null_rows = _timing_rows(
        {name: (values[0::2], values[1::2]) for name, values in before.items() if len(values) >= 4},
        margin,
        {},
    )
    alarms = {row.name: row.slowdown or 1.0 for row in null_rows.values() if row.verdict == "regression"}

    rows = _untimed_rows(base, head)
    timed = {
        benchmark.name: (before[benchmark.name], _block_values(benchmark))
        for benchmark in head.benchmarks
        if benchmark.name in before and benchmark.name not in rows
    }
    differences = _fingerprint_differences(base, head)
    for name, row in _timing_rows(timed, margin, alarms).items():
        if differences:
            row = replace(row, verdict="inconclusive", reason="the fingerprints of base and head differ")
        rows[name] = row
    verdicts = {row.verdict for row in rows.values()}
    if verdicts & FAILING:
        verdict = "regression"
    elif differences or "inconclusive" in verdicts or "pass" not in verdicts:
        verdict = "inconclusive"
    else:
        verdict = "pass"
    ordered = sorted(rows.values(), key=lambda row: (SEVERITY.index(row.verdict), -(row.slowdown or 0.0)))
    result = GateResult(
        verdict=verdict,
        base=base.source,
        head=head.source,
        margin=margin,
        rows=tuple(ordered),
        null=NullControl(rows=len(null_rows), alarms=tuple(alarms)),
        fingerprint_differences=differences,
        remeasure_command=None,
    )
    return replace(result, remeasure_command=_remeasure_command(head, result.suspects))


def render_text(result: GateResult) -> str:
    """For a terminal: what fails first, then the verdict with what it rests on."""
    from rich.console import Console  # not needed by --json
    from rich.markup import escape
    from rich.table import Table

    colours = {"pass": "green", "inconclusive": "yellow"} | dict.fromkeys(FAILING, "red")
    table = Table("verdict", "benchmark", "slowdown (95 %)", "margin", "reason")
    shown, hidden = _shown(result)
    for row in shown:
        colour = colours.get(row.verdict, "default")
        table.add_row(f"[{colour}]{row.verdict}[/]", escape(row.name), *_numbers(row), escape(row.reason))
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    with console.capture() as capture:
        console.print(table)
        if hidden:
            console.print(f"… and {hidden} more that pass")
        for line in _notes(result):
            console.print(line, markup=False, highlight=False)
        if result.remeasure_command:  # on a line of its own, unwrapped, for copying
            console.print("Measure the suspects again with fresh blocks before acting on them:", style="dim")
            console.print(f"  {result.remeasure_command}", markup=False, highlight=False, soft_wrap=True)
        console.print(_headline(result), style=f"bold {colours[result.verdict]}", highlight=False)
    return capture.get()


def render_markdown(result: GateResult) -> str:
    """For a GitHub step summary."""
    shown, hidden = _shown(result)
    lines = [f"### {_headline(result)}", ""]
    lines += ["| verdict | benchmark | slowdown (95 %) | margin | reason |", "|---|---|---:|---:|---|"]
    for row in shown:
        cells = (row.verdict, f"`{row.name}`", *_numbers(row), row.reason)
        lines.append(
            f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in cells)} |"
        )
    lines += ["", *([f"… and {hidden} more that pass.", ""] if hidden else [])]
    lines += [f"- {line}" for line in _notes(result)]
    if result.remeasure_command:
        lines += ["", "Measure the suspects again with fresh blocks before acting on them:", ""]
        lines += ["```sh", result.remeasure_command, "```"]
    return "\n".join(lines) + "\n"


def _require_samples(run: Run) -> None:
    if not run.benchmarks and not run.failures:
        raise UserError(f"{run.source} holds no benchmarks; is it the right file?")
    for benchmark in run.benchmarks:
        if not len(benchmark.seconds) or not np.all(np.isfinite(benchmark.seconds) & (benchmark.seconds > 0)):
            raise UserError(
                f"{run.source}: {benchmark.name} has no samples, or some that are not positive seconds"
            )


def _block_values(benchmark: Benchmark) -> Floats:
    return np.array(list(statistics.block_log_seconds(benchmark).values()))


def _untimed_rows(base: Run, head: Run) -> dict[str, GateRow]:
    """The rows that need no clock, by name."""
    failed, failed_before = (
        {(f.group, f.implementation): f for f in run.failures if f.kind == "error"} for run in (head, base)
    )
    skipped = {(f.group, f.implementation): f for f in head.failures if f.kind == "skipped"}
    ours = {benchmark.name: benchmark for benchmark in base.benchmarks}
    theirs = {benchmark.name: benchmark for benchmark in head.benchmarks}
    new = [name for name in theirs if name not in ours]
    rows = {name: GateRow(name=name, verdict="new", reason="not in base") for name in new}
    reported = set()
    for name, benchmark in ours.items():
        key = (benchmark.group, benchmark.implementation or "")
        other = theirs.get(name)
        if key in failed and key not in failed_before:
            reported.add(key)
            rows[name] = GateRow(name=name, verdict="failed", reason=_told(failed[key]))
        elif other is None and not head.complete:
            reason = "head was stopped before measuring it; finish it with fuseproof run --resume"
            rows[name] = GateRow(name=name, verdict="inconclusive", reason=reason)
        elif other is None:
            rows[name] = GateRow(
                name=name, verdict="missing", reason=_why_missing(name, skipped.get(key), new)
            )
        elif reason := _not_alike(benchmark, other):
            rows[name] = GateRow(name=name, verdict="inconclusive", reason=reason)
    for key, failure in failed.items():
        if key not in reported:
            name, verdict = f"{key[0]} {key[1]}", "failed-before" if key in failed_before else "failed"
            rows[name] = GateRow(name=name, verdict=verdict, reason=_told(failure))
    return rows


def _told(failure: Failure) -> str:
    return f"{failure.stage}: {failure.message}"


def _why_missing(name: str, skipped: Failure | None, new: Sequence[str]) -> str:
    if skipped is not None:
        return f"skipped in head: {skipped.message}"
    similar = difflib.get_close_matches(name, new, n=1, cutoff=0.8)
    return f"not in head; renamed to {similar[0]}?" if similar else "not in head"


def _not_alike(base: Benchmark, head: Benchmark) -> str:
    """Why two benchmarks of one name give no slowdown; empty if they do."""
    if (base.metric, base.cache) != (head.metric, head.cache):
        return f"{base.metric}, {base.cache} cache in base; {head.metric}, {head.cache} cache in head"
    for where, benchmark in (("base", base), ("head", head)):
        if len(np.unique(benchmark.block)) < 2:
            return f"{where} has one block, so its noise is unknown; measure at least {ENOUGH_BLOCKS} blocks"
    return ""


def _timing_rows(
    values: Mapping[str, tuple[Floats, Floats]], margin: float, alarms: Mapping[str, float]
) -> dict[str, GateRow]:
    """Welch's t for every (base, head) pair of block values in ln(seconds), judged together."""
    rows, p_values = {}, []
    for name, (base, head) in values.items():
        noise = min(math.expm1(base.std(ddof=1)), LARGE)
        raised = max(margin, noise, alarms.get(name, 1.0) - 1)
        variances = base.var(ddof=1) / len(base), head.var(ddof=1) / len(head)
        error = math.sqrt(sum(variances))
        difference = head.mean() - base.mean()
        beyond = difference - math.log1p(raised)
        half = 0.0
        if error > 0:
            degrees = error**4 / sum(
                v**2 / (len(side) - 1) for v, side in zip(variances, (base, head), strict=True)
            )
            half = stats.t.ppf(1 - ALPHA, degrees) * error
            p_values.append(float(stats.t.sf(beyond / error, degrees)))
        else:  # no spread at all, as in files with rounded or made-up samples
            p_values.append(float(beyond <= 0))
        rows[name] = GateRow(
            name=name,
            verdict="pass",
            slowdown=math.exp(difference),
            ci=(math.exp(difference - half), math.exp(min(difference + half, 700.0))),
            margin=raised,
        )
    large = max(LARGE, 2 * margin)
    for row, p in zip(list(rows.values()), _holm(p_values), strict=True):
        assert row.ci is not None and row.margin is not None
        if p <= ALPHA:
            reason = f"at least {row.ci[0] - 1:.1%} slower, margin {row.margin:.1%}"
            rows[row.name] = replace(row, verdict="regression", reason=reason)
        elif row.ci[1] > 1 + large:
            reason = f"too noisy: up to {row.ci[1] - 1:.0%} slower is not excluded; measure more blocks"
            rows[row.name] = replace(row, verdict="inconclusive", reason=reason)
        elif row.margin > margin:
            rows[row.name] = replace(row, reason="margin raised to the noise of base")
    return rows


def _holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: compare each with the family's level (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    return [float(p) for p in adjusted]


def _fingerprint_differences(base: Run, head: Run) -> tuple[tuple[str, Any, Any], ...]:
    """(field, base, head) for what differs; stock files have no fingerprint but fields."""
    if base.fingerprint is not None and base.fingerprint == head.fingerprint:
        return ()
    ours, theirs = base.fingerprint_fields, head.fingerprint_fields
    fields = dict.fromkeys([*ours, *theirs])
    differing = tuple((f, ours.get(f), theirs.get(f)) for f in fields if ours.get(f) != theirs.get(f))
    if not differing and base.fingerprint != head.fingerprint:
        return (("fingerprint", base.fingerprint, head.fingerprint),)
    return differing


def _is_suspect(row: GateRow, ci: tuple[float, float]) -> bool:
    return row.verdict in ("regression", "inconclusive") or ci[0] > 1 + (row.margin or 0.0)


def _remeasure_command(head: Run, suspects: Sequence[str]) -> str | None:
    if not suspects:
        return None
    if head.suite is not None:
        groups = dict.fromkeys(b.group for b in head.benchmarks if b.name in suspects)
        return shlex.join(["fuseproof", "run", head.suite, *(f"--case={group}" for group in groups)])
    return f"pytest {shlex.join(suspects)} --benchmark-json=again.json"


def _shown(result: GateResult) -> tuple[list[GateRow], int]:
    """All rows but passes beyond the slowest few, and how many those are."""
    passes = [row for row in result.rows if row.verdict == "pass"]
    others = [row for row in result.rows if row.verdict != "pass"]
    return others + passes[:PASSES_SHOWN], len(passes[PASSES_SHOWN:])


def _numbers(row: GateRow) -> tuple[str, str]:
    if row.slowdown is None or row.ci is None or row.margin is None:
        return "", ""
    low, high = row.ci
    return f"{row.slowdown - 1:+.1%} ({low - 1:+.1%} to {high - 1:+.1%})", f"{row.margin:.1%}"


def _headline(result: GateResult) -> str:
    counts = [(verdict, sum(row.verdict == verdict for row in result.rows)) for verdict in SEVERITY]
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    return f"Gate: {result.verdict} ({tally}; {result.head} against {result.base})"


def _notes(result: GateResult) -> list[str]:
    notes = [
        f"Fingerprint: {f} was {a!r} in base, is {b!r} in head" for f, a, b in result.fingerprint_differences
    ]
    if result.null.rows:
        alarms = f": {', '.join(result.null.alarms)}" if result.null.alarms else ""
        count = len(result.null.alarms)
        notes.append(f"Null control, base against base: {count} false alarms in {result.null.rows}{alarms}")
    else:
        notes.append("Null control: base has too few blocks to be halved (4 are needed)")
    return notes
