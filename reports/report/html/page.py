"""The page arranged for its template: lines of the forest plot, tables, filters, replicates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fuseproof import units
from fuseproof.fusion.account import reasons
from fuseproof.reports.claims import REDUCTION
from fuseproof.reports.report import wording
from fuseproof.reports.report.html import plots
from fuseproof.reports.report.summary import Case, Claim, Interval, Mean, Missing, Row, Summary, Why

# `claimed-1` and so on in report.css.
_BAND_COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the forest: the speedup in a case, or the geometric mean over cases."""

    id: int | None  # index into Summary.rows; None for a mean
    operator: str
    case: str
    implementation: str
    baseline: str
    pass_: str
    dtype: str
    timing: str
    run: str
    speedup: Interval
    resampled: tuple[float, float] | None
    blocks: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TableLine:
    """One line of an operator's table: a measurement, or the reason why it is missing."""

    case: str
    row: Row | None
    unit: tuple[float, str]
    missing: Missing | None


@dataclass(frozen=True, kw_only=True)
class WhyLine:
    """What a compiler changed in one implementation: each figure, and by how much it changed."""

    case: str
    why: Why
    figures: tuple[wording.Change, ...]  # kernels, operations, bytes, peak memory
    fused: str
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Glance:
    """Geometric means of one run, metric and cache regime: implementations × (operator, pass)."""

    label: str
    operators: tuple[tuple[str, tuple[str, ...]], ...]  # each with its passes; "" is the mean over all
    rows: tuple[tuple[tuple[str, str], tuple[Mean | None, ...]], ...]

    @property
    def starts(self) -> list[int]:
        """The columns where an operator begins."""
        return [sum(len(passes) for _, passes in self.operators[:n]) for n in range(len(self.operators))]


@dataclass(frozen=True, kw_only=True)
class Payback:
    """Compile times and break-even points of one implementation over the cases of an operator."""

    operator: str
    implementation: str
    seconds: tuple[float, ...]
    points: tuple[tuple[Interval, str], ...]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A claimed range of speedups, to be drawn behind the measured ones."""

    label: str
    short: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class StripLine:
    """A block: its palindromes as a rug, its value as a point. Without rug: the estimate, with interval."""

    name: str
    rug: str
    low: float
    high: float
    x: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The replicates behind one comparison, placed on their own axis."""

    label: str
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[StripLine, ...]
    width: float  # of the interval, as a ratio; infinite where there is none


def lines(summary: Summary) -> Iterator[Line]:
    one_dtype = len({row.case.dtype for row in summary.rows}) < 2
    for mean in summary.means:
        if mean.operator is None and not (mean.dtype and one_dtype):
            where = (wording.timing(mean, summary), wording.run_label(mean.run, summary))
            count = units.count(mean.cases, "case")
            scope = (
                count,
                mean.dtype or ("" if one_dtype else "all dtypes"),
                wording.words(mean.pass_),
                *where,
            )
            yield Line(
                id=None,
                operator="",
                case=" · ".join(part for part in scope if part),
                implementation=mean.implementation,
                baseline=mean.baseline,
                pass_=mean.pass_,
                dtype=mean.dtype or "",
                timing=where[0],
                run=where[1],
                speedup=mean.speedup,
                resampled=mean.resampled,
                blocks=(),
            )
    for index, row in enumerate(summary.rows):
        if row.speedup:
            yield Line(
                id=index,
                operator=row.case.operator,
                case=wording.case_name(row.case, summary),
                implementation=row.implementation,
                baseline=row.baseline or "",
                pass_=row.case.pass_,
                dtype=row.case.dtype,
                timing=wording.timing(row.case, summary),
                run=wording.run_label(row.case.run, summary),
                speedup=row.speedup,
                resampled=None,
                blocks=tuple(block.speedup for block in row.blocks),
            )


def by_operator(lines: Iterable[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.id is not None:
            found[line.operator].append(line)
    return found


def bands(claims: Iterable[Claim]) -> list[Band]:
    """As many as there are colours for; "faster" and "at least" have no upper edge to draw."""
    # A band of fewer kernels or less memory is not a band of speedups.
    found = {(c.row.text, c.row.reading): c.row.band for c in claims if c.row.reading != REDUCTION}
    return [
        Band(
            label=f"“{claim}”, read as {wording.READINGS.get(reading, reading)}",
            short=wording.READINGS.get(reading, reading),
            low=low,
            high=high,
        )
        for (claim, reading), (low, high) in found.items()
        if high < math.inf
    ][:_BAND_COLOURS]


def filters(lines: Iterable[Line]) -> list[tuple[str, str, list[str]]]:
    """The properties that differ between cases: (attribute, label, options)."""
    cases = [line for line in lines if line.id is not None]
    found = [
        ("pass", "Pass", list(dict.fromkeys(line.pass_ for line in cases))),
        ("dtype", "Dtype", list(dict.fromkeys(line.dtype for line in cases))),
        ("implementation", "Implementation", sorted({line.implementation for line in cases})),
        ("timing", "Timing", list(dict.fromkeys(line.timing for line in cases))),
        ("run", "Run", list(dict.fromkeys(line.run for line in cases))),
    ]
    return [one for one in found if len(one[2]) > 1]


def glances(summary: Summary) -> Iterator[Glance]:
    tables: dict[str, list[Mean]] = defaultdict(list)
    for mean in summary.means:
        if mean.dtype is None:
            where = (wording.run_label(mean.run, summary), wording.timing(mean, summary))
            tables[", ".join(part for part in where if part)].append(mean)
    for label, means in tables.items():
        cells = {(m.implementation, m.baseline, m.operator or "", m.pass_): m for m in means}
        passes: dict[str, dict[str, None]] = {}
        for m in means:
            passes.setdefault(m.operator or "", {})[m.pass_] = None
        columns = [(operator, pass_) for operator, found in passes.items() for pass_ in found]
        names = list(dict.fromkeys((m.implementation, m.baseline) for m in means))
        yield Glance(
            label=label,
            operators=tuple((operator, tuple(found)) for operator, found in passes.items()),
            rows=tuple((name, tuple(cells.get((*name, *column)) for column in columns)) for name in names),
        )


def tables(summary: Summary) -> dict[str, list[TableLine]]:
    """By operator, its cases with measurements and failures; then what was skipped, once for each reason."""
    found: dict[str, dict[object, list[TableLine]]] = defaultdict(lambda: defaultdict(list))
    fastest: dict[Case, float] = {}
    for row in summary.rows:
        fastest[row.case] = min(row.median_seconds.value, fastest.get(row.case, math.inf))
    for row in summary.rows:
        case, unit = wording.case_name(row.case, summary), units.time_unit(fastest[row.case])
        line = TableLine(case=case, row=row, unit=unit, missing=None)
        found[row.case.operator][row.case.run, row.case.group].append(line)
    skipped: dict[tuple[object, ...], list[Missing]] = defaultdict(list)
    for m in summary.missing:
        if m.kind == "skipped":
            skipped[m.operator, m.run, m.implementation, m.stage, m.message].append(m)
        else:
            line = TableLine(case=wording.case_name(m, summary), row=None, unit=units.SECONDS[0], missing=m)
            found[m.operator][m.run, m.group].append(line)
    for key, same in skipped.items():
        case = wording.case_name(same[0], summary) if len(same) == 1 else units.count(len(same), "case")
        line = TableLine(case=case, row=None, unit=units.SECONDS[0], missing=same[0])
        found[same[0].operator][key].append(line)
    return {
        operator: [line for lines in cases.values() for line in lines] for operator, cases in found.items()
    }


def whys(summary: Summary) -> dict[str, list[WhyLine]]:
    """By operator, what compilers changed, in the order of the cases."""
    found: dict[str, list[WhyLine]] = defaultdict(list)
    for why in summary.whys:
        account = why.account
        found[why.case.operator].append(
            WhyLine(
                case=wording.case_name(why.case, summary),
                why=why,
                figures=(
                    wording.pair(account.kernels, units.whole),
                    wording.pair(account.operations, units.whole),
                    wording.pair(account.bytes, units.memory),
                    wording.pair(account.peak_memory_bytes, units.memory),
                ),
                fused=wording.fused(account),
                unknown=tuple(f"{', '.join(names)}: {reason}" for reason, names in reasons(account).items()),
            )
        )
    return found


def payback(summary: Summary) -> list[Payback]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in summary.rows:
        if row.compile_seconds is not None and row.break_even_calls is not None:
            groups[row.case.operator, row.implementation].append(row)
    return [
        Payback(
            operator=operator,
            implementation=implementation,
            seconds=tuple(sorted(row.compile_seconds or 0.0 for row in rows)),
            points=tuple(
                (row.break_even_calls, wording.case_name(row.case, summary))
                for row in rows
                if row.break_even_calls and math.isfinite(row.break_even_calls.value)
            ),
        )
        for (operator, implementation), rows in groups.items()
    ]


def details(summary: Summary) -> Iterator[tuple[int, list[list[str]]]]:
    """What a line shows on hover or focus: its case, what is compared, then labels with their values."""
    medians = {(row.case, row.implementation): row.median_seconds for row in summary.rows}
    for index, row in enumerate(summary.rows):
        if row.speedup is None:
            continue
        before = medians[row.case, row.baseline or ""]
        facts = {
            "Speedup": wording.speedup(row.speedup),
            "By other rounds": wording.by_rounds(row),
            "Doubted": row.doubt or "",
            "Bootstrap": units.bracket(*row.speedup_bootstrap) if row.speedup_bootstrap else "",
            "Blocks": " ".join(units.significant(block.speedup) for block in row.blocks),
            "Time": units.duration(row.median_seconds.value),
            "Baseline": units.duration(before.value),
            "Break-even calls": wording.calls(row.break_even_calls) if row.break_even_calls else "",
        }
        case = f"{row.case.operator} · {wording.case_name(row.case, summary)}"
        compared = f"{row.implementation} vs {row.baseline}"
        yield index, [[case, compared], *([label, value] for label, value in facts.items() if value)]


def strips(summary: Summary) -> Iterator[Strip]:
    for row in summary.rows:
        if row.speedup is None:
            continue
        low, high = row.speedup.low, row.speedup.high
        bounded = low is not None and high is not None and low > 0 and high < math.inf
        replicates = [value for block in row.blocks for value in block.palindromes]
        scale = plots.forest_scale([row.speedup], [*replicates, 1.0])
        blocks = [
            StripLine(
                name=f"block {block.block}",
                rug=plots.rug(scale, block.palindromes),
                low=0,
                high=0,
                x=scale.x(block.speedup),
                text=units.times(block.speedup),
            )
            for block in row.blocks
        ]
        estimate = StripLine(
            name="estimate",
            rug="",
            low=scale.x(low if bounded and low else row.speedup.value),
            high=scale.x(high if bounded and high else row.speedup.value),
            x=scale.x(row.speedup.value),
            text=wording.speedup(row.speedup),
        )
        case = wording.case_name(row.case, summary)
        yield Strip(
            label=f"{row.case.operator} · {case} · {row.implementation} vs {row.baseline}",
            ticks=tuple(scale.ticks("×")),
            lines=(*blocks, estimate),
            width=high / low if bounded and low and high else math.inf,
        )
