"""The order of legs, how long a leg is, and when to stop: arithmetic only, no clock and no process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

from fuseproof.implementations import Implementation

T = TypeVar("T")

ROUNDS_PER_LEG = 3

# This share of a leg goes to untimed calls, after which the caches hold what this implementation uses. A call
# as long as the leg fills the caches in its own first part.
_WARM_UP_SHARE = 0.2

# After a leg of another framework its threads spin for some milliseconds (libgomp, Eigen), while those of
# this framework sleep. Untimed calls fill that time. Without them the first leg of a framework was up to 28 %
# slower than the next leg of the same code, on two cores.
_SETTLE_SECONDS = 0.005

# Single calls with new values after an inspected leg, at most: with what prepares them they take about twice
# a call, and a leg has dozens.
PROBES = 3
_FEWEST_PROBES = 2  # with the one of the last leg of a cell enough for a judgement
_CALLS_FOR_A_PROBE = 8

# An implementation from outside that is this much slower than the others has legs of its own.
_MUCH_SLOWER = 20.0

# Within a block: stop when the standard error of every comparison is below this (nvbench's default is 0.5 %).
WITHIN_BLOCK_PRECISION = 0.005


@dataclass(frozen=True, kw_only=True)
class Leg:
    """`rounds` timed rounds of `calls` back-to-back calls, after untimed calls.

    There are `settle` untimed calls if the leg before was another worker's, otherwise `warm_up`.
    """

    rounds: int
    calls: int
    warm_up: int
    settle: int

    @property
    def probes(self) -> int:
        """How many single calls to time after it; none after a leg of one call, whose values are new."""
        total = self.rounds * self.calls
        return 0 if total == 1 else min(PROBES, max(_FEWEST_PROBES, total // _CALLS_FOR_A_PROBE))


def leg_for(slowest: float, leg_seconds: float) -> Leg:
    """The leg of all implementations of a framework in a case; it takes the slowest about `leg_seconds`.

    slowest: seconds per call of the slowest. A leg has at least one call. All implementations make the same
    numbers of calls, timed and untimed: the first calls of a leg are slower than later ones, so a longer leg
    would have an advantage. (Measured: identical code whose legs differed in length, by noise in `slowest`,
    came out different in 8 of 35 comparisons; with equal legs in 1 of 25.)
    """
    calls = max(1, round(leg_seconds / ROUNDS_PER_LEG / slowest))
    rounds = min(ROUNDS_PER_LEG, max(1, round(leg_seconds / (calls * slowest))))
    warm_up = 0
    if slowest < leg_seconds:
        warm_up = max(1, round(_WARM_UP_SHARE * leg_seconds / slowest))
    settle = max(warm_up, math.ceil(_SETTLE_SECONDS / slowest))
    return Leg(rounds=rounds, calls=calls, warm_up=warm_up, settle=settle)


def legs(
    implementations: Sequence[Implementation], seconds: Mapping[str, float], leg_seconds: float
) -> dict[str, Leg]:
    """The leg of each implementation, by name; `seconds` per call.

    Those that come with Fuseproof set the length for their framework. One from outside gets the same, unless
    it is so slow that the run would wait for it: it must not choose the legs of its baseline.
    """
    slowest: dict[str, float] = {}
    for each in sorted(implementations, key=lambda one: one.is_foreign):
        if not each.is_foreign or each.framework not in slowest:
            slowest[each.framework] = max(slowest.get(each.framework, 0.0), seconds[each.name])
    found = {}
    for each in implementations:
        shared = slowest[each.framework]
        own = seconds[each.name] if seconds[each.name] > _MUCH_SLOWER * shared else shared
        found[each.name] = leg_for(own, leg_seconds)
    return found


def palindrome(groups: Sequence[Sequence[T]], seed: Sequence[int]) -> tuple[list[T], list[T]]:
    """The two halves of a palindrome: groups and their items in an order drawn from `seed`, then mirrored.

    Mirroring cancels a drift that is linear in time. Drawing leaves to chance which item comes before which:
    a leg depends on the one before it, so in a fixed order, rotated or not, identical items would differ.
    Groups (the frameworks) stay together, as a change of framework costs most.
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
