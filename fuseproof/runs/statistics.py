"""Statistics of a run: speedups, means over a suite and break-even points, each with its interval.

The unit of replication is the block (fresh processes), never the round: on simulated A/A data with 1 %
between-process noise a bootstrap over the rounds of one process raises 33 % false alarms, a t interval over
five block values 2.7 %. Everything is computed on ln(seconds), so ratios are symmetric and unit-free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fuseproof.runs.records import Benchmark

LOW_QUANTILE = 0.10  # the low end of a short leg is far steadier than its median on a shared machine
RESAMPLES = 1000
SEED = 20_251_107  # fixed: the same run file must give the same report

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Comparison = tuple[Benchmark, Benchmark]  # baseline, candidate


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its intervals over blocks; the unit is that of the function which returns it.

    One block has no spread: the intervals are (0, inf) then. `bootstrap95` is the hierarchical bootstrap
    (blocks, then palindromes within blocks), a cross-check of `ci95`: over few blocks it is too narrow, but
    should lead to the same conclusion. None where it is not computed.
    """

    value: float
    ci95: tuple[float, float]
    ci90: tuple[float, float]
    blocks: int
    bootstrap95: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class LegTimes:
    """Columns, one entry per leg, sorted by block and leg; `log_seconds` is ln(seconds per call)."""

    block: Integers
    leg: Integers
    log_seconds: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedLegs:
    """Columns, one entry per leg that both sides have, sorted by block and leg.

    Half a palindrome does not cancel drift: it is here only in blocks (of stock files) without a whole one.
    `baseline`, `candidate`: ln(seconds per call).
    """

    block: Integers
    palindrome: Integers
    baseline: Floats
    candidate: Floats


def log_leg_times(benchmark: Benchmark, quantile: float = LOW_QUANTILE) -> LegTimes:
    """ln of every leg's time: a quantile of its rounds (linear between the order statistics)."""
    order, new_leg, rounds = _legs(benchmark)
    log_seconds = np.log(benchmark.seconds[order])
    position = quantile * (rounds - 1)
    below = new_leg + position.astype(np.int64)
    above = np.minimum(below + 1, new_leg + rounds - 1)
    times = log_seconds[below] + (position % 1) * (log_seconds[above] - log_seconds[below])
    first = order[new_leg]
    return LegTimes(block=benchmark.block[first], leg=benchmark.leg[first], log_seconds=times)


def log_median_leg_times(benchmark: Benchmark) -> LegTimes:
    """ln of every leg's time: the median of its rounds."""
    return log_leg_times(benchmark, 0.5)


def log_mean_leg_times(benchmark: Benchmark) -> LegTimes:
    """ln of every leg's time: the mean of its rounds, in which every round counts."""
    order, new_leg, rounds = _legs(benchmark)
    sums = np.add.reduceat(benchmark.seconds[order], new_leg) if len(order) else np.empty(0)
    first = order[new_leg]
    return LegTimes(block=benchmark.block[first], leg=benchmark.leg[first], log_seconds=np.log(sums / rounds))


def block_log_seconds(benchmark: Benchmark) -> dict[int, float]:
    """Per block the median over its legs of ln(leg time), for comparing runs that were not interleaved."""
    legs = log_leg_times(benchmark)
    return {
        int(block): float(np.median(legs.log_seconds[legs.block == block])) for block in np.unique(legs.block)
    }


@lru_cache(maxsize=1024)  # a report asks for each pair a dozen times: alone, in means, in claims
def block_log_ratios(
    baseline: Benchmark, candidate: Benchmark, leg_times: Callable[[Benchmark], LegTimes] = log_leg_times
) -> dict[int, float]:
    """Per block ln(baseline time / candidate time), positive where the candidate is faster.

    The median over palindromes of the mean over their two mirrored legs, pairing by (block, leg); empty when
    the two share none. Raises ValueError if the two differ in case, metric or cache regime.
    """
    return {
        block: float(np.median(palindromes))
        for block, palindromes in palindrome_log_ratios(baseline, candidate, leg_times).items()
    }


def speedup(baseline: Benchmark, candidate: Benchmark) -> Estimate:
    """How many times faster `candidate` is: exp(mean over blocks of the log ratios), t interval over blocks.

    Raises ValueError if the two differ in case, metric or cache regime, or share no block.
    """
    palindromes = list(palindrome_log_ratios(baseline, candidate).values())
    if not palindromes:
        raise ValueError(f"{baseline.name} and {candidate.name} have no block in common")
    values = np.array([np.median(block) for block in palindromes])
    return ratio_estimate(values, bootstrap95=_hierarchical_bootstrap(palindromes))


def geometric_mean(comparisons: Sequence[Comparison]) -> Estimate:
    """Geometric mean of the speedups of these very cases; the interval covers the measurement only.

    The cases of one block share the state of the machine, so the block's mean over cases is the replicate.
    Each case's own level is taken out first: where a slow case lost a block, that block must not look fast.
    Raises ValueError without any comparison, or if one cannot be made.
    """
    return mean_of_ratios(_ratio_matrix(comparisons))


def geometric_mean_over_cases(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """95 % interval of the geometric mean for cases like these: operators, their cases and blocks resampled.

    Bootstrap in two stages, because cases of one operator resemble each other. Of few operators the plain
    percentile interval is too narrow (docs/explanation/statistics-simulated.md), so it is expanded.
    With one case or one block the interval is (0, inf). Raises ValueError as `geometric_mean` does.
    """
    return interval_over_cases(
        _ratio_matrix(comparisons), [baseline.operator or baseline.group for baseline, _ in comparisons]
    )


def mean_of_ratios(ratios: Floats) -> Estimate:
    """As `geometric_mean`; ratios: ln(speedup), cases × blocks, NaN where a case lacks a block."""
    levels, effects = _levels_and_effects(ratios)
    return ratio_estimate(levels.mean() + effects)


def interval_over_cases(ratios: Floats, families: Sequence[str]) -> tuple[float, float]:
    """As `geometric_mean_over_cases`; ratios: as in `mean_of_ratios`, families: one for each case."""
    cases, blocks = ratios.shape
    if cases < 2 or blocks < 2:
        return 0.0, math.inf
    levels, effects = _levels_and_effects(ratios)
    ratios = np.where(np.isnan(ratios), levels[:, None] + effects, ratios)
    rng = np.random.default_rng(SEED)
    case_weights = _resampled_cases(families, rng)
    block_weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES) / blocks
    means = ((case_weights @ ratios) * block_weights).sum(axis=1)
    drawn = len(set(families))
    return _percentiles(means, replicates=drawn if drawn > 1 else cases)


def geometric_mean_of_counts(ratios: Sequence[float], operators: Sequence[str]) -> Estimate:
    """Geometric mean of one ratio for each case, of figures that repeat exactly, such as numbers of kernels.

    Blocks do not differ in them, so the interval says how far the mean depends on which cases were chosen:
    operators and their cases are resampled, and the percentiles expanded, as in `geometric_mean_over_cases`.
    With one case it is (0, inf). Raises ValueError without any ratio.
    """
    if not ratios:
        raise ValueError("no ratios")
    logarithms = np.log(ratios)

    def within(mean: float) -> float:
        """Equal ratios stay equal: logarithms and weights are rounded."""
        return min(max(mean, min(ratios)), max(ratios))

    intervals = [(0.0, math.inf)] * 2
    if len(ratios) > 1:
        means = _resampled_cases(operators, np.random.default_rng(SEED)) @ logarithms
        drawn = len(set(operators))
        for index, level in enumerate((0.95, 0.90)):
            low, high = _percentiles(means, level, replicates=drawn if drawn > 1 else len(ratios))
            intervals[index] = (within(low), within(high))
    return Estimate(
        value=within(math.exp(logarithms.mean())),
        ci95=intervals[0],
        ci90=intervals[1],
        blocks=1,
        bootstrap95=None,
    )


def break_even_calls(eager: Benchmark, compiled: Benchmark) -> Estimate | None:
    """Calls after which compiling has paid for itself: compile_seconds / (t_eager - t_compiled).

    The time saved per call is averaged over blocks (paired, so that drift cancels) with a t interval; the
    compile time was measured once and enters without spread. `inf` where nothing is saved or the interval
    reaches that; None if the compile time is unknown. Raises ValueError as `speedup` does.
    """
    ratios = block_log_ratios(eager, compiled)
    if not ratios:
        raise ValueError(f"{eager.name} and {compiled.name} have no block in common")
    if compiled.compile_seconds is None:
        return None
    eager_seconds = block_log_seconds(eager)
    saved = np.array(
        [math.exp(eager_seconds[block]) * -math.expm1(-ratio) for block, ratio in ratios.items()]
    )
    seconds = compiled.compile_seconds

    def calls(saving: float) -> float:
        return seconds / saving if saving > 0 else math.inf

    low95, high95 = _t_interval(saved, 0.95)
    low90, high90 = _t_interval(saved, 0.90)
    return Estimate(
        value=calls(float(saved.mean())),
        ci95=(calls(high95), calls(low95)),
        ci90=(calls(high90), calls(low90)),
        blocks=len(saved),
        bootstrap95=None,
    )


def median_with_interval(benchmark: Benchmark) -> Estimate:
    """Seconds per call: geometric mean of the blocks' medians over rounds, t interval over blocks."""
    blocks = [benchmark.seconds[benchmark.block == block] for block in np.unique(benchmark.block)]
    return ratio_estimate(np.log([np.median(seconds) for seconds in blocks]))


def null_coverage(comparisons: Iterable[Comparison]) -> tuple[int, int]:
    """Of A/A comparisons: how many 95 % intervals contain 1, and how many comparisons have an interval."""
    estimates = [speedup(baseline, candidate) for baseline, candidate in comparisons]
    intervals = [estimate.ci95 for estimate in estimates if estimate.blocks > 1]
    return sum(low <= 1.0 <= high for low, high in intervals), len(intervals)


@lru_cache(maxsize=1024)
def palindrome_log_ratios(
    baseline: Benchmark, candidate: Benchmark, leg_times: Callable[[Benchmark], LegTimes] = log_leg_times
) -> dict[int, Floats]:
    """Per block the log ratios of the palindromes that both have; every speedup is computed from these.

    Raises ValueError if the two differ in case, metric or cache regime.
    """
    legs = shared_legs(baseline, candidate, leg_times)
    changes = (np.diff(legs.block) != 0) | (np.diff(legs.palindrome) != 0)
    first = np.flatnonzero(np.concatenate(([True], changes))[: len(legs.block)])
    counts = np.diff(first, append=len(legs.block))
    ratios = np.bincount(np.repeat(np.arange(len(first)), counts), legs.baseline - legs.candidate) / counts
    numbers, starts = np.unique(legs.block[first], return_index=True)
    return dict(zip(map(int, numbers), np.split(ratios, starts[1:]), strict=False))


def shared_legs(
    baseline: Benchmark, candidate: Benchmark, leg_times: Callable[[Benchmark], LegTimes] = log_leg_times
) -> SharedLegs:
    """The legs that both have, in pairs by (block, leg).

    Raises ValueError if the two differ in case, metric or cache regime.
    """
    for what in ("group", "metric", "cache"):
        one_has, other_has = getattr(baseline, what), getattr(candidate, what)
        if one_has != other_has:
            raise ValueError(
                f"cannot compare {baseline.name} with {candidate.name}: {what} {one_has!r} and {other_has!r}"
            )
    one, other = leg_times(baseline), leg_times(candidate)
    stride = 1 + max(one.leg.max(initial=0), other.leg.max(initial=0))
    _, here, there = np.intersect1d(
        one.block * stride + one.leg,
        other.block * stride + other.leg,
        assume_unique=True,
        return_indices=True,
    )
    block, palindrome = one.block[here], one.leg[here] // 2
    _, which, counts = np.unique(block * stride + palindrome, return_inverse=True, return_counts=True)
    whole = counts[which] == 2
    kept = whole | ~np.isin(block, block[whole])
    return SharedLegs(
        block=block[kept],
        palindrome=palindrome[kept],
        baseline=one.log_seconds[here][kept],
        candidate=other.log_seconds[there][kept],
    )


def _legs(benchmark: Benchmark) -> tuple[Integers, Integers, Integers]:
    """The order of rounds by block, leg and time; where in it each leg begins, and its number of rounds."""
    order = np.lexsort((benchmark.seconds, benchmark.leg, benchmark.block))
    changes = (np.diff(benchmark.block[order]) != 0) | (np.diff(benchmark.leg[order]) != 0)
    new_leg = np.flatnonzero(np.concatenate(([True], changes))[: len(order)])
    return order, new_leg, np.diff(new_leg, append=len(order))


def _ratio_matrix(comparisons: Sequence[Comparison]) -> Floats:
    """Log ratios, cases × blocks, NaN where a case lacks a block."""
    rows = [block_log_ratios(baseline, candidate) for baseline, candidate in comparisons]
    if not rows or not all(rows):
        raise ValueError("no comparisons, or one without any block in common")
    return ratio_matrix(rows)


def ratio_matrix(rows: Sequence[Mapping[int, float]]) -> Floats:
    """Log ratios, cases × blocks, NaN where a case lacks a block; rows: of each case by block."""
    blocks = sorted(set().union(*rows))
    return np.array([[row.get(block, math.nan) for block in blocks] for row in rows])


def _resampled_cases(operators: Sequence[str], rng: np.random.Generator) -> Floats:
    """Weights of the cases in each resample, rows that sum to 1: operators are drawn, then cases of each."""
    names, operator = np.unique(operators, return_inverse=True)
    chosen = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    weights = np.zeros((RESAMPLES, len(operators)))
    for index in range(len(names)):
        members = np.flatnonzero(operator == index)
        picks = rng.multinomial(chosen[:, index] * len(members), np.full(len(members), 1 / len(members)))
        weights[:, members] = picks
    result: Floats = weights / weights.sum(axis=1, keepdims=True)
    return result


def _levels_and_effects(ratios: Floats) -> tuple[Floats, Floats]:
    """Each case's mean over its blocks, and what each block adds to every case (mean 0)."""
    levels = np.nanmean(ratios, axis=1)
    effects = np.nanmean(ratios - levels[:, None], axis=0)
    return levels, effects - effects.mean()


def _t_interval(values: Floats, level: float) -> tuple[float, float]:
    if len(values) < 2:
        return -math.inf, math.inf
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def ratio_estimate(values: Floats, *, bootstrap95: tuple[float, float] | None = None) -> Estimate:
    """Back from block values in logarithms to a ratio (or to seconds)."""
    low95, high95 = _exp(_t_interval(values, 0.95))
    low90, high90 = _exp(_t_interval(values, 0.90))
    return Estimate(
        value=math.exp(values.mean()),
        ci95=(low95, high95),
        ci90=(low90, high90),
        blocks=len(values),
        bootstrap95=bootstrap95,
    )


def _exp(interval: tuple[float, float]) -> tuple[float, float]:
    """Back from logarithms; an upper end above e^700, from two blocks that differ wildly, is infinite."""
    low, high = interval
    return math.exp(low), math.exp(high) if high < 700 else math.inf


def _percentiles(
    logarithms: Floats, level: float = 0.95, *, replicates: int | None = None
) -> tuple[float, float]:
    """Percentile interval of bootstrap means.

    replicates: how many there were to draw from; the percentiles are then expanded to what a t interval over
    them has (Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015).
    """
    tail = (1 - level) / 2
    if replicates is not None:
        quantile = stats.t.ppf(tail, replicates - 1) * math.sqrt(replicates / (replicates - 1))
        tail = float(stats.norm.cdf(quantile))
    low, high = np.exp(np.quantile(logarithms, [tail, 1 - tail]))
    return float(low), float(high)


def _hierarchical_bootstrap(blocks: Sequence[Floats]) -> tuple[float, float] | None:
    """Percentile interval of the speedup: blocks resampled, then the palindromes of each block drawn."""
    if len(blocks) < 2:
        return None
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(len(blocks), size=(RESAMPLES, len(blocks)))
    medians = np.empty(chosen.shape)
    for index, palindromes in enumerate(blocks):
        drawn = chosen == index
        medians[drawn] = _resampled_medians(palindromes, int(drawn.sum()), rng)
    return _percentiles(medians.mean(axis=1))


def _resampled_medians(values: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Medians of `size` bootstrap resamples, without drawing them.

    A resample picks entry floor(n·U) of the sorted values n times, so its middle entries belong to the middle
    order statistics of n uniform variates. Those are Beta distributed (David and Nagaraja, Order Statistics,
    chapter 2): one or two draws replace n.
    """
    n, ordered = len(values), np.sort(values)
    lower_middle = rng.beta((n + 1) // 2, n // 2 + 1, size)
    picked = ordered[np.minimum((n * lower_middle).astype(np.int64), n - 1)]
    if n % 2:
        return picked
    upper_middle = lower_middle + (1 - lower_middle) * rng.beta(1, n // 2, size)
    return (picked + ordered[np.minimum((n * upper_middle).astype(np.int64), n - 1)]) / 2
