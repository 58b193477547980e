"""The rule: an interval and a share against a claimed band.

Of the mean every verdict rests on the 95 % interval, so that at each end of a band at most 2.5 % are wrong
(docs/explanation/statistics-simulated.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from fuseproof.runs import population

UNDECIDABLE = "undecidable"
VERDICTS = (
    "supported", "mean-only", "refuted-low", "refuted-high", "inconclusive", "insufficient", UNDECIDABLE,
)  # fmt: skip
MIN_BLOCKS = 5
MIN_CASES = 5
_HALF = 0.5


def of_mean(ci95: tuple[float, float], band: tuple[float, float], *, is_count: bool = False) -> str:
    """`supported`, `refuted-low`, `refuted-high` or `inconclusive`.

    is_count: figures that repeat exactly: a mean on the lower end of a band, such as 1 for "less", is not in
        it, and refuted.
    """
    (low, high), (least, most) = ci95, band
    if high < least or (is_count and high == least):
        return "refuted-low"
    if low > most:
        return "refuted-high"
    above = least < low if is_count else least <= low
    return "supported" if above and high <= most else "inconclusive"


def typical_share(hits: Sequence[bool], families: Sequence[str]) -> population.Share:
    """Of all cases, failed ones included, those that show the claimed gain, by families."""
    return population.share_by_families(hits, families) if hits else population.share(0, 0)


def verdict(of_the_mean: str, *, typical: bool, share: population.Share) -> str:
    """`mean-only` instead of `supported` where a claim says "typically" and that of half is not shown."""
    return "mean-only" if of_the_mean == "supported" and typical and share.low < _HALF else of_the_mean
