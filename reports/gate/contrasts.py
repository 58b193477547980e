"""How much slower head is than base, in ln(seconds), and what that says: intervals and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fuseproof.reports.gate.result import GateRow

Floats = NDArray[np.float64]

ALPHA = 0.025
LARGE = 0.10


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The mean of head - base in ln(seconds), its standard error with degrees of freedom, and the A/A noise.

    noise: a slowdown that identical code may show, as a fraction; a margin is at least as wide.
    """

    difference: float
    error: float
    degrees: float
    noise: float

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return float(stats.t.ppf(1 - ALPHA, self.degrees)) * self.error if self.error > 0 else 0.0

    def p_value(self, margin: float) -> float:
        """One-sided, that head is slower by no more than the margin."""
        beyond = self.difference - math.log1p(margin)
        if self.error > 0:
            return float(stats.t.sf(beyond / self.error, self.degrees))
        return float(beyond <= 0)  # no spread at all, as in files with rounded or made-up samples


def of_separate(base: Floats, head: Floats) -> Contrast:
    """Welch's, of blocks that were measured apart; the noise is the deviation between base's blocks."""
    variances = base.var(ddof=1) / len(base), head.var(ddof=1) / len(head)
    error = math.sqrt(sum(variances))
    by_side = zip(variances, (base, head), strict=True)
    degrees = error**4 / sum(v**2 / (len(side) - 1) for v, side in by_side) if error > 0 else math.inf
    return Contrast(
        difference=float(head.mean() - base.mean()),
        error=error,
        degrees=degrees,
        noise=min(math.expm1(base.std(ddof=1)), LARGE),
    )


def of_rounds(
    base: Mapping[int, float], head: Mapping[int, float], null: Mapping[int, float]
) -> Contrast | None:
    """Student's, of rounds in which both sides took turns; None with less than two rounds in common.

    null: base measured again in the same rounds. How far its mean is from base's is the noise.
    """
    both, twice = sorted(base.keys() & head.keys()), sorted(base.keys() & null.keys())
    if len(both) < 2:
        return None
    differences = np.array([head[each] - base[each] for each in both])
    again = np.array([null[each] - base[each] for each in twice])
    return Contrast(
        difference=float(differences.mean()),
        error=float(differences.std(ddof=1)) / math.sqrt(len(both)),
        degrees=len(both) - 1,
        noise=min(math.expm1(abs(float(again.mean()))), LARGE) if len(again) else 0.0,
    )


def rows(contrasts: Mapping[str, Contrast], margin: float, alarms: Mapping[str, float]) -> dict[str, GateRow]:
    """The verdicts on all, judged together.

    alarms: slowdowns that the null control took for real, 1.05 for 5 %.
    """
    found: dict[str, GateRow] = {}
    p_values = []
    for name, contrast in contrasts.items():
        raised = max(margin, contrast.noise, alarms.get(name, 1.0) - 1)
        p_values.append(contrast.p_value(raised))
        low, high = contrast.difference - contrast.half_width, contrast.difference + contrast.half_width
        found[name] = GateRow(
            name=name,
            verdict="pass",
            slowdown=math.exp(contrast.difference),
            ci=(math.exp(low), math.exp(min(high, 700.0))),
            margin=raised,
        )
    large = max(LARGE, 2 * margin)
    for row, p in zip(list(found.values()), holm(p_values), strict=True):
        assert row.ci is not None and row.margin is not None
        if p <= ALPHA:
            reason = f"at least {row.ci[0] - 1:.1%} slower, margin {row.margin:.1%}"
            found[row.name] = replace(row, verdict="regression", reason=reason)
        elif row.ci[1] > 1 + large:
            reason = f"too noisy: up to {row.ci[1] - 1:.0%} slower is not excluded; measure more blocks"
            found[row.name] = replace(row, verdict="inconclusive", reason=reason)
        elif row.margin > margin:
            found[row.name] = replace(row, reason="margin raised to the noise of base")
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: compare each with the family's level (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    return [float(p) for p in adjusted]
