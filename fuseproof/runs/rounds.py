"""What a speedup is of: the same comparison by the median and by the mean of the rounds.

A leg's time is near the minimum of its rounds, because that is steady on a shared machine. It hides what
costs only sometimes: garbage collection, allocation, tuning anew, synchronisation. The median shows what
costs in most rounds, the mean (throughput) all of it, and disturbances by other programs too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from fuseproof import units
from fuseproof.runs import statistics
from fuseproof.runs.records import Benchmark
from fuseproof.runs.statistics import Estimate


@dataclass(frozen=True, kw_only=True)
class RoundSpeedups:
    """One speedup by three times of a call, each with t intervals over blocks.

    fast:    by the low end of each leg's rounds, as `statistics.speedup`; what is called the speedup.
    median:  by the median of each leg's rounds.
    mean:    by all rounds: the baseline's time over the candidate's for the same number of calls.
    doubted: which of "median" and "mean" contradict `fast`.
    """

    fast: Estimate
    median: Estimate
    mean: Estimate
    doubted: tuple[str, ...]

    @property
    def doubt(self) -> str | None:
        """What a reader has to know, as a sentence without its full stop; None where the three agree."""
        if not self.doubted:
            return None
        others = " and ".join(
            f"{units.times(getattr(self, name).value)} by their {name}" for name in self.doubted
        )
        fast = f"{units.times(self.fast.value)} {units.bracket(*self.fast.ci95)}"
        return f"{fast} by the fast rounds, but {others}: calls cost more at some times than at others"


def speedups(baseline: Benchmark, candidate: Benchmark) -> RoundSpeedups:
    """The speedup by the fast rounds, by their median and by their mean, and whether the three agree.

    Median and mean are doubted where they lie outside the 95 % interval of the fast rounds, and the ratio of
    the two, block by block, has a 95 % interval without 1: on a shared machine a few disturbed rounds move a
    mean far, but not in the same direction in every block. One block has no interval and no doubt.
    Raises ValueError as `statistics.speedup` does.
    """
    fast = statistics.block_log_ratios(baseline, candidate)
    if not fast:
        raise ValueError(f"{baseline.name} and {candidate.name} have no block in common")
    median = statistics.block_log_ratios(baseline, candidate, statistics.log_median_leg_times)
    ratios = {
        name: np.array(list(by_block.values()))
        for name, by_block in (
            ("fast", fast),
            ("median", median),
            ("mean", throughput_log_ratios(baseline, candidate)),
        )
    }
    found = {name: statistics.ratio_estimate(values) for name, values in ratios.items()}
    return RoundSpeedups(
        **found,
        doubted=tuple(
            name
            for name in ("median", "mean")
            if not _contains(found["fast"], found[name].value)
            and not _contains(statistics.ratio_estimate(ratios[name] - ratios["fast"]), 1.0)
        ),
    )


def throughput_log_ratios(baseline: Benchmark, candidate: Benchmark) -> dict[int, float]:
    """Per block ln(baseline's mean time of a call / candidate's), over the legs that both have.

    Raises ValueError if the two differ in case, metric or cache regime.
    """
    legs = statistics.shared_legs(baseline, candidate, statistics.log_mean_leg_times)
    found = {}
    for block in np.unique(legs.block):
        inside = legs.block == block
        one, other = special.logsumexp(legs.baseline[inside]), special.logsumexp(legs.candidate[inside])
        found[int(block)] = float(one - other)
    return found


def _contains(estimate: Estimate, value: float) -> bool:
    """Whether the interval does, but for rounding: equal samples have intervals without any width."""
    low, high = estimate.ci95
    return low <= value <= high or math.isclose(estimate.value, value, rel_tol=1e-9)
