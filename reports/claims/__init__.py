"""Does a published claim hold on these runs? Claims are data (claims.toml), every verdict has its interval.

Each comparison of a claim is judged per metric, cache regime, pass and dtype, and once over all dtypes where
a run has several. Verdicts, on the geometric mean of the speedup (intervals cover the measurement only):

supported     the 90 % interval lies inside the claimed band
mean-only     the same, but the claim says "typically" and the 95 % Wilson lower bound of the share of cases
              inside the band is under one half
refuted-low   the 95 % interval lies wholly below the band
refuted-high  the 95 % interval lies wholly above the band
inconclusive  none of these
insufficient  fewer than 5 blocks or 5 measured cases

An implementation that was wrong, crashed or hung has no speedup: it is listed, and counts as a case outside
the band.

A claim about kernels or peak memory (`metrics` in claims.toml) is judged by one ratio for each case. Such
figures do not vary from block to block, so 5 cases suffice, and both intervals of the geometric mean have the
cases resampled, by operator: they say how far the mean depends on which cases were chosen. A reduction must
be more than none: a mean of exactly 1 is refuted-low. Estimates of the TPU compiler, given beside the runs,
have rows of their own, marked as estimates.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuseproof.errors import UserError
from fuseproof.reports.claims import reductions
from fuseproof.reports.claims.reductions import Estimates, Reduction
from fuseproof.runs import statistics
from fuseproof.runs.records import Benchmark, Failure, Run

DEFAULT_CLAIMS = Path(__file__).with_name("claims.toml")
READINGS = ("throughput", "time_reduction")
REDUCTION = "reduction"  # the one reading of a claim about kernels or memory
ALL_READINGS = (*READINGS, REDUCTION)
VERDICTS = ("supported", "mean-only", "refuted-low", "refuted-high", "inconclusive", "insufficient")
MIN_BLOCKS = 5
MIN_CASES = 5


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published gain of `low` to `high` (fractions) of each candidate over its baseline.

    metrics:   what there is less of, `kernels` or `peak_memory`; empty for time.
    estimates: implementations that the TPU compiler's estimates with and without fusion are about.
    """

    id: str
    text: str
    source: str
    note: str
    low: float
    high: float
    typical: bool
    comparisons: tuple[tuple[str, str], ...]  # (baseline, candidate)
    readings: tuple[str, ...] = READINGS
    metrics: tuple[str, ...] = ()
    estimates: tuple[str, ...] = ()

    def band(self, reading: str) -> tuple[float, float]:
        """The claimed speedup: 30 % more work in the same time is 1.30, 30 % less time is 1.43.

        30 % less of anything else is 1.43 too: the ratio is the baseline's figure over the candidate's.
        """
        if reading == "throughput":
            return 1 + self.low, 1 + self.high
        return 1 / (1 - self.low), 1 / (1 - self.high) if self.high < 1 else math.inf


@dataclass(frozen=True, kw_only=True)
class ClaimRow:
    """The verdict on one reading of a claim, for one comparison in one slice of one run.

    `geomean` is the speedup over `cases` measured cases, NaN if there is none; `ci95_cases` its interval with
    cases resampled. `failed` counts wrong or crashed cases, `missing` those skipped or not measured on both
    sides; `problems` says why. `share_in_band` is over measured and failed cases, `share_lower` its Wilson
    bound. `break_even_calls` is the median over cases with a known compile time: inf if most never pay, NaN
    if none is known.

    Where `metric` is `kernels` or `peak_memory`, `geomean` is how many times fewer or less there are;
    `blocks` is 1, and `ci95` and `ci95_cases` are the same. `estimate`: nothing of it was measured; `device`
    is then the target, and `run` the file.
    """

    claim: str
    text: str
    run: str
    reading: str
    metric: str
    cache: str
    pass_: str | None
    dtype: str | None
    baseline: str
    candidate: str
    cases: int
    blocks: int
    failed: int
    missing: int
    problems: tuple[str, ...]
    band: tuple[float, float]
    geomean: float
    ci95: tuple[float, float]
    ci90: tuple[float, float]
    ci95_cases: tuple[float, float]
    share_in_band: float
    share_lower: float
    break_even_calls: float
    verdict: str
    device: str | None = None
    estimate: bool = False

    def to_json(self) -> dict[str, Any]:
        """A row of `fuseproof claims --json`; what is unbounded or unknown is null."""
        return {key.rstrip("_"): _jsonable(value) for key, value in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One case of a comparison: compared, or the reason why not."""

    comparison: statistics.Comparison | None = None
    failed: bool = False
    problem: str | None = None


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Read a claims file (the one that comes with Fuseproof by default).

    Raises UserError, in one line, for a missing, malformed or incomplete file.
    """
    file = DEFAULT_CLAIMS if path is None else path
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read claims from {file}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is not TOML: {error}") from None
    entries = document.get("claim")
    if set(document) != {"claim"} or not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: expected one or more [[claim]] tables and nothing else")
    claims = []
    for number, entry in enumerate(entries, start=1):
        try:
            claims.append(_claim_from_toml(entry))
        except ValueError as error:
            name = entry.get("id", number) if isinstance(entry, dict) else number
            raise UserError(f"{file}: claim {name}: {error}") from None
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise UserError(f"{file}: two claims have the same id; ids must be unique")
    return tuple(claims)


def evaluate(
    runs: Sequence[Run], path: Path | None = None, *, estimates: Sequence[Estimates] = ()
) -> list[ClaimRow]:
    """All verdicts of the claims in `path` (default: Fuseproof's own) on each run and file of estimates.

    A run that neither measured nor failed an implementation of a claim gives no row for it.
    """
    claims = load_claims(path)
    rows = [
        row
        for run in runs
        for claim in claims
        for row in (_reductions(run, claim) if claim.metrics else _rows(run, claim))
    ]
    return rows + [row for each in estimates for claim in claims for row in _estimates(each, claim)]


def verdict_sentence(row: ClaimRow) -> str:
    """The verdict in one sentence of plain English, with its numbers."""
    meaning = {
        "supported": "holds here",
        "mean-only": (
            f"holds for the mean but is not shown to be typical: {row.share_in_band:.0%} of the cases show it"
        ),
        "refuted-low": f"does not hold here, {_less(row)}",
        "refuted-high": "does not hold here, the gain is larger",
        "inconclusive": "is neither confirmed nor refuted here",
        "insufficient": f"cannot be judged from {_enough(row)}",
    }[row.verdict]
    measured = f"{row.candidate} over {row.baseline}, {_conditions(row)}"
    if row.cases:
        measured += f": {_speedup(row)} over {_count(row.cases, 'case')}"
    if row.failed:
        measured += f", {row.failed} failed"
    if row.verdict == "insufficient" and row.reading == REDUCTION and row.problems:
        measured += f"; {row.problems[0]}"
    reading = row.reading.replace("_", " ")
    return f"“{row.text}” {meaning} ({measured}; claimed, read as {reading}: {band_words(row.band)})."


def band_words(band: tuple[float, float]) -> str:
    low, high = band
    return f"over {low:.2f}×" if math.isinf(high) else f"{low:.2f}–{high:.2f}×"


def _less(row: ClaimRow) -> str:
    if row.reading == REDUCTION:
        return "there are more" if row.ci95[1] < 1 else "there are not fewer"
    return "it is slower" if row.ci95[1] < 1 else "the gain is smaller"


def _enough(row: ClaimRow) -> str:
    if row.reading == REDUCTION:
        return f"{_count(row.cases, 'case')} ({MIN_CASES} are needed)"
    return (
        f"{_count(row.cases, 'case')} in {_count(row.blocks, 'block')} "
        f"({MIN_CASES} and {MIN_BLOCKS} are needed)"
    )


def render_text(rows: Sequence[ClaimRow]) -> str:
    """The verdict matrix as a terminal table, the readings side by side, then what failed."""
    from rich.console import Console  # not needed by reports and gates
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return "No run here measured an implementation that a claim is about.\n"
    colours = {"supported": "green", "mean-only": "yellow", "refuted-low": "red", "refuted-high": "red"}
    lines: dict[tuple[Any, ...], dict[str, ClaimRow]] = {}
    for row in rows:
        key = (
            row.run, row.claim, row.baseline, row.candidate, row.metric, row.cache, row.pass_, row.dtype,
            row.device,
        )  # fmt: skip
        lines.setdefault(key, {})[row.reading] = row
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    with console.capture() as capture:
        for run, claim in dict.fromkeys((row.run, row.claim) for row in rows):
            readings = [line for key, line in lines.items() if key[:2] == (run, claim)]
            table = Table(title=escape(f"“{next(iter(readings[0].values())).text}”, {run}"))
            shown = [reading for reading in ALL_READINGS if any(reading in line for line in readings)]
            gain = "fewer or less (95 %, cases resampled)" if shown == [REDUCTION] else "speedup (95 %)"
            timed = shown != [REDUCTION]
            for heading in (
                "compared",
                "conditions",
                "cases",
                gain,
                *(["break-even calls"] if timed else []),
            ):
                table.add_column(
                    heading, justify="left" if heading in ("compared", "conditions") else "right"
                )
            for reading in shown:
                band = next(line for line in readings if reading in line)[reading].band
                table.add_column(f"as {reading.replace('_', ' ')} ({band_words(band)})")
            for line in readings:
                row = next(iter(line.values()))
                failed = f" + {row.failed} failed" if row.failed else ""
                verdicts = [line[reading].verdict if reading in line else "" for reading in shown]
                table.add_row(
                    escape(f"{row.candidate} over {row.baseline}"),
                    escape(_conditions(row)),
                    f"{row.cases}{failed}",
                    escape(_speedup(row)) if row.cases else "–",
                    *([_calls(row.break_even_calls)] if timed else []),
                    *(f"[{colours[v]}]{v}[/]" if v in colours else v for v in verdicts),
                )
            console.print(table)
            for problem in dict.fromkeys(
                p for line in readings for row in line.values() for p in row.problems
            ):
                console.print(problem, style="dim", markup=False, highlight=False)
    return capture.get()


def _claim_from_toml(entry: Any) -> Claim:
    """Raises ValueError saying what is wrong with one [[claim]] table."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "id": str, "text": str, "source": str, "note": str,
        "low": (int, float), "high": (int, float), "typical": bool, "comparisons": list, "readings": list,
        "metrics": list, "estimates": list,
    }  # fmt: skip
    if not isinstance(entry, dict):
        raise ValueError("expected a table")
    if unknown := set(entry) - set(kinds):
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}; known: {', '.join(kinds)}")
    if absent := set(kinds) - set(entry) - {"readings", "note", "metrics", "estimates"}:
        raise ValueError(f"missing key {', '.join(sorted(absent))}")
    for key, value in entry.items():
        if not isinstance(value, kinds[key]) or (isinstance(value, bool) and key != "typical"):
            raise ValueError(f"{key} has the wrong type")
    metrics, estimates = tuple(entry.get("metrics", ())), tuple(entry.get("estimates", ()))
    if not all(metric in reductions.METRICS for metric in metrics):
        raise ValueError(f"metrics must be some of {', '.join(reductions.METRICS)}; leave them out for time")
    if not all(isinstance(name, str) for name in estimates):
        raise ValueError("estimates must be names of implementations")
    if metrics and "readings" in entry:
        raise ValueError("a claim with metrics has no readings: less is less")
    if estimates and not metrics:
        raise ValueError("the TPU compiler's estimates are of kernels and memory: set metrics")
    given = tuple(entry.get("readings", READINGS))
    if not given or not all(reading in READINGS for reading in given):
        raise ValueError(f"readings must be some of {', '.join(READINGS)}")
    readings = (REDUCTION,) if metrics else given
    low, high = float(entry["low"]), float(entry["high"])
    if not 0 <= low < high < math.inf:
        raise ValueError("low and high are fractions with 0 <= low < high, 0.30 for 30 %")
    if high >= 1 and "time_reduction" in readings:
        raise ValueError('no time falls by 100 %: set readings = ["throughput"] or a high below 1')
    if high > 1 and metrics:
        raise ValueError("nothing falls by more than 100 %: set a high of at most 1")
    pairs = entry["comparisons"]
    keys = {"baseline", "candidate"}
    if not pairs or not all(
        isinstance(pair, dict) and set(pair) == keys and all(isinstance(name, str) for name in pair.values())
        for pair in pairs
    ):
        raise ValueError("comparisons need a baseline and a candidate each, and nothing else")
    return Claim(
        id=entry["id"],
        text=entry["text"],
        source=entry["source"],
        note=entry.get("note", ""),
        low=low,
        high=high,
        typical=entry["typical"],
        comparisons=tuple((pair["baseline"], pair["candidate"]) for pair in pairs),
        readings=readings,
        metrics=metrics,
        estimates=estimates,
    )


_Slice = tuple[str, str, str | None, str | None]  # metric, cache, pass, dtype


def _rows(run: Run, claim: Claim) -> Iterator[ClaimRow]:
    for baseline, candidate in claim.comparisons:
        slices = _cases(run, baseline, candidate)
        for metric, cache, pass_ in dict.fromkeys(key[:3] for key in slices):
            by_dtype = {key[3]: cases for key, cases in slices.items() if key[:3] == (metric, cache, pass_)}
            if len(by_dtype) > 1:
                by_dtype["all"] = [case for cases in by_dtype.values() for case in cases]
            for dtype, cases in by_dtype.items():
                where = {
                    "claim": claim.id, "text": claim.text, "run": run.source,
                    "baseline": baseline, "candidate": candidate,
                    "metric": metric, "cache": cache, "pass_": pass_, "dtype": dtype,
                    "device": _device(run),
                }  # fmt: skip
                yield from _judge(claim, cases, where)


def _device(run: Run) -> str | None:
    return next((benchmark.device for benchmark in run.benchmarks), None)


def _reductions(run: Run, claim: Claim) -> Iterator[ClaimRow]:
    for baseline, candidate in claim.comparisons:
        for metric in claim.metrics:
            cases = reductions.measured(run, baseline, candidate, metric)
            where = {"run": run.source, "baseline": baseline, "candidate": candidate, "device": _device(run)}
            yield from _reduction_rows(claim, metric, cases, where)


def _estimates(estimates: Estimates, claim: Claim) -> Iterator[ClaimRow]:
    for target in estimates.targets:
        for name in claim.estimates:
            for metric in claim.metrics:
                cases = reductions.estimated(estimates, target, name, metric)
                where = {
                    "run": estimates.source, "baseline": f"{name} without fusion", "candidate": name,
                    "device": target, "estimate": True,
                }  # fmt: skip
                yield from _reduction_rows(claim, metric, cases, where)


def _reduction_rows(
    claim: Claim, metric: str, cases: Sequence[Reduction], where: Mapping[str, Any]
) -> Iterator[ClaimRow]:
    """A row for each cache regime, pass and dtype, and one for all dtypes where there are several."""
    slices: dict[tuple[str, str | None], dict[str | None, list[Reduction]]] = {}
    for case in cases:
        cache, pass_, dtype = case.slice
        slices.setdefault((cache, pass_), {}).setdefault(dtype, []).append(case)
    for (cache, pass_), by_dtype in slices.items():
        if len(by_dtype) > 1:
            by_dtype["all"] = [case for some in by_dtype.values() for case in some]
        for dtype, some in by_dtype.items():
            here = {**where, "metric": metric, "cache": cache, "pass_": pass_, "dtype": dtype}
            yield _judge_reduction(claim, some, here)


def _judge_reduction(claim: Claim, cases: Sequence[Reduction], where: Mapping[str, Any]) -> ClaimRow:
    ratios = [case.ratio for case in cases if case.ratio is not None]
    operators = [case.operator for case in cases if case.ratio is not None]
    mean = statistics.geometric_mean_of_counts(ratios, operators) if ratios else None
    failed = sum(case.failed for case in cases)
    low, high = claim.band(REDUCTION)
    counted = len(ratios) + failed
    inside = sum(low < ratio <= high for ratio in ratios)
    share_lower = statistics.wilson_lower(inside, counted)
    if len(ratios) < MIN_CASES or mean is None:
        verdict = "insufficient"
    elif mean.ci95[1] <= low:
        verdict = "refuted-low"
    elif mean.ci95[0] > high:
        verdict = "refuted-high"
    elif low < mean.ci90[0] and mean.ci90[1] <= high:
        verdict = "mean-only" if claim.typical and share_lower < 0.5 else "supported"
    else:
        verdict = "inconclusive"
    unknown = (0.0, math.inf)
    return ClaimRow(
        **where,
        claim=claim.id,
        text=claim.text,
        reading=REDUCTION,
        cases=len(ratios),
        blocks=1,
        failed=failed,
        missing=len(cases) - len(ratios) - failed,
        problems=tuple(case.problem for case in cases if case.problem is not None),
        band=(low, high),
        geomean=mean.value if mean else math.nan,
        ci95=mean.ci95 if mean else unknown,
        ci90=mean.ci90 if mean else unknown,
        ci95_cases=mean.ci95 if mean else unknown,
        share_in_band=inside / counted if counted else math.nan,
        share_lower=share_lower,
        break_even_calls=math.nan,
        verdict=verdict,
    )


def _judge(claim: Claim, cases: Sequence[_Case], where: Mapping[str, Any]) -> Iterator[ClaimRow]:
    """One row per reading."""
    compared = [case.comparison for case in cases if case.comparison is not None]
    ratios = [list(statistics.block_log_ratios(*comparison).values()) for comparison in compared]
    speedups = [math.exp(sum(blocks) / len(blocks)) for blocks in ratios]
    # Typical blocks per case: one case that lost a block does not spoil the others, nor make up for them.
    blocks = int(np.median([len(values) for values in ratios])) if ratios else 0
    mean = statistics.geometric_mean(compared) if compared else None
    break_even = [statistics.break_even_calls(*comparison) for comparison in compared]
    failed = sum(case.failed for case in cases)
    facts: dict[str, Any] = {
        "cases": len(compared),
        "blocks": blocks,
        "failed": failed,
        "missing": len(cases) - len(compared) - failed,
        "problems": tuple(case.problem for case in cases if case.problem is not None),
        "geomean": mean.value if mean else math.nan,
        "ci95": mean.ci95 if mean else (0.0, math.inf),
        "ci90": mean.ci90 if mean else (0.0, math.inf),
        "ci95_cases": statistics.geometric_mean_over_cases(compared) if compared else (0.0, math.inf),
        "break_even_calls": _median([estimate.value for estimate in break_even if estimate is not None]),
    }
    for reading in claim.readings:
        low, high = claim.band(reading)
        counted = len(compared) + failed
        inside = sum(low <= value <= high for value in speedups)
        share_lower = statistics.wilson_lower(inside, counted)
        if blocks < MIN_BLOCKS or len(compared) < MIN_CASES or mean is None:
            verdict = "insufficient"
        elif mean.ci95[1] < low:
            verdict = "refuted-low"
        elif mean.ci95[0] > high:
            verdict = "refuted-high"
        elif low <= mean.ci90[0] and mean.ci90[1] <= high:
            verdict = "mean-only" if claim.typical and share_lower < 0.5 else "supported"
        else:
            verdict = "inconclusive"
        yield ClaimRow(
            **where,
            **facts,
            reading=reading,
            band=(low, high),
            share_in_band=inside / counted if counted else math.nan,
            share_lower=share_lower,
            verdict=verdict,
        )


def _cases(run: Run, baseline: str, candidate: str) -> dict[_Slice, list[_Case]]:
    """Every case that either implementation was planned for, by slice."""
    pair = (baseline, candidate)
    found: dict[tuple[_Slice, str], dict[str, Benchmark]] = {}
    for benchmark in run.benchmarks:
        if benchmark.implementation in pair:
            key = (benchmark.metric, benchmark.cache, benchmark.pass_, benchmark.dtype)
            found.setdefault((key, benchmark.group), {})[benchmark.implementation] = benchmark
    metrics = dict.fromkeys(benchmark.metric for benchmark in run.benchmarks) or {"wall": None}
    failures: dict[str, list[Failure]] = {}
    for failure in run.failures:
        if failure.implementation in pair:
            failures.setdefault(failure.group, []).append(failure)
            cache, pass_, dtype = reductions.slice_of(failure.group)
            for metric in metrics:
                found.setdefault(((metric, cache, pass_, dtype), failure.group), {})
    slices: dict[_Slice, list[_Case]] = {}
    for (key, group), measured in found.items():
        slices.setdefault(key, []).append(_case(group, pair, measured, failures.get(group, ())))
    return slices


def _case(
    group: str, pair: tuple[str, str], measured: Mapping[str, Benchmark], failures: Sequence[Failure]
) -> _Case:
    """A leg lost while measuring leaves the rest of the samples usable; a wrong result never does."""
    both = (measured[pair[0]], measured[pair[1]]) if len(measured) == 2 else None
    comparable = both is not None and bool(statistics.block_log_ratios(*both))
    errors = [failure for failure in failures if failure.kind == "error"]
    if comparable and all(failure.stage == "measure" for failure in errors):
        return _Case(comparison=both)
    reasons = [f"{failure.implementation}: {failure.message}" for failure in errors or failures]
    unmeasured = [f"{name}: not measured" for name in pair if name not in measured] or ["no block in common"]
    return _Case(failed=bool(errors), problem=f"{group}: {'; '.join(reasons or unmeasured)}")


def _median(values: Sequence[float]) -> float:
    """The lower median: between a finite and an infinite break-even point there is no mean."""
    return sorted(values)[(len(values) - 1) // 2] if values else math.nan


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _conditions(row: ClaimRow) -> str:
    dtype = "all dtypes" if row.dtype == "all" else row.dtype or "dtype unknown"
    cold = ", cold cache" if row.cache == "cold" else ""
    metric = {"kernels": "kernels per call", "peak_memory": "peak memory"}.get(
        row.metric, f"{row.metric} time"
    )
    estimated = f", {row.device}, estimated by the compiler" if row.estimate else ""
    return f"{row.pass_ or 'pass unknown'}, {dtype}, {metric}{cold}{estimated}"


def _speedup(row: ClaimRow) -> str:
    low, high = row.ci95
    return f"{row.geomean:.3f}× [{low:.3f}–{high:.3f}]"  # digits enough to tell 1.299 from a band's 1.30


def _calls(calls: float) -> str:
    if math.isnan(calls):
        return "–"
    return "never" if math.isinf(calls) else f"{calls:,.0f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
