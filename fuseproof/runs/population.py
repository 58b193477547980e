"""What a population of cases says: shares in a band, means that hide nothing, and what they rest on.

A case that failed is a member like others. In shares it is counted apart, of the same total. In a mean it is
a speedup of 1, since whoever adds the line and gets an error goes back to the baseline; the mean of the
measured cases stands beside it, and so does the one that others publish.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fuseproof.runs import statistics
from fuseproof.runs.statistics import Estimate, Floats, Integers

_LOG_OF_FAILED = 0.0  # ln 1
_MAJORITY = 0.5
# Of all sizes that `cases_for_typical` looks at; a share that needs more is a majority that nobody can show.
_MOST_CASES = 10_000


@dataclass(frozen=True, kw_only=True)
class Member:
    """One case of a population.

    family:     workload or architecture; cases of one family resemble each other.
    log_ratios: by block ln(speedup), as `statistics.block_log_ratios` gives them; empty if the case failed.
    """

    family: str
    log_ratios: Mapping[int, float]

    @property
    def failed(self) -> bool:
        return not self.log_ratios

    @property
    def log_speedup(self) -> float:
        """Mean over blocks; 0 if it failed."""
        return float(np.mean([*self.log_ratios.values()])) if self.log_ratios else _LOG_OF_FAILED


@dataclass(frozen=True, kw_only=True)
class Share:
    """`count` of `of` cases, with the 95 % Wilson interval of the share; (0, 1) where there is no case.

    effective: how many independent cases they are worth, by which the interval is as wide as it is.
    """

    count: int
    of: int
    low: float
    high: float
    effective: float


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How many cases lie below, inside (ends included) and above a band of speedups, and how many failed.

    The four counts add up to all cases.
    """

    band: tuple[float, float]
    below: Share
    inside: Share
    above: Share
    failed: Share


@dataclass(frozen=True, kw_only=True)
class Means:
    """Geometric means of one population; the intervals of an Estimate cover the measurement only.

    all:        every case, slower ones as they are and failed ones as 1.
    over_cases: 95 % interval of `all` for cases like these: families, their cases and blocks resampled.
    measured:   failed cases left out.
    flattering: failed cases left out and slower ones clipped at 1, as torch's dynamo runner once published
        it (benchmarks/dynamo/runner.py): what a mean of that kind hides is its distance from `all`.
    """

    cases: int
    failed: int
    slower: int
    all: Estimate
    over_cases: tuple[float, float]
    measured: Estimate
    flattering: float


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The lowest and the highest geometric mean over all families but one, and without which one it is so."""

    low: float
    low_without: str
    high: float
    high_without: str


def share(count: int, of: int) -> Share:
    """Of independent cases. Raises ValueError unless 0 <= count <= of."""
    if of == 0 == count:
        return Share(count=0, of=0, low=0.0, high=1.0, effective=0.0)
    found = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    return Share(count=count, of=of, low=float(found.low), high=float(found.high), effective=float(of))


def share_by_families(hits: Sequence[bool], families: Sequence[str]) -> Share:
    """Of cases that resemble each other within a family: four variants of one model are not four models.

    hits, families: one for each case. Wilson's interval with the effective number of cases, which is their
    number over the design effect: the variance of the share between families over that of independent cases,
    at least 1 and at most what it is if all cases of a family are alike (Kish, Survey Sampling, 1965; Korn
    and Graubard, Survey Methodology 24, 1998). With one case of each family it is Wilson's own.
    """
    count, cases = sum(map(bool, hits)), len(hits)
    _, family, sizes = np.unique([*families], return_inverse=True, return_counts=True)
    if len(sizes) == cases:
        return share(count, cases)
    p = count / cases
    most = float((sizes**2).sum() / cases)
    effect = most
    if 0 < count < cases and len(sizes) > 1:
        residuals = np.bincount(family, np.asarray(hits, dtype=np.float64)) - p * sizes
        between = len(sizes) / (len(sizes) - 1) * float((residuals**2).sum()) / cases**2
        effect = min(max(between / (p * (1 - p) / cases), 1.0), most)
    low, high = _wilson(p, cases / effect)
    return Share(count=count, of=cases, low=low, high=high, effective=cases / effect)


def _wilson(p: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson interval of a share of n cases, n not necessarily whole, which SciPy's has to be."""
    z = float(stats.norm.ppf(0.975))
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def shares(members: Sequence[Member], band: tuple[float, float]) -> Shares:
    """Where the speedups lie, by `share_by_families`."""
    low, high = band
    families = [member.family for member in members]
    speedups = [math.nan if member.failed else math.exp(member.log_speedup) for member in members]
    return Shares(
        band=band,
        below=share_by_families([value < low for value in speedups], families),
        inside=share_by_families([low <= value <= high for value in speedups], families),
        above=share_by_families([value > high for value in speedups], families),
        failed=share_by_families([member.failed for member in members], families),
    )


def means(members: Sequence[Member]) -> Means:
    """Raises ValueError if no case was measured."""
    measured = [member for member in members if not member.failed]
    if not measured:
        raise ValueError("no case of the population was measured")
    levels = np.array([member.log_speedup for member in measured])
    ratios = _matrix(members)
    return Means(
        cases=len(members),
        failed=len(members) - len(measured),
        slower=int((levels < 0).sum()),
        all=statistics.mean_of_ratios(ratios),
        over_cases=statistics.interval_over_cases(ratios, [member.family for member in members]),
        measured=statistics.mean_of_ratios(_matrix(measured)),
        flattering=math.exp(np.maximum(levels, 0.0).mean()),
    )


def leave_one_family_out(members: Sequence[Member]) -> LeftOut | None:
    """How far the mean of all cases depends on one family; None if there are not two."""
    families = sorted({member.family for member in members})
    if len(families) < 2:
        return None
    found = {
        family: math.exp(np.mean([member.log_speedup for member in members if member.family != family]))
        for family in families
    }
    low, high = min(families, key=found.__getitem__), max(families, key=found.__getitem__)
    return LeftOut(low=found[low], low_without=low, high=found[high], high_without=high)


def typical_power(cases: int, true_share: float) -> float:
    """Probability that the lower Wilson bound of the share inside a band is at least one half.

    true_share: of all cases like these, those inside it. Cases are taken as independent.
    """
    return float(_power(np.array([cases]), true_share)[0])


def cases_for_typical(true_share: float, power: float = 0.8) -> int:
    """How many independent cases "typical" needs: from that number on the power is reached.

    The power rises in a sawtooth, because counts are whole; the number is the last tooth's.
    Raises ValueError for a share that is no majority, or one so small that it needs more than 10,000 cases.
    """
    if not _MAJORITY < true_share <= 1:
        raise ValueError(f"no number of cases shows that a share of {true_share:g} is a majority")
    sizes = np.arange(1, _MOST_CASES + 1)
    short = np.flatnonzero(_power(sizes, true_share) < power)
    if len(short) and short[-1] == len(sizes) - 1:
        raise ValueError(f"a share of {true_share:g} needs more than {_MOST_CASES:,} cases")
    return int(sizes[short[-1] + 1]) if len(short) else 1


def _power(cases: Integers, true_share: float) -> Floats:
    """As `typical_power`. Wilson's bound inverts the score test, so it is at least p where the count is at
    least n·p + z·√(n·p·(1 - p))."""
    z = stats.norm.ppf(0.975)
    least = np.ceil(cases * _MAJORITY + z * np.sqrt(cases * _MAJORITY * (1 - _MAJORITY)))
    return np.asarray(stats.binom.sf(least - 1, cases, true_share), dtype=np.float64)


def _matrix(members: Sequence[Member]) -> Floats:
    """Log ratios, cases × blocks; a case that failed did so in every block."""
    ratios = statistics.ratio_matrix([member.log_ratios for member in members])
    ratios[[member.failed for member in members]] = _LOG_OF_FAILED
    return ratios
