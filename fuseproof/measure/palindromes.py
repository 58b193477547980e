"""The order of legs, how long a leg is, and when to stop: arithmetic only, no clock and no process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

T = TypeVar("T")

ROUNDS_PER_LEG = 3

# A share of the leg is spent on untimed calls, after which caches hold what this implementation uses. A call
# that fills the leg by itself does that in its own first part.
_WARM_UP_SHARE = 0.2

# After another framework's leg its threads still spin for some milliseconds (libgomp, Eigen), and ours sleep.
# Untimed calls fill that time. Without them the first leg of a framework was up to 28 % slower than the same
# code's next leg, on two cores.
_SETTLE_SECONDS = 0.005

# Within a block: stop when the standard error of every comparison is below this (nvbench's default is 0.5 %).
WITHIN_BLOCK_PRECISION = 0.005


@dataclass(frozen=True, kw_only=True)
class Leg:
    """`rounds` timed rounds of `calls` back-to-back calls, after untimed calls.

    Of those, `settle` where the leg before was another framework's, `warm_up` otherwise.
    """

    rounds: int
    calls: int
    warm_up: int
    settle: int


def leg_for(slowest: float, leg_seconds: float) -> Leg:
    """The leg of every implementation of a framework in a case, about `leg_seconds` for the slowest of them.

    slowest: its seconds per call; one call at the least. All take as many calls, timed and untimed: the first
    calls of a leg are slower than the later ones, so other numbers would favour one side. (Identical
    code with legs of other lengths, by noise in this very figure, came out different in 8 of 35 comparisons,
    with equal legs in 1 of 25.)
    """
    calls = max(1, round(leg_seconds / ROUNDS_PER_LEG / slowest))
    rounds = min(ROUNDS_PER_LEG, max(1, round(leg_seconds / (calls * slowest))))
    warm_up = 0
    if slowest < leg_seconds:
        warm_up = max(1, round(_WARM_UP_SHARE * leg_seconds / slowest))
    settle = max(warm_up, math.ceil(_SETTLE_SECONDS / slowest))
    return Leg(rounds=rounds, calls=calls, warm_up=warm_up, settle=settle)


def palindrome(groups: Sequence[Sequence[T]], seed: Sequence[int]) -> tuple[list[T], list[T]]:
    """The two halves of a palindrome: groups and their items in an order drawn from `seed`, then mirrored.

    Mirroring cancels a drift that is linear in time. Drawing makes it a matter of chance which item comes
    before which: a leg feels the one before it, so in a fixed order (rotated or not) identical items differ.
    Groups (the frameworks) stay together, as changing from one to the other costs most.
    """
    generator = np.random.default_rng(seed)
    order = [
        groups[group][item]
        for group in generator.permutation(len(groups))
        for item in generator.permutation(len(groups[group]))
    ]
    return order, order[::-1]


def precise_within_block(
    legs: Mapping[str, Sequence[float]],
    baselines: Mapping[str, str],
    precision: float = WITHIN_BLOCK_PRECISION,
) -> bool:
    """Whether the median log ratio of every implementation to its baseline is known to `precision`.

    legs: for each implementation the ln of its leg times, legs 2i and 2i+1 of palindrome i. Standard error of
    a median by the median absolute deviation, which single disturbed palindromes do not move.
    """
    for name, values in legs.items():
        reference = legs.get(baselines[name])
        if reference is None or baselines[name] == name:
            continue
        pairs = min(len(values), len(reference)) // 2
        if pairs < 2:
            return False
        difference = np.subtract(values[: 2 * pairs], reference[: 2 * pairs]).reshape(pairs, 2).mean(axis=1)
        spread = stats.median_abs_deviation(difference, scale="normal")
        if math.sqrt(math.pi / 2) * spread / math.sqrt(pairs) > precision:
            return False
    return True
