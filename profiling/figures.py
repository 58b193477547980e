"""Counts and lengths of time as a reader sees them in the text of a page or a terminal."""

from __future__ import annotations

import math
from typing import Final

from fuseproof.profiling.timeline.model import TimeUnit


def number(count: float) -> str:
    """Counts per call: whole where they are."""
    return f"{count:,.0f}" if count == int(count) else f"{count:,.2f}"


_SIZES: Final[dict[TimeUnit, tuple[tuple[float, str], ...]]] = {
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")),
    "cycles": ((1e9, "Gcycles"), (1e6, "Mcycles"), (1e3, "kcycles"), (1, "cycles")),
}


def duration(length: float, unit: TimeUnit = "ns") -> str:
    """Three significant digits."""
    size, name = next((each for each in _SIZES[unit] if length >= each[0] * 0.9995), _SIZES[unit][-1])
    value = length / size
    return (
        f"{value:.{max(0, 2 - int(math.log10(max(value, 1))))}f} {name}"
        if size > 1
        else f"{value:.0f} {name}"
    )


def size(count: int) -> str:
    """Bytes in the largest unit that leaves at least one."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:,.2f} {name}"
    return f"{count} B"
