"""Does the harness add time to a call? Loops over the same work take turns in one process.

`tools/neutrality.py` compares a worker's batch with the loop that a user writes; `call_overhead` is the
figure that a worker records of itself.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.frameworks import Framework

Loop = Callable[[int], float]  # makes so many calls; the seconds that they took together
Floats = NDArray[np.float64]

# What a difference may be, of the time of a call or in seconds, whichever is more.
LIMIT = 0.005
LIMIT_SECONDS = 0.2e-6

# Calls before each timed leg: what another loop left in the caches is no part of the difference.
_UNTIMED = 2

_OVERHEAD_ALTERNATIONS = 101
_OVERHEAD_CALLS = 500


@dataclass(frozen=True, kw_only=True)
class Difference:
    """By how much one loop takes longer than another: the median of paired ratios, minus 1.

    low, high: its 95 % interval, of order statistics (the inverse of the sign test).
    seconds:   a call of the other loop, its median.
    """

    value: float
    low: float
    high: float
    seconds: float

    @property
    def limit(self) -> float:
        """The most that counts as none, of the time of a call."""
        return max(LIMIT, LIMIT_SECONDS / self.seconds)

    @property
    def verdict(self) -> str:
        """`neutral`: the interval is within the limit. `slower`, `faster`: it is beyond. Else `unclear`."""
        if -self.limit <= self.low and self.high <= self.limit:
            return "neutral"
        if self.low > self.limit:
            return "slower"
        return "faster" if self.high < -self.limit else "unclear"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "limit": self.limit, "verdict": self.verdict}


def alternate(loops: Mapping[str, Loop], *, calls: int, alternations: int, seed: int) -> dict[str, Floats]:
    """Seconds per call of each loop, one leg of each in every alternation; the order is drawn."""
    generator = np.random.default_rng(seed)
    names = list(loops)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(alternations):
        for index in generator.permutation(len(names)):
            loop = loops[names[index]]
            loop(_UNTIMED)
            seconds[names[index]].append(loop(calls) / calls)
    return {name: np.asarray(values) for name, values in seconds.items()}


def difference(one: Floats, other: Floats) -> Difference:
    """Of two loops that took turns. Their times in one alternation are a pair, so that drift cancels."""
    from scipy import stats  # here, as a worker never needs it and would start a third of a second later

    logarithms = np.log(one / other)
    interval = stats.quantile_test(logarithms, p=0.5).confidence_interval(0.95)
    value, low, high = (
        float(np.expm1(each)) for each in (np.median(logarithms), interval.low, interval.high)
    )
    return Difference(value=value, low=low, high=high, seconds=float(np.median(other)))


def call_overhead(framework: Framework) -> float:
    """Seconds that a worker's batch adds to a call of a function that does nothing, over a user's loop.

    Takes a tenth of a second. It can be a little below zero.
    """
    x, weight, bias = (framework.from_numpy(np.zeros(8, np.float32), "float32") for _ in range(3))

    def nothing(x: Any, weight: Any, bias: Any) -> Any:
        return x

    call = functools.partial(nothing, x, weight, bias)

    def batch(calls: int) -> float:
        return framework.batch(itertools.repeat(call, calls)).host

    def bare(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            output = nothing(x, weight, bias)
        framework.synchronize(output)
        return time.perf_counter() - started

    seconds = alternate(
        {"batch": batch, "bare": bare}, calls=_OVERHEAD_CALLS, alternations=_OVERHEAD_ALTERNATIONS, seed=0
    )
    return float(np.median(seconds["batch"] - seconds["bare"]))
