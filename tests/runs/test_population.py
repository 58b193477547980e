"""Shares, means, families and power of a population, against counts by hand and against SciPy."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fuseproof.runs import population
from fuseproof.runs.population import Member


def member(speedup, family="mlp", *, blocks=5, spread=0.0):
    """Blocks around `speedup`, evenly, so that their mean is exact; None: it failed."""
    if speedup is None:
        return Member(family=family, log_ratios={})
    offsets = np.linspace(-spread, spread, blocks)
    return Member(family=family, log_ratios={n: math.log(speedup) + d for n, d in enumerate(offsets)})


MIXED = [
    member(2.0, "a"), member(1.45, "a"), member(1.4, "b"),
    member(0.5, "b"), member(None, "c"), member(1.0, "c"),
]  # fmt: skip


def test_every_case_is_below_inside_above_or_failed():
    shares = population.shares(MIXED, (1.3, 1.6))
    counts = (shares.below.count, shares.inside.count, shares.above.count, shares.failed.count)
    assert counts == (2, 2, 1, 1)
    assert {each.of for each in (shares.below, shares.inside, shares.above, shares.failed)} == {6}


def test_the_ends_of_a_band_are_inside():
    shares = population.shares([member(1.3, blocks=1), member(1.6, blocks=1)], (1.3, 1.6))
    assert shares.inside.count == 2


@pytest.mark.parametrize(("count", "of"), [(0, 9), (5, 9), (9, 9), (12, 24)])
def test_bounds_of_a_share_are_wilsons_on_both_sides(count, of):
    share = population.share(count, of)
    reference = stats.binomtest(count, of).proportion_ci(method="wilson")
    assert (share.low, share.high) == (reference.low, reference.high)
    assert 0 <= share.low < share.high <= 1


def test_a_share_of_nothing_is_unknown():
    share = population.share(0, 0)
    assert (share.low, share.high) == (0, 1)


def test_one_case_of_each_family_is_wilsons_own_interval():
    hits = [True] * 5 + [False] * 4
    assert population.share_by_families(hits, "abcdefghi") == population.share(5, 9)


@given(st.integers(1, 60), st.floats(0, 1))
def test_wilsons_interval_is_scipys_where_the_number_is_whole(n, share):
    count = round(share * n)
    reference = population.share(count, n)
    assert population._wilson(count / n, n) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_variants_that_are_all_alike_count_once_for_each_family():
    hits, families = [True] * 24 + [False] * 12, sorted("abcdefghi" * 4)
    found, single = population.share_by_families(hits, families), population.share(6, 9)
    assert (found.count, found.of, found.effective) == (24, 36, pytest.approx(9))
    assert (found.low, found.high) == pytest.approx((single.low, single.high))


def test_variants_that_differ_as_if_drawn_count_each():
    hits, families = [True, True, False, False] * 9, sorted("abcdefghi" * 4)
    assert population.share_by_families(hits, families).effective == 36
    assert population.share_by_families(hits, families).low == pytest.approx(population.share(18, 36).low)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd")), min_size=1, max_size=20))
def test_families_never_make_a_share_surer(cases):
    hits, families = [hit for hit, _ in cases], [family for _, family in cases]
    found, plain = population.share_by_families(hits, families), population.share(sum(hits), len(hits))
    assert 1 - 1e-9 <= found.effective <= len(hits)
    assert 0 <= found.low <= plain.low + 1e-9
    assert plain.high - 1e-9 <= found.high <= 1


def test_one_family_is_one_case():
    assert population.share_by_families([True, True, False], ["llama"] * 3).effective == pytest.approx(1)


def test_means_show_what_the_flattering_one_hides():
    means = population.means(MIXED)
    logs = np.log([2.0, 1.45, 1.4, 0.5, 1.0])
    assert (means.cases, means.failed, means.slower) == (6, 1, 1)
    assert means.all.value == pytest.approx(math.exp(logs.sum() / 6))  # the failed one is a 1
    assert means.measured.value == pytest.approx(math.exp(logs.mean()))
    assert means.flattering == pytest.approx((2.0 * 1.45 * 1.4) ** (1 / 5))
    assert means.over_cases[0] < means.all.value < means.over_cases[1]


speedups = st.lists(st.one_of(st.none(), st.floats(0.1, 10)), min_size=1, max_size=8)


@given(speedups)
def test_the_flattering_mean_is_never_below_the_others(values):
    members = [member(value) for value in values]
    if all(value is None for value in values):
        with pytest.raises(ValueError, match="no case"):
            population.means(members)
        return
    means = population.means(members)
    assert means.flattering >= max(means.all.value, means.measured.value) * (1 - 1e-12)


def test_the_interval_of_a_mean_is_students_t_over_blocks():
    members = [member(1.5, spread=0.02), member(1.2, spread=0.01)]
    estimate = population.means(members).measured
    blocks = np.mean([[*each.log_ratios.values()] for each in members], axis=0)
    assert np.log(estimate.ci95) == pytest.approx(
        tuple(stats.ttest_1samp(blocks, 0.0).confidence_interval(0.95))
    )


def test_a_failed_case_has_no_spread_of_its_own():
    one = population.means([member(1.5, spread=0.02)])
    half = population.means([member(1.5, spread=0.02), member(None)])
    assert math.log(half.all.value) == pytest.approx(math.log(one.all.value) / 2)
    assert np.diff(np.log(half.all.ci95)) == pytest.approx(np.diff(np.log(one.all.ci95)) / 2)


def test_leaving_a_family_out_names_the_one_that_carries_the_mean():
    members = [member(4.0, "llama"), member(1.1, "bert"), member(1.2, "bert"), member(1.0, "vit")]
    found = population.leave_one_family_out(members)
    assert (found.low_without, found.high_without) == ("llama", "bert")
    assert found.low == pytest.approx((1.1 * 1.2) ** (1 / 3))
    assert found.high == pytest.approx(2.0)
    assert population.leave_one_family_out(members[1:3]) is None


@pytest.mark.parametrize("cases", [1, 5, 9, 24, 36, 100])
def test_power_is_the_probability_of_wilsons_bound(cases):
    enough = [k for k in range(cases + 1) if population.share(k, cases).low >= 0.5]
    for true_share in (0.5, 0.7, 0.95):
        expected = stats.binom.pmf(enough, cases, true_share).sum() if enough else 0.0
        assert population.typical_power(cases, true_share) == pytest.approx(expected)


@pytest.mark.parametrize("true_share", [0.6, 0.7, 0.8, 0.9, 1.0])
def test_the_number_of_cases_reaches_the_power_and_one_less_does_not(true_share):
    needed = population.cases_for_typical(true_share)
    assert population.typical_power(needed, true_share) >= 0.8
    assert population.typical_power(needed - 1, true_share) < 0.8
    assert all(population.typical_power(needed + more, true_share) >= 0.8 for more in range(50))


def test_a_larger_majority_needs_fewer_cases():
    needed = [population.cases_for_typical(share) for share in (0.6, 0.7, 0.8, 0.9)]
    assert all(more > less for more, less in pairwise(needed))


@pytest.mark.parametrize("true_share", [0.5, 0.2, 0.501, 1.2])
def test_what_is_no_majority_cannot_be_shown(true_share):
    with pytest.raises(ValueError, match=r"share of"):
        population.cases_for_typical(true_share)
