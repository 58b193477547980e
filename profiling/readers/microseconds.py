"""Converts the decimal microseconds of trace files to integer nanoseconds, exactly."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Microseconds above which neighbouring float64 are more than a nanosecond apart.
_EXACT_FLOAT = float(1 << 42)
_NUMBERS = frozenset((int, float))


def needs_text(values: list[Any]) -> bool:
    """Whether a float among the values may have lost nanoseconds, so that its text must be parsed instead."""
    return any(type(value) is float and abs(value) > _EXACT_FLOAT for value in values)


def to_nanoseconds(values: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """([n] int64 nanoseconds, [n] bool whether the value is a number that fits; else the nanoseconds are 0).

    Fractions of a nanosecond are rounded.
    """
    if set(map(type, values)) <= _NUMBERS:
        try:
            micro = np.array(values, np.float64)
        except OverflowError:
            return _one_by_one(values)
        with np.errstate(invalid="ignore"):
            known = np.abs(micro) < 1e15 * 9
        micro = np.where(known, micro, 0.0)
        whole = np.floor(micro)
        # Whole and fraction apart: the product of a large time and 1000 would be rounded.
        return whole.astype(np.int64) * 1000 + np.rint((micro - whole) * 1000).astype(np.int64), known
    return _one_by_one(values)


def as_text(nanoseconds: int) -> str:
    """Nanoseconds as microseconds with three decimals."""
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{abs(nanoseconds) // 1000}.{abs(nanoseconds) % 1000:03d}"


def _one_by_one(values: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    out = np.zeros(len(values), np.int64)
    known = np.zeros(len(values), np.bool_)
    for i, value in enumerate(values):
        exact = _parse(value)
        if exact is not None and abs(exact) < 1 << 62:
            out[i], known[i] = exact, True
    return out, known


def _parse(value: Any) -> int | None:
    if type(value) is int:
        return value * 1000
    if type(value) is float:
        value = repr(value)
    if type(value) is not str or not 0 < len(value) <= 40:
        return None
    whole, _, decimals = value.partition(".")
    if whole.isascii() and whole.isdigit() and decimals.isascii() and len(decimals) <= 3:
        if not decimals:
            return int(whole) * 1000
        if decimals.isdigit():
            return int(whole) * 1000 + int(decimals.ljust(3, "0"))
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() > 30:
        return None
    return int((number * 1000).to_integral_value())
