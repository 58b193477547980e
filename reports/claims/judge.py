"""Verdicts: what runs and estimates say of each claim, with the interval that the verdict rests on.

Each comparison of a claim is judged per metric, cache regime, pass and dtype, and once over all dtypes where
a run has several. Verdicts, on the geometric mean of the speedup (intervals cover the measurement only):

supported     the 95 % interval lies inside the claimed band
mean-only     the same, but the claim says "typically" and the 95 % Wilson lower bound of the share of cases
              inside the band, by workloads, is under one half
refuted-low   the 95 % interval lies wholly below the band
refuted-high  the 95 % interval lies wholly above the band
inconclusive  none of these
insufficient  fewer than 5 blocks or 5 measured cases
undecidable   this run or this machine cannot decide the claim, and the row says why: another device, no case
              of its population, an implementation that was not measured, a quantity that no run records

An implementation that was wrong, crashed or hung has no speedup: it is listed, and counts as a case outside
the band. One that was skipped is listed and counted too. Where a claim is about one line (`one_line`), so
does a case whose graph broke or that was compiled again: its speedup is in the mean, not in the share.

A claim about kernels or peak memory (`metrics` in claims.toml) is judged by one ratio for each case. Such
figures do not vary from block to block, so 5 cases suffice, and both intervals of the geometric mean have the
cases resampled, by operator: they say how far the mean depends on which cases were chosen. A mean of exactly
1 is not a reduction: refuted-low. Estimates of the TPU compiler, given beside the runs, have separate
rows, marked as estimates. A claim about coverage is judged by the share of cases with a right result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuseproof.cases import parse_group
from fuseproof.reports.claims import coverage, population, reductions, rule
from fuseproof.reports.claims.load import (
    FIRST_RESULT,
    NOT_RECORDED,
    QUANTITY_OF,
    REDUCTION,
    Claim,
    load_claims,
)
from fuseproof.reports.claims.reductions import Estimates, Reduction
from fuseproof.reports.claims.row import ClaimRow
from fuseproof.reports.claims.rule import MIN_BLOCKS, MIN_CASES, UNDECIDABLE
from fuseproof.runs import records, statistics
from fuseproof.runs.records import Benchmark, Failure, Run

_Slice = tuple[str, str, str | None, str | None]  # metric, cache, pass, dtype
_UNKNOWN = (0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One case of a comparison: compared, or the reason why not."""

    group: str
    comparison: statistics.Comparison | None = None
    failed: bool = False
    problem: str | None = None

    @property
    def family(self) -> str:
        if self.comparison is not None and self.comparison[0].operator:
            return self.comparison[0].operator
        parts = parse_group(self.group)
        return parts.operator if parts else self.group


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
    spoken_of = _in_time_of(claim, spoken_of)
    reasons = {pair: _why_not(spoken_of, pair, claim) for pair in claim.comparisons}
    planned = [pair for pair, why in reasons.items() if why is None or why.planned]
    for pair in planned or claim.comparisons[:1]:
        here = {**where, "baseline": pair[0], "candidate": pair[1]}
        if (why := reasons[pair]) is not None:
            yield from _undecided(claim, pair, why.reason, where)
        elif claim.is_coverage:
            yield from coverage.rows(spoken_of, claim, pair, here)
        elif claim.metrics:
            for metric in claim.metrics:
                cases = reductions.measured(spoken_of, *pair, metric)
                yield from _reduction_rows(claim, metric, cases, here)
        else:
            yield from _timed(spoken_of, claim, pair, here)


def _in_time_of(claim: Claim, run: Run) -> Run:
    """The run with the times that a claim is about: to the first result, or of a call."""
    of_claim = records.first_results if claim.quantity == FIRST_RESULT else records.without_first_results
    return of_claim(run)


def _why_not(run: Run, pair: tuple[str, str], claim: Claim) -> _Undecided | None:
    """Why the pair was compared nowhere in the run, without anybody's failure; None if it may have been."""
    if claim.quantity == FIRST_RESULT and not run.benchmarks and not run.failures:
        return _Undecided(
            reason="no time to a first result was measured; add --first-result to the run", planned=False
        )
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
    for reading in claim.readings:
        yield ClaimRow(
            **where,
            **claim.named,
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
            ci95=_UNKNOWN,
            ci90=_UNKNOWN,
            ci95_cases=_UNKNOWN,
            share_in_band=math.nan,
            share_lower=0.0,
            break_even_calls=math.nan,
            verdict=UNDECIDABLE,
            of_all_cases=UNDECIDABLE,
            quantity=claim.quantity,
            undecidable=reason + remark,
        )


def _timed(run: Run, claim: Claim, pair: tuple[str, str], where: Mapping[str, Any]) -> Iterator[ClaimRow]:
    slices = _cases(run, *pair)
    for metric, cache, pass_ in dict.fromkeys(key[:3] for key in slices):
        by_dtype = {key[3]: cases for key, cases in slices.items() if key[:3] == (metric, cache, pass_)}
        if len(by_dtype) > 1:
            by_dtype["all"] = [case for cases in by_dtype.values() for case in cases]
        for dtype, cases in by_dtype.items():
            here = {**where, "metric": metric, "cache": cache, "pass_": pass_, "dtype": dtype}
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
    for (cache, pass_, dtype), some in reductions.by_slice(cases).items():
        here = {**where, "metric": metric, "cache": cache, "pass_": pass_, "dtype": dtype}
        yield _judge_reduction(claim, some, here)


def _judge_reduction(claim: Claim, cases: Sequence[Reduction], where: Mapping[str, Any]) -> ClaimRow:
    measured = [(case.group, case.ratio) for case in cases if case.ratio is not None]
    ratios = [ratio for _, ratio in measured]
    operators = [case.operator for case in cases if case.ratio is not None]
    mean = statistics.geometric_mean_of_counts(ratios, operators) if ratios else None
    low, high = claim.band(REDUCTION)
    counted = [case for case in cases if case.ratio is not None or case.failed]
    hits = [case.ratio is not None and low < case.ratio <= high for case in counted]
    share = rule.typical_share(hits, [case.operator for case in counted])
    if len(ratios) < MIN_CASES or mean is None:
        verdict = "insufficient"
    else:
        of_mean = rule.of_mean(mean.ci95, (low, high), is_count=True)
        verdict = rule.verdict(of_mean, typical=claim.typical, share=share)
    failed = len(counted) - len(ratios)
    return ClaimRow(
        **where,
        **claim.named,
        **_counts(measured, inside=sum(hits), above=sum(ratio > high for ratio in ratios)),
        quantity=QUANTITY_OF[where["metric"]],
        reading=REDUCTION,
        cases=len(ratios),
        blocks=1,
        failed=failed,
        missing=len(cases) - len(counted),
        problems=tuple(case.problem for case in cases if case.problem is not None),
        band=(low, high),
        geomean=mean.value if mean else math.nan,
        ci95=mean.ci95 if mean else _UNKNOWN,
        ci90=mean.ci90 if mean else _UNKNOWN,
        ci95_cases=mean.ci95 if mean else _UNKNOWN,
        share_in_band=share.count / share.of if share.of else math.nan,
        share_lower=share.low,
        break_even_calls=math.nan,
        verdict=verdict,
        of_all_cases=verdict,
    )


def _judge(claim: Claim, cases: Sequence[_Case], where: Mapping[str, Any]) -> Iterator[ClaimRow]:
    """One row per reading."""
    compared = [case.comparison for case in cases if case.comparison is not None]
    ratios = [list(statistics.block_log_ratios(*comparison).values()) for comparison in compared]
    # Typical blocks per case: one case that lost a block does not spoil the others, nor make up for them.
    blocks = int(np.median([len(values) for values in ratios])) if ratios else 0
    mean = statistics.geometric_mean(compared) if compared else None
    over_cases = statistics.geometric_mean_over_cases(compared) if compared else _UNKNOWN
    break_even = [statistics.break_even_calls(*comparison) for comparison in compared]
    counted = [case for case in cases if case.comparison is not None or case.failed]
    families = [case.family for case in counted]
    speedups = {
        comparison[0].group: math.exp(sum(values) / len(values))
        for comparison, values in zip(compared, ratios, strict=True)
    }
    broke = tuple(b.group for _, b in compared if b.graph_breaks) if claim.one_line else ()
    recompiled = tuple(b.group for _, b in compared if b.recompiles) if claim.one_line else ()
    facts: dict[str, Any] = {
        **claim.named,
        "quantity": claim.quantity,
        "cases": len(compared),
        "blocks": blocks,
        "failed": len(counted) - len(compared),
        "missing": len(cases) - len(counted),
        "problems": tuple(case.problem for case in cases if case.problem is not None),
        "broke": broke,
        "recompiled": recompiled,
        "geomean": mean.value if mean else math.nan,
        "ci95": mean.ci95 if mean else _UNKNOWN,
        "ci90": mean.ci90 if mean else _UNKNOWN,
        "ci95_cases": over_cases,
        "break_even_calls": _median([estimate.value for estimate in break_even if estimate is not None]),
    }
    for reading in claim.readings:
        low, high = band = claim.band(reading)
        in_band = {group for group, value in speedups.items() if low <= value <= high}
        showing = in_band - {*broke} - {*recompiled}
        share = rule.typical_share([case.group in showing for case in counted], families)
        if blocks < MIN_BLOCKS or len(compared) < MIN_CASES or mean is None:
            verdict = of_all = "insufficient"
        else:
            verdict, of_all = (
                rule.verdict(rule.of_mean(interval, band), typical=claim.typical, share=share)
                for interval in (mean.ci95, over_cases)
            )
        above = sum(value > high for value in speedups.values())
        yield ClaimRow(
            **where,
            **facts,
            **_counts([*speedups.items()], inside=len(showing), above=above, aside=len(in_band - showing)),
            reading=reading,
            band=band,
            share_in_band=share.count / share.of if share.of else math.nan,
            share_lower=share.low,
            verdict=verdict,
            of_all_cases=of_all,
        )


def _counts(
    measured: Sequence[tuple[str, float]], *, inside: int, above: int, aside: int = 0
) -> dict[str, Any]:
    """Where the measured cases, (case, ratio), lie; the rest is below the band."""
    return {
        "inside": inside,
        "above": above,
        "below": len(measured) - inside - above - aside,
        "set_aside": aside,
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
    if comparable and not any(failure.spoils for failure in errors):
        return _Case(group=group, comparison=both)
    reasons = [f"{failure.implementation}: {failure.message}" for failure in errors or failures]
    unmeasured = [f"{name}: not measured" for name in pair if name not in measured] or ["no block in common"]
    return _Case(group=group, failed=bool(errors), problem=f"{group}: {'; '.join(reasons or unmeasured)}")


def _median(values: Sequence[float]) -> float:
    """The lower median: between a finite and an infinite break-even point there is no mean."""
    return sorted(values)[(len(values) - 1) // 2] if values else math.nan
