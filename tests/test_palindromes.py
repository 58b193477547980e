import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseproof import palindromes
from fuseproof.palindromes import Leg


@given(items=st.integers(0, 9), index=st.integers(0, 100))
def test_the_second_half_mirrors_the_first(items, index):
    first, second = palindromes.palindrome(range(items), index)
    assert sorted(first) == list(range(items))
    assert second == first[::-1]


def test_every_item_starts_once_in_turn():
    assert [palindromes.palindrome("ABC", index)[0][0] for index in range(6)] == list("ABCABC")


@given(items=st.integers(1, 9), index=st.integers(0, 100), drift=st.floats(-1, 1))
def test_a_linear_drift_cancels(items, index, drift):
    first, second = palindromes.palindrome(range(items), index)
    times = {item: [] for item in range(items)}
    for position, item in enumerate([*first, *second]):
        times[item].append(drift * position)
    means = [np.mean(both) for both in times.values()]
    assert means == pytest.approx([means[0]] * items)


@pytest.mark.parametrize(
    ("call", "leg", "expected"),
    [
        pytest.param(1e-4, 6e-3, Leg(rounds=3, calls=20, warm_up=12), id="short calls are batched"),
        pytest.param(2e-3, 6e-3, Leg(rounds=3, calls=1, warm_up=1), id="a round is one call"),
        pytest.param(4e-3, 6e-3, Leg(rounds=2, calls=1, warm_up=1), id="fewer rounds"),
        pytest.param(5e-2, 6e-3, Leg(rounds=1, calls=1, warm_up=0), id="long calls need no warm-up"),
        pytest.param(10.0, 6e-3, Leg(rounds=1, calls=1, warm_up=0), id="one call at the least"),
    ],
)
def test_legs_by_hand(call, leg, expected):
    assert palindromes.leg_for(call, leg) == expected


@given(call=st.floats(1e-7, 10), leg=st.floats(1e-4, 1))
def test_a_leg_is_about_as_long_as_asked(call, leg):
    found = palindromes.leg_for(call, leg)
    assert 1 <= found.rounds <= palindromes.ROUNDS_PER_LEG
    assert found.calls >= 1
    assert found.warm_up >= 0
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
