"""Numbers as a reader sees them: three significant digits, always with a unit, intervals in brackets."""

from __future__ import annotations

import math

NONE = "–"
TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def significant(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits without an exponent where that stays readable."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -2 or exponent > 8:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{rounded:,.{max(digits - 1 - exponent, 0)}f}"


def compact(value: float, digits: int = 3) -> str:
    """A number of any size in few digits: 950, 9,500, 12.3k, 1.34M."""
    for start, size, letter in ((0.9995e9, 1e9, "G"), (0.9995e6, 1e6, "M"), (0.9995e4, 1e3, "k")):
        if value >= start:
            return f"{significant(value / size, digits)}{letter}"
    return significant(value, digits)


def bracket(low: float | None, high: float | None) -> str:
    """An interval; empty when there is none, so that a lone block never looks precise."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{compact(low)}–{compact(high)}]"


def times(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{compact(value)}×"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which `seconds` reads as 1 to 999: (its size in seconds, its name)."""
    return next((unit for unit in TIME_UNITS if seconds >= unit[0]), TIME_UNITS[-1])


def duration(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return NONE
    size, name = time_unit(seconds)
    return f"{significant(seconds / size)} {name}"


def rate(per_second: float | None, unit: str) -> str:
    return NONE if per_second is None else f"{significant(per_second / 1e9)} G{unit}/s"


def memory(count: float | None) -> str:
    if count is None:
        return NONE
    for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{significant(count / size)} {name}"
    return f"{count:g} B"


def whole(count: int | None) -> str:
    return NONE if count is None else f"{count:,}"


def percent(share: float | None) -> str:
    return NONE if share is None or not math.isfinite(share) else f"{significant(100 * share)}\u00a0%"
