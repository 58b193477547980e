"""Verdicts: what runs and estimates say of each claim, with the interval that the verdict rests on.

Each comparison of a claim is judged per metric, cache regime, pass and dtype, and once over all dtypes where
a run has several. Verdicts, on the geometric mean of the speedup (intervals cover the measurement only):

supported     the 90 % interval lies inside the claimed band
mean-only     the same, but the claim says "typically" and the 95 % Wilson lower bound of the share of cases
              inside the band is under one half
refuted-low   the 95 % interval lies wholly below the band
refuted-high  the 95 % interval lies wholly above the band
inconclusive  none of these
insufficient  fewer than 5 blocks or 5 measured cases
undecidable   this run or this machine cannot decide the claim, and the row says why: another device, no case
              of its population, an implementation that was not measured, a quantity that no run records

An implementation that was wrong, crashed or hung has no speedup: it is listed, and counts as a case outside
the band. One that was skipped is listed and counted too.

A claim about kernels or peak memory (`metrics` in claims.toml) is judged by one ratio for each case. Such
figures do not vary from block to block, so 5 cases suffice, and both intervals of the geometric mean have the
cases resampled, by operator: they say how far the mean depends on which cases were chosen. A mean of exactly
1 is not a reduction: refuted-low. Estimates of the TPU compiler, given beside the runs, have separate
rows, marked as estimates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuseproof.reports.claims import population, reductions, sentence
from fuseproof.reports.claims.load import NOT_RECORDED, QUANTITY_OF, REDUCTION, Claim, load_claims
from fuseproof.reports.claims.reductions import Estimates, Reduction
from fuseproof.runs import statistics
from fuseproof.runs.records import Benchmark, Failure, Run

UNDECIDABLE = "undecidable"
VERDICTS = (
    "supported", "mean-only", "refuted-low", "refuted-high", "inconclusive", "insufficient", UNDECIDABLE,
)  # fmt: skip
MIN_BLOCKS = 5
MIN_CASES = 5
_Slice = tuple[str, str, str | None, str | None]  # metric, cache, pass, dtype


@dataclass(frozen=True, kw_only=True)
class ClaimRow:
    """The verdict on one reading of a claim, for one comparison in one slice of one run.

    `geomean` is the speedup over `cases` measured cases, NaN if there is none; `ci95_cases` its interval with
    cases resampled. `failed` counts wrong or crashed cases, `missing` those skipped or not measured on both
    sides; `problems` says why. `share_in_band` is over measured and failed cases, `share_lower` its Wilson
    bound. `break_even_calls` is the median over cases with a known compile time: inf if most never pay, NaN
    if none is known.

    Where `metric` is `kernels` or `peak_memory`, `geomean` is the factor of the reduction;
    `blocks` is 1, and `ci95` and `ci95_cases` are the same. `estimate`: the compiler estimated it and nothing
    was measured; `device` is then the target, and `run` the file.

    `inside`, `above` and `below` count measured cases against the band; of those below, `slower` lost.
    `worst` and `best` are (case, ratio), None without a measured case. `population` is what the claim speaks
    of, in words, empty if everything. `undecidable` is the reason where the verdict is that.
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
    quantity: str = "speedup"
    population: str = ""
    inside: int = 0
    above: int = 0
    below: int = 0
    slower: int = 0
    worst: tuple[str, float] | None = None
    best: tuple[str, float] | None = None
    undecidable: str | None = None

    @property
    def sentence(self) -> str:
        """The counts in plain words."""
        return sentence.of(self)

    def to_json(self) -> dict[str, Any]:
        """A row of `fuseproof claims --json`; what is unbounded or unknown is null."""
        row = {key.rstrip("_"): _jsonable(value) for key, value in vars(self).items()}
        for extreme in ("worst", "best"):
            if (case := getattr(self, extreme)) is not None:
                row[extreme] = {"case": case[0], "ratio": case[1]}
        return {**row, "sentence": self.sentence}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One case of a comparison: compared, or the reason why not."""

    comparison: statistics.Comparison | None = None
    failed: bool = False
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Undecided:
    """Why a pair was not compared; `planned`: both sides were to be measured."""

    reason: str
    planned: bool


def evaluate(
    runs: Sequence[Run], path: Path | None = None, *, estimates: Sequence[Estimates] = ()
) -> list[ClaimRow]:
    """All verdicts of the claims in `path` (default: Fuseproof's own) on each run and file of estimates.

    A claim that a run cannot decide gives no row; `matrix` has one.
    """
    rows = matrix(runs, path, estimates=estimates)
    return [row for row in rows if row.verdict != UNDECIDABLE]


def matrix(
    runs: Sequence[Run], path: Path | None = None, *, estimates: Sequence[Estimates] = ()
) -> list[ClaimRow]:
    """As `evaluate`, and a row with the reason for each claim, or comparison, that a run cannot decide.

    Every claim has a row for every run. Of files of estimates only those have one that estimates are about.
    """
    claims = load_claims(path)
    rows = [row for run in runs for claim in claims for row in _on_run(run, claim)]
    return rows + [row for each in estimates for claim in claims for row in _estimates(each, claim)]


def _on_run(run: Run, claim: Claim) -> Iterator[ClaimRow]:
    """Each comparison that was planned; if none was, one row that says so."""
    spoken_of = claim.population.of(run)
    where = {"run": run.label, "device": population.device_of(run)}
    reason = NOT_RECORDED.get(claim.quantity) or (spoken_of if isinstance(spoken_of, str) else None)
    if reason is not None or isinstance(spoken_of, str):
        yield from _undecided(claim, claim.comparisons[0], str(reason), where)
        return
    reasons = {pair: _why_not(spoken_of, pair) for pair in claim.comparisons}
    planned = [pair for pair, why in reasons.items() if why is None or why.planned]
    for pair in planned or claim.comparisons[:1]:
        if (why := reasons[pair]) is not None:
            yield from _undecided(claim, pair, why.reason, where)
        elif claim.metrics:
            for metric in claim.metrics:
                cases = reductions.measured(spoken_of, *pair, metric)
                here = {**where, "baseline": pair[0], "candidate": pair[1]}
                yield from _reduction_rows(claim, metric, cases, here)
        else:
            yield from _timed(spoken_of, claim, pair, where)


def _why_not(run: Run, pair: tuple[str, str]) -> _Undecided | None:
    """Why the pair was compared nowhere in the run, without anybody's failure; None if it may have been."""
    for name in pair:
        if any(each.implementation == name for each in run.benchmarks):
            continue
        messages = [each for each in run.failures if each.implementation == name]
        if not messages:
            return _Undecided(reason=f"{name} is not in this run", planned=False)
        if all(each.kind == "skipped" for each in messages):
            return _Undecided(reason=f"{name} was skipped: {messages[0].message}", planned=True)
    return None


def _undecided(
    claim: Claim, pair: tuple[str, str], reason: str, where: Mapping[str, Any]
) -> Iterator[ClaimRow]:
    """A row for each reading, with the reason and no figure."""
    remark = f" ({claim.undecidable})" if claim.undecidable else ""
    unknown = (0.0, math.inf)
    for reading in claim.readings:
        yield ClaimRow(
            **where,
            **_of_claim(claim),
            reading=reading,
            metric=claim.metrics[0] if claim.metrics else "wall",
            cache="warm",
            pass_=None,
            dtype=None,
            baseline=pair[0],
            candidate=pair[1],
            cases=0,
            blocks=0,
            failed=0,
            missing=0,
            problems=(),
            band=claim.band(reading),
            geomean=math.nan,
            ci95=unknown,
            ci90=unknown,
            ci95_cases=unknown,
            share_in_band=math.nan,
            share_lower=0.0,
            break_even_calls=math.nan,
            verdict=UNDECIDABLE,
            quantity=claim.quantity,
            undecidable=reason + remark,
        )


def _of_claim(claim: Claim) -> dict[str, Any]:
    return {"claim": claim.id, "text": claim.text, "population": str(claim.population)}


def _timed(run: Run, claim: Claim, pair: tuple[str, str], where: Mapping[str, Any]) -> Iterator[ClaimRow]:
    baseline, candidate = pair
    slices = _cases(run, baseline, candidate)
    for metric, cache, pass_ in dict.fromkeys(key[:3] for key in slices):
        by_dtype = {key[3]: cases for key, cases in slices.items() if key[:3] == (metric, cache, pass_)}
        if len(by_dtype) > 1:
            by_dtype["all"] = [case for cases in by_dtype.values() for case in cases]
        for dtype, cases in by_dtype.items():
            here = {
                **where, "baseline": baseline, "candidate": candidate,
                "metric": metric, "cache": cache, "pass_": pass_, "dtype": dtype,
            }  # fmt: skip
            yield from _judge(claim, cases, here)


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
    measured = [(case.group, case.ratio) for case in cases if case.ratio is not None]
    ratios = [ratio for _, ratio in measured]
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
        **_of_claim(claim),
        **_counts(measured, inside=inside, above=sum(ratio > high for ratio in ratios)),
        quantity=QUANTITY_OF[where["metric"]],
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
        **_of_claim(claim),
        "quantity": claim.quantity,
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
    named = [(comparison[0].group, value) for comparison, value in zip(compared, speedups, strict=True)]
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
            **_counts(named, inside=inside, above=sum(value > high for value in speedups)),
            reading=reading,
            band=(low, high),
            share_in_band=inside / counted if counted else math.nan,
            share_lower=share_lower,
            verdict=verdict,
        )


def _counts(measured: Sequence[tuple[str, float]], *, inside: int, above: int) -> dict[str, Any]:
    """Where the measured cases, (case, ratio), lie; the rest is below the band."""
    return {
        "inside": inside,
        "above": above,
        "below": len(measured) - inside - above,
        "slower": sum(ratio < 1 for _, ratio in measured),
        "worst": min(measured, key=lambda case: case[1], default=None),
        "best": max(measured, key=lambda case: case[1], default=None),
    }


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
