"""Positions on the page's plots, in percent of a plot's width; the template draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fuseproof.reports.report.summary import Interval, NullControl
from fuseproof.units import compact

RUG_WIDTH = 1000  # viewBox width of a rug path; stretched to the plot by the browser
_MARGIN = 1.04  # of an axis at either end, at least


@dataclass(frozen=True, kw_only=True)
class LogScale:
    """Positions on a logarithmic axis. Values beyond either end are drawn at that end."""

    low: float
    high: float

    def x(self, value: float) -> float:
        if value <= 0:
            return 0.0
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self, suffix: str = "") -> list[tuple[float, str]]:
        """A handful of round numbers, as (position, label)."""
        for mantissas in ((1,), (1, 2, 5), (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)):
            values = self._decades(mantissas)
            if len(values) >= 4:
                break
        else:
            values = self._even_steps()
        values = values[:: math.ceil(len(values) / 9)]
        return [(self.x(v), (f"{v:.4g}" if 1e-3 <= v < 1e3 else compact(v, 1)) + suffix) for v in values]

    def _decades(self, mantissas: Sequence[float]) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        values = (m * 10.0**e for e in range(first, last + 1) for m in mantissas)
        return [v for v in values if self.low <= v <= self.high]

    def _even_steps(self) -> list[float]:
        """For an axis within one decade: steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / 7
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(n * step, 12) for n in range(first, last + 1) if n > 0]


def scale_over(values: Iterable[float]) -> LogScale:
    """An axis that holds all of `values`, with a margin."""
    usable = [v for v in values if math.isfinite(v) and v > 0] or [1.0]
    low, high = min(usable), max(usable)
    margin = max(_MARGIN, (high / low) ** 0.03)
    return LogScale(low=low / margin, high=high * margin)


def forest_scale(speedups: Sequence[Interval], others: Iterable[float] = ()) -> LogScale:
    """An axis for every estimate and the `others`, and for intervals up to 1.5 times further out.

    One runaway interval must not press all the others together; it is cut off and marked.
    """
    values = [*(s.value for s in speedups), *others]
    reach_low, reach_high = min(values) / 1.5, max(values) * 1.5
    ends = [end for s in speedups for end in (s.low, s.high) if end is not None]
    return scale_over([*values, *(min(max(end, reach_low), reach_high) for end in ends)])


def null_scale(control: NullControl | None) -> LogScale:
    return forest_scale([twin.ratio for twin in control.twins] if control else [], [1.0])


def mark(interval: Interval) -> str:
    """faster, slower, or even: the interval contains 1 or there is no interval."""
    if interval.low is not None and interval.low > 1:
        return "faster"
    if interval.high is not None and interval.high < 1:
        return "slower"
    return "even"


def rug(scale: LogScale, values: Iterable[float]) -> str:
    """An SVG path with one short stroke per value."""
    return "".join(f"M{scale.x(v) * RUG_WIDTH / 100:.0f} 0v1" for v in values)
