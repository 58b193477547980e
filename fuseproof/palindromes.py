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

# A share of the leg is spent on untimed calls, after which caches and threads are this implementation's own. A
# call that fills the leg by itself does that in its own first part.
_WARM_UP_SHARE = 0.2
# Within a block: stop when the standard error of every comparison is below this (nvbench's default is 0.5 %).
WITHIN_BLOCK_PRECISION = 0.005


@dataclass(frozen=True, kw_only=True)
class Leg:
    """`rounds` timed rounds of `calls` back-to-back calls, after `warm_up` untimed calls."""

    rounds: int
    calls: int
    warm_up: int


def leg_for(call_seconds: float, leg_seconds: float) -> Leg:
    """A leg of about `leg_seconds` for an implementation that needs `call_seconds`; one call at the least."""
    calls = max(1, round(leg_seconds / ROUNDS_PER_LEG / call_seconds))
    rounds = min(ROUNDS_PER_LEG, max(1, round(leg_seconds / (calls * call_seconds))))
    warm_up = 0
    if call_seconds < leg_seconds:
        warm_up = max(1, round(_WARM_UP_SHARE * leg_seconds / call_seconds))
    return Leg(rounds=rounds, calls=calls, warm_up=warm_up)


def palindrome(items: Sequence[T], index: int) -> tuple[list[T], list[T]]:
    """Both halves of palindrome `index`: each starts with another item, the second half mirrors the first.

    A drift that is linear in time cancels in the mean of an item's two legs.
    """
    start = index % len(items) if items else 0
    order = [*items[start:], *items[:start]]
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
