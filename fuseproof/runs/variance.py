"""Where the interval of a mean over cases comes from, and what would narrow it for the least time.

ln(speedup) of a palindrome = mean + case + block within the case + palindrome within the block: a nested
design. The decomposition is by the method of moments, on the values that the statistics use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fuseproof.runs.statistics import Floats

Palindromes = Sequence[Sequence[Floats]]  # for each case and block the log ratios of its palindromes


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """What one more of each takes in one case.

    palindrome: all its legs. block: its palindromes and its part of starting processes. case: its checks, its
    compilation and all its blocks.
    """

    palindrome: float
    block: float
    case: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Variance of the mean of ln(speedup) over `cases` cases with `blocks` blocks of `palindromes` each.

    from_rounds, from_blocks, from_cases: its parts, which add up to the squared standard error of the mean
    for cases like these. blocks, palindromes: typical numbers (harmonic mean, median).
    """

    cases: int
    blocks: float
    palindromes: float
    from_rounds: float
    from_blocks: float
    from_cases: float

    @property
    def variance(self) -> float:
        return self.from_rounds + self.from_blocks + self.from_cases

    @property
    def shares(self) -> dict[str, float]:
        """Of the variance: by `rounds`, `blocks` and `cases`; NaN where there is none."""
        parts = {"rounds": self.from_rounds, "blocks": self.from_blocks, "cases": self.from_cases}
        return {name: part / self.variance if self.variance else math.nan for name, part in parts.items()}

    def narrowing(self) -> dict[str, float]:
        """By what fraction the standard error falls with one more `palindrome` in every block, one more
        `block` of every case, and one more `case`; 0 where nothing varies."""
        measurement = self.from_rounds + self.from_blocks
        saved = {
            "palindrome": self.from_rounds / (self.palindromes + 1),
            "block": measurement / (self.blocks + 1),
            "case": self.variance / (self.cases + 1),
        }
        return {
            name: 1 - math.sqrt(1 - part / self.variance) if self.variance else 0.0
            for name, part in saved.items()
        }

    def per_second(self, seconds: Seconds) -> Mapping[str, float]:
        """`narrowing` for each second that it takes, the most worthwhile first."""
        narrowing = self.narrowing()
        cost = {
            "palindrome": self.cases * self.blocks * seconds.palindrome,
            "block": self.cases * seconds.block,
            "case": seconds.case,
        }
        found = {name: narrowing[name] / cost[name] for name in narrowing}
        return dict(sorted(found.items(), key=lambda each: -each[1]))


def budget(palindromes: Palindromes) -> Budget:
    """The nested decomposition; parts that the others already explain are 0, never negative.

    What palindromes add to a block's value, which is their median, is its squared standard error by the
    median absolute deviation, as where a block's end is decided; one palindrome shows no spread, and its
    noise is the block's then. Raises ValueError without two cases, or if none has two blocks.
    """
    blocks = np.array([len(case) for case in palindromes])
    if len(blocks) < 2 or blocks.max() < 2 or blocks.min() < 1:
        raise ValueError("a variance budget needs two cases with a block each, and two blocks in one of them")
    values = [np.array([np.median(block) for block in case]) for case in palindromes]
    rounds = float(np.mean([_variance_of_median(block) for case in palindromes for block in case]))
    freedom = blocks - 1
    between_blocks = float(sum(((case - case.mean()) ** 2).sum() for case in values) / freedom.sum())
    between_cases = float(np.var([case.mean() for case in values], ddof=1))
    per_case = float(np.mean(1 / blocks))
    count = len(blocks)
    return Budget(
        cases=count,
        blocks=1 / per_case,
        palindromes=float(np.median([len(block) for case in palindromes for block in case])),
        from_rounds=min(rounds, between_blocks) * per_case / count,
        from_blocks=max(0.0, between_blocks - rounds) * per_case / count,
        from_cases=max(0.0, between_cases - between_blocks * per_case) / count,
    )


def _variance_of_median(values: Floats) -> float:
    return float(math.pi / 2 * stats.median_abs_deviation(values, scale="normal") ** 2 / len(values))
