import collections
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseproof.implementations import Implementation
from fuseproof.measure import evidence, palindromes
from fuseproof.measure.palindromes import Leg

groups = st.lists(st.integers(1, 4), max_size=4).map(
    lambda sizes: [[(group, item) for item in range(size)] for group, size in enumerate(sizes)]
)


@given(groups=groups, seed=st.integers(0, 2**31))
def test_the_second_half_mirrors_the_first(groups, seed):
    first, second = palindromes.palindrome(groups, (seed, 0, 0))
    assert sorted(first) == sorted(item for group in groups for item in group)
    assert second == first[::-1]
    assert palindromes.palindrome(groups, (seed, 0, 0)) == (first, second)


@given(groups=groups, seed=st.integers(0, 2**31))
def test_groups_stay_together(groups, seed):
    first, _ = palindromes.palindrome(groups, (seed,))
    changes = sum(before[0] != after[0] for before, after in itertools.pairwise(first))
    assert changes == max(0, len(groups) - 1)


def test_chance_decides_what_comes_before_an_item():
    # In a fixed or rotated order some pairs would never follow each other; here all do, about equally often.
    follows = collections.Counter()
    for index in range(600):
        first, second = palindromes.palindrome(["ABCD"], (0, index))
        follows.update(pair for pair in itertools.pairwise(first + second) if pair[0] != pair[1])
    assert len(follows) == 12
    assert min(follows.values()) > 0.8 * max(follows.values())


@given(groups=groups, seed=st.integers(0, 2**31), drift=st.floats(-1, 1))
def test_a_linear_drift_cancels(groups, seed, drift):
    first, second = palindromes.palindrome(groups, (seed,))
    times = collections.defaultdict(list)
    for position, item in enumerate([*first, *second]):
        times[item].append(drift * position)
    means = [np.mean(both) for both in times.values()]
    assert means == pytest.approx(means[:1] * len(means))


def test_rows_of_ours_set_the_legs_of_their_framework():
    """One from outside that is a little slow does not make its baseline's legs shorter."""

    def row(name, framework="torch", target="fuseproof.m:f"):
        return Implementation("softmax", name, framework=framework, target=target)

    rows = [row("eager"), row("mine", target="mine.py:f"), row("huge", target="mine.py:g"), row("j", "jax")]
    seconds = {"eager": 1e-4, "mine": 19e-4, "huge": 21e-4, "j": 1e-3}
    found = palindromes.legs(rows, seconds, 6e-3)
    assert found["eager"] == found["mine"] == palindromes.leg_for(1e-4, 6e-3)
    assert found["huge"] == palindromes.leg_for(21e-4, 6e-3), "the run does not wait for it"
    assert found["j"] == palindromes.leg_for(1e-3, 6e-3)
    assert palindromes.legs(rows[1:2], seconds, 6e-3)["mine"] == palindromes.leg_for(19e-4, 6e-3)


@pytest.mark.parametrize(
    ("call", "leg", "expected"),
    [
        pytest.param(1e-4, 6e-3, Leg(rounds=3, calls=20, warm_up=12, settle=50), id="short calls in batches"),
        pytest.param(2e-3, 6e-3, Leg(rounds=3, calls=1, warm_up=1, settle=3), id="a round is one call"),
        pytest.param(4e-3, 6e-3, Leg(rounds=2, calls=1, warm_up=1, settle=2), id="fewer rounds"),
        pytest.param(5e-2, 6e-3, Leg(rounds=1, calls=1, warm_up=0, settle=1), id="long calls"),
        pytest.param(10.0, 6e-3, Leg(rounds=1, calls=1, warm_up=0, settle=1), id="one call at the least"),
    ],
)
def test_legs_by_hand(call, leg, expected):
    assert palindromes.leg_for(call, leg) == expected


@given(call=st.floats(1e-7, 10), leg=st.floats(1e-4, 1))
def test_a_leg_is_about_as_long_as_asked(call, leg):
    found = palindromes.leg_for(call, leg)
    assert 1 <= found.rounds <= palindromes.ROUNDS_PER_LEG
    assert found.calls >= 1
    assert 0 <= found.warm_up <= found.settle
    assert found.settle >= 1
    timed = found.rounds * found.calls * call
    assert timed <= max(call, 1.75 * leg)
    assert timed >= min(call, 0.5 * leg)


def legs_of(spread, pairs, rng):
    """ln leg times around 1 ms, with noise that both implementations share and noise of each one's own."""
    shared = rng.standard_normal(2 * pairs)
    own = {name: shared + spread * rng.standard_normal(2 * pairs) for name in ("base", "other")}
    return {name: (math.log(1e-3) + values).tolist() for name, values in own.items()}


def test_precision_is_that_of_the_ratio():
    baselines = {"base": "base", "other": "base"}
    rng = np.random.default_rng(0)
    assert palindromes.precise_within_block(legs_of(1e-3, 20, rng), baselines)
    assert not palindromes.precise_within_block(legs_of(0.3, 20, rng), baselines)


def test_single_disturbed_palindromes_do_not_count():
    legs = {"base": [0.0] * 20, "other": [0.01] * 20}
    legs["other"][6] = 3.0
    assert palindromes.precise_within_block(legs, {"base": "base", "other": "base"})


def test_one_palindrome_is_never_precise():
    baselines = {"base": "base", "other": "base"}
    assert not palindromes.precise_within_block({"base": [0.0] * 2, "other": [0.0] * 2}, baselines)
    assert palindromes.precise_within_block({"base": [0.0] * 4, "other": [0.0] * 4}, baselines)


def test_what_has_no_comparison_asks_for_no_precision():
    legs = {"base": [0.0, 1.0], "orphan": [0.0, 9.0]}
    assert palindromes.precise_within_block(legs, {"base": "base", "orphan": "absent"})
    assert palindromes.precise_within_block({}, {})


def test_one_imprecise_comparison_is_enough():
    rng = np.random.default_rng(0)
    legs = {"base": [0.0] * 40, "steady": [0.1] * 40, "noisy": rng.standard_normal(40).tolist()}
    assert not palindromes.precise_within_block(legs, dict.fromkeys(legs, "base"))


@pytest.mark.parametrize(
    ("rounds", "calls", "probes"),
    [(1, 1, 0), (2, 1, 2), (3, 1, 2), (1, 2, 2), (3, 7, 2), (3, 8, 3), (3, 1000, 3)],
)
def test_a_leg_has_few_probes_but_with_the_last_look_enough_for_a_judgement(rounds, calls, probes):
    """None where a leg is one call, whose values are new anyway."""
    leg = Leg(rounds=rounds, calls=calls, warm_up=1, settle=1)
    assert leg.probes == probes
    assert probes == 0 or probes + 1 >= evidence._FEWEST_PROBES
