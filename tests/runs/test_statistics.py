import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fuseproof.runs import statistics
from fuseproof.runs.records import Benchmark


def by_legs(seconds: dict[int, list[float]], **more: object) -> Benchmark:
    """One round per leg; `seconds[block]` lists the legs in order."""
    fields = {"name": "b", "group": "g", "operator": "o", "implementation": "i"} | more
    return Benchmark(
        seconds=np.array([value for legs in seconds.values() for value in legs]),
        block=np.array([block for block, legs in seconds.items() for _ in legs]),
        leg=np.array([leg for legs in seconds.values() for leg in range(len(legs))]),
        **fields,
    )


def test_leg_time_is_the_low_decile_of_its_rounds_in_any_order():
    rounds = np.random.default_rng(0).permutation(np.arange(1.0, 12.0))
    benchmark = by_legs({3: [1.0] * 11 + [7.0]})
    benchmark = replace(benchmark, seconds=np.append(rounds, 7.0), leg=np.array([4] * 11 + [9]))
    legs = statistics.log_leg_times(benchmark)
    assert legs.block.tolist() == [3, 3]
    assert legs.leg.tolist() == [4, 9]
    assert np.exp(legs.log_seconds) == pytest.approx([2.0, 7.0])  # the second smallest of 11


def test_block_ratio_is_the_median_of_mirrored_means():
    baseline = by_legs({0: [2, 8, 2, 2, 2, 2], 1: [3, 3]})
    candidate = by_legs({0: [1, 1, 1, 1, 1, 1], 1: [1, 1]})
    expected = {0: math.log(2), 1: math.log(3)}  # palindromes of block 0: ln 4, ln 2, ln 2
    assert statistics.block_log_ratios(baseline, candidate) == pytest.approx(expected)


def test_steady_drift_cancels_within_a_palindrome():
    drift = 1.01 ** np.arange(40)  # A B B A A B B A …
    a, b = by_legs({0: drift[[*range(0, 40, 4)]].tolist()}), by_legs({0: drift[[*range(1, 40, 4)]].tolist()})
    assert statistics.block_log_ratios(a, b)[0] == pytest.approx(
        -math.log(1.01)
    )  # legs that are not mirrored
    mirrored_a = by_legs({0: drift[sorted([*range(0, 40, 4), *range(3, 40, 4)])].tolist()})
    mirrored_b = by_legs({0: drift[sorted([*range(1, 40, 4), *range(2, 40, 4)])].tolist()})
    assert statistics.block_log_ratios(mirrored_a, mirrored_b)[0] == pytest.approx(0, abs=1e-12)


def test_only_what_both_have_is_compared():
    baseline = by_legs({0: [2, 2, 2, 2, 50], 1: [2, 2], 2: [2, 2]})  # a fifth leg without its mirror
    candidate = by_legs({0: [1, 1, 1, 1, 1], 2: [1, 1], 5: [1, 1]})
    ratios = statistics.block_log_ratios(baseline, candidate)
    assert ratios == pytest.approx({0: math.log(2), 2: math.log(2)})


def test_a_lone_leg_stands_for_a_block_that_has_no_palindrome():
    assert statistics.block_log_ratios(by_legs({0: [2.0]}), by_legs({0: [1.0]})) == {0: math.log(2)}


@pytest.mark.parametrize("what", ["metric", "cache", "group"])
def test_unlike_benchmarks_are_refused(what):
    one = by_legs({0: [1, 1], 1: [1, 1]})
    other = replace(one, **{what: "another"})
    for function in (statistics.speedup, statistics.block_log_ratios, statistics.break_even_calls):
        with pytest.raises(ValueError, match=what):
            function(one, other)
    with pytest.raises(ValueError, match=what):
        statistics.geometric_mean([(one, other)])


def test_no_common_block_is_refused():
    with pytest.raises(ValueError, match="in common"):
        statistics.speedup(by_legs({0: [1, 1]}), by_legs({1: [1, 1]}))
    with pytest.raises(ValueError, match="no comparisons"):
        statistics.geometric_mean([])


def test_speedup_interval_is_students_t_over_blocks():
    values = [0.30, 0.35, 0.28, 0.40]
    baseline = by_legs({block: [math.exp(value)] * 4 for block, value in enumerate(values)})
    estimate = statistics.speedup(baseline, by_legs({block: [1.0] * 4 for block in range(4)}))
    reference = stats.ttest_1samp(values, 0.0)
    assert estimate.value == pytest.approx(math.exp(np.mean(values)))
    assert np.log(estimate.ci95) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert np.log(estimate.ci90) == pytest.approx(tuple(reference.confidence_interval(0.90)))
    assert estimate.blocks == 4


def test_one_block_has_no_interval(a_benchmark):
    one = a_benchmark(blocks=1)
    estimate = statistics.speedup(one, one)
    assert (estimate.value, estimate.blocks, estimate.bootstrap95) == (1.0, 1, None)
    assert estimate.ci95 == estimate.ci90 == (0.0, math.inf)
    assert statistics.geometric_mean_over_cases([(one, one), (one, one)]) == (0.0, math.inf)
    assert statistics.median_with_interval(one).ci95 == (0.0, math.inf)


times = st.lists(
    st.lists(st.floats(1e-7, 1e2), min_size=6, max_size=6), min_size=2, max_size=4
)  # blocks of six legs


@given(times, times, st.floats(1e-3, 1e3))
def test_speedup_is_antisymmetric_and_free_of_units(ours, theirs, factor):
    a, b = by_legs(dict(enumerate(ours))), by_legs(dict(enumerate(theirs)))
    there, back = statistics.speedup(a, b), statistics.speedup(b, a)
    assert there.value * back.value == pytest.approx(1)
    assert there.ci95[0] * back.ci95[1] == pytest.approx(1)
    scaled = [replace(x, seconds=x.seconds * factor) for x in (a, b)]
    assert statistics.speedup(*scaled).value == pytest.approx(there.value)
    assert statistics.speedup(a, scaled[0]).value == pytest.approx(1 / factor)


def test_intervals_cover_the_truth_on_identical_code(a_benchmark):
    """A/A data with 1 % between processes and 2 % between rounds: 95 % of intervals contain 1."""
    rng = np.random.default_rng(7)
    noise = {"process_noise": 0.01, "round_noise": 0.02, "legs": 8, "rng": rng}
    pairs = [(a_benchmark(**noise), a_benchmark(**noise)) for _ in range(300)]
    contained, total = statistics.null_coverage(pairs)
    assert total == 300
    assert stats.binomtest(contained, total, 0.95).pvalue > 0.01


def test_null_coverage_counts_only_what_has_an_interval(a_benchmark):
    same, lone, slow = a_benchmark(), a_benchmark(blocks=1), a_benchmark(seconds=2e-3)
    assert statistics.null_coverage([(same, same), (lone, lone), (same, slow)]) == (1, 2)


def test_bootstrap_agrees_and_is_reproducible(a_benchmark):
    rng = np.random.default_rng(3)
    noise = {"process_noise": 0.01, "round_noise": 0.02, "rng": rng, "blocks": 12}
    baseline, candidate = a_benchmark(**noise, seconds=1.5e-3), a_benchmark(**noise)
    estimate = statistics.speedup(baseline, candidate)
    widths = [math.log(high / low) for low, high in (estimate.bootstrap95, estimate.ci95)]
    assert estimate.bootstrap95[0] < estimate.value < estimate.bootstrap95[1]
    assert 0.7 < widths[0] / widths[1] < 1.1
    assert statistics.speedup(replace(baseline), replace(candidate)) == estimate


@pytest.mark.parametrize("n", [1, 2, 3, 8, 21])
def test_resampled_medians_match_resampling(n):
    rng, size = np.random.default_rng(0), 20_000
    values = rng.permutation(np.arange(float(n)))
    direct = statistics._resampled_medians(values, size, rng)
    drawn = np.median(values[rng.integers(n, size=(size, n))], axis=1)
    ours, theirs = (
        np.bincount((2 * medians).astype(int), minlength=2 * n) / size for medians in (direct, drawn)
    )
    assert np.abs(np.cumsum(ours) - np.cumsum(theirs)).max() < 0.02  # Kolmogorov-Smirnov, far in the tail


def test_geometric_mean_takes_the_block_as_replicate():
    cases = [[0.1, 0.2, 0.3], [0.5, 0.4, 0.9]]
    one = by_legs({block: [1.0, 1.0] for block in range(3)})
    pairs = [(by_legs({b: [math.exp(v)] * 2 for b, v in enumerate(case)}), one) for case in cases]
    estimate = statistics.geometric_mean(pairs)
    reference = stats.ttest_1samp(np.mean(cases, axis=0), 0.0)
    assert math.log(estimate.value) == pytest.approx(0.4)
    assert np.log(estimate.ci95) == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_a_block_that_one_case_lost_looks_neither_fast_nor_slow():
    one = by_legs({block: [1.0, 1.0] for block in range(4)})
    fast = by_legs({block: [4.0, 4.0] for block in range(4)})
    slow = by_legs({block: [0.25, 0.25] for block in range(3)})
    estimate = statistics.geometric_mean([(fast, one), (slow, one)])
    assert (estimate.value, *estimate.ci95) == pytest.approx((1, 1, 1))
    assert estimate.blocks == 4


def test_interval_over_cases_knows_that_cases_and_operators_differ():
    rng = np.random.default_rng(5)
    one = by_legs({block: [1.0, 1.0] for block in range(5)})
    levels = [0.0, 0.0, 0.0, 0.4, 0.4, 0.4, 0.8, 0.8, 0.8]

    def pairs(operators):
        return [
            (
                by_legs({b: [math.exp(level + 0.01 * n)] * 2 for b, n in enumerate(rng.standard_normal(5))}),
                one,
            )
            for level in levels
        ], operators

    def width(operators):
        comparisons, _ = pairs(operators)
        comparisons = [
            (replace(base, operator=name), candidate)
            for (base, candidate), name in zip(comparisons, operators, strict=True)
        ]
        low, high = statistics.geometric_mean_over_cases(comparisons)
        estimate = statistics.geometric_mean(comparisons)
        assert low < estimate.value < high
        return math.log(high / low), math.log(estimate.ci95[1] / estimate.ci95[0])

    unrelated, measured = width([f"operator {n}" for n in range(9)])
    clustered, _ = width(["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    assert measured < unrelated < clustered


def test_break_even_is_compile_time_over_time_saved():
    eager = by_legs({block: [3e-3, 3e-3] for block in range(5)})
    compiled = by_legs({block: [1e-3, 1e-3] for block in range(5)}, compile_seconds=4.0)
    estimate = statistics.break_even_calls(eager, compiled)
    assert (estimate.value, *estimate.ci95) == pytest.approx((2000, 2000, 2000))
    assert statistics.break_even_calls(eager, replace(compiled, compile_seconds=None)) is None
    never = statistics.break_even_calls(compiled, replace(eager, compile_seconds=4.0))
    assert (never.value, never.ci95) == (math.inf, (math.inf, math.inf))
    nothing_saved = statistics.break_even_calls(eager, replace(eager, compile_seconds=4.0))
    assert nothing_saved.value == math.inf


def test_break_even_is_unbounded_where_saving_nothing_is_possible():
    eager = by_legs({block: [1.0, 1.0] for block in range(4)})
    compiled = by_legs({b: [s, s] for b, s in enumerate([0.9, 1.05, 0.8, 0.95])}, compile_seconds=10.0)
    estimate = statistics.break_even_calls(eager, compiled)
    assert estimate.value == pytest.approx(10 / 0.075)
    assert 0 < estimate.ci95[0] < estimate.value
    assert estimate.ci95[1] == math.inf
    one_block = statistics.break_even_calls(
        by_legs({0: [2.0] * 2}), by_legs({0: [1.0] * 2}, compile_seconds=3.0)
    )
    assert (one_block.value, one_block.ci95) == (pytest.approx(3), (0.0, math.inf))


def test_median_is_geometric_over_blocks():
    benchmark = by_legs({0: [1.0, 2.0, 90.0], 1: [8.0, 8.0, 8.0]})
    estimate = statistics.median_with_interval(benchmark)
    assert estimate.value == pytest.approx(4.0)
    assert estimate.ci95[0] < estimate.ci90[0] < 4.0 < estimate.ci90[1] < estimate.ci95[1]


def test_two_wild_blocks_do_not_overflow():
    benchmark = by_legs({0: [1e-9, 1e-9], 1: [1e9, 1e9]})
    assert statistics.median_with_interval(benchmark).ci95[1] > 1e9


@pytest.mark.parametrize("families", [9, 24])
def test_intervals_over_cases_cover_the_mean_of_all_cases_like_these(families):
    """Few families: a plain percentile interval of nine holds in 89 % of 2,000."""
    rng = np.random.default_rng(11)
    held, repetitions = 0, 300
    for _ in range(repetitions):
        levels = 0.3 + 0.2 * rng.standard_normal((families, 1))
        ratios = levels + 0.01 * rng.standard_normal((families, 5))
        low, high = np.log(statistics.interval_over_cases(ratios, [str(n) for n in range(families)]))
        held += low <= 0.3 <= high
    fewest, most = stats.binom.ppf([0.001, 0.999], repetitions, 0.95)
    assert fewest <= held <= most


def test_cases_of_one_family_are_what_is_drawn_there():
    ratios = np.array([[0.1, 0.12], [0.3, 0.31], [0.2, 0.19]])
    low, high = statistics.interval_over_cases(ratios, ["mlp"] * 3)
    assert 0 < low < math.exp(ratios.mean()) < high < math.inf
