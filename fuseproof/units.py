"""Numbers as a reader sees them: three significant digits, always with a unit, intervals in brackets.

`numbers.js` of the timeline viewer writes times and sizes by the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

TimeUnit = Literal["ns", "cycles"]  # of a timeline; cycles: of a static schedule

NONE: Final = "–"
SECONDS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_DURATIONS: Final[Mapping[str, tuple[tuple[float, str], ...]]] = {
    "s": SECONDS,
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")),
    "cycles": ((1e9, "Gcycles"), (1e6, "Mcycles"), (1e3, "kcycles"), (1.0, "cycles")),
}
_SIZES: Final = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
# A value above this share of a unit reads as 1.00 of it, not as 1,000 of the next smaller one.
_ROUNDS_UP: Final = 0.9995


def significant(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits, without an exponent where that stays readable."""
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
    for start, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= start * _ROUNDS_UP:
            return f"{significant(value / size, digits)}{letter}"
    return significant(value, digits)


def bracket(low: float | None, high: float | None) -> str:
    """An interval; empty where it is unknown or unbounded, so that a lone block never looks precise."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{compact(low)}–{compact(high)}]"


def times(value: float | None) -> str:
    """A ratio: 1.35×."""
    return NONE if value is None or not math.isfinite(value) else f"{compact(value)}×"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which `seconds` reads as 1 to 999: (its size in seconds, its name)."""
    return _unit(seconds, SECONDS)


def duration(length: float | None, unit: Literal["s", "ns", "cycles"] = "s") -> str:
    """A length of time that is given in `unit`: 1.23 ms; of a static schedule 1.23 kcycles."""
    if length is None or not math.isfinite(length):
        return NONE
    size, name = _unit(length, _DURATIONS[unit])
    return f"{significant(length / size)} {name}"


def memory(count: float | None) -> str:
    """Bytes: 3.00 MiB, 12 B."""
    if count is None:
        return NONE
    size, name = next((each for each in _SIZES if count >= each[0]), (1, "B"))
    return f"{significant(count / size)} {name}" if size > 1 else f"{count:g} B"


def number(value: float) -> str:
    """A count, or a mean of counts: without decimals if it is whole, else with two."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def whole(count: int | None) -> str:
    """A count that may be unknown."""
    return NONE if count is None else f"{count:,}"


def count(number: int, noun: str) -> str:
    """1 case, 2,000 cases."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float | None) -> str:
    """0.5 as 50.0 %, which does not break across lines."""
    return NONE if share is None or not math.isfinite(share) else f"{significant(100 * share)}\u00a0%"


def _unit(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    return next((unit for unit in units if value >= unit[0] * _ROUNDS_UP), units[-1])
