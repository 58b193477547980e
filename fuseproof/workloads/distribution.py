"""Results that are drawn, as dropout's are: one draw is compared with many of the reference's.

Two figures of a tensor are compared, which are sums over its elements: how far a draw is from the mean of the
draws, and how long it is along that mean. They show another rate, a forgotten scale, values that are not
drawn at all; they do not show an error of a percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Draws of the reference; of a module that takes several steps, which cost as many times more.
DRAWS, DRAWS_OF_STEPS = 32, 8
# After more training steps nothing is compared: each draw of the reference would take as many.
MOST_STEPS = 64

# A draw may be outside of the others by as much as they differ, about eight standard deviations from their
# mean, of a few elements by more, and by a little where they do not differ. The range of few says little (one
# honest draw in a thousand is that far from eight others): no more than this share may be outside.
_RANGES, _LITTLE, _BEYOND = 2.0, 0.005, 1e-6
# Adam's steps are of full size whatever a gradient's, so an element may turn round that did in no other draw:
# most must go where they usually go.
_OF_A_STEP, _FEW = 0.7, 8

_Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What the draws of one tensor have in common.

    mean:    (n,) of the elements, less `start`.
    spread:  root of the sum of the elements' variances.
    figures, allowed: the mean of each figure over the draws, and how far from it a draw may be.
    start:   (n,) of a parameter that takes a step: where it was before, else 0.
    """

    mean: _Reals
    spread: float
    figures: _Reals
    allowed: _Reals
    start: _Reals | float = 0.0

    @classmethod
    def of(cls, draws: Sequence[NDArray[Any]], start: NDArray[Any] | None = None) -> Drawn:
        before = 0.0 if start is None else np.asarray(start, np.float64).reshape(-1)
        values = np.stack([np.asarray(draw, np.float64).reshape(-1) for draw in draws]) - before
        count, mean = len(values), values.mean(axis=0)
        spread = float(np.sqrt(values.var(axis=0, ddof=1).sum()))
        # Each beside the mean of the others, as a result will be.
        others = (count * mean - values) / (count - 1)
        figures = np.array([_figures(*pair, spread) for pair in zip(values, others, strict=True)])
        from scipy import special  # at the top it would slow down `--help`

        quantile = -special.stdtrit(count - 1, _BEYOND / 2) * np.sqrt(1 + 1 / count)
        outside = np.maximum(_RANGES * np.ptp(figures, axis=0), quantile * figures.std(axis=0, ddof=1))
        allowed = (1 + _FEW / max(1, mean.size)) * outside + _LITTLE
        if start is not None:
            allowed[0] = np.inf
            usual = _OF_A_STEP * abs(figures[:, 1].mean())  # so that no step at all is outside
            allowed[1] = usual if mean.size >= _FEW else np.inf
        return cls(mean=mean, spread=spread, figures=figures.mean(axis=0), allowed=allowed, start=before)

    def distance(self, result: NDArray[Any]) -> float:
        """How far a result is from what may be drawn, 1 at the limit; NaN if any value is not finite."""
        if not np.isfinite(result).all():
            return float("nan")
        values = np.asarray(result, np.float64).reshape(-1) - self.start
        found = _figures(values, self.mean, self.spread)
        return float(np.max(np.abs(found - self.figures) / self.allowed))


def _figures(values: _Reals, mean: _Reals, spread: float) -> _Reals:
    """The distance from the mean in spreads, and the length along the mean in lengths of the mean.

    Without any spread, as of a result that is not drawn, the distance is in lengths of the mean too.
    """
    length = float(mean @ mean)
    unit = spread if spread > 1e-6 * np.sqrt(length) else np.sqrt(length)
    distance = float(np.linalg.norm(values - mean))
    return np.array([distance / unit if unit else distance, float(values @ mean) / length if length else 0.0])
