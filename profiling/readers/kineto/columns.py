"""The arguments of Kineto's events as columns, a few thousand events at a time.

NumPy converts a list of values if all have the type expected, which is nearly always; other lists are checked
value by value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.timeline.model import Column

_LIMIT = 1 << 62
_NUMBERS = (
    ("registers per thread", "registers"),
    ("shared memory", "shared_memory"),
    ("bytes", "bytes"),
    ("External id", "external_id"),
)
_TRIPLES = ("grid", "block")
_OCCUPANCY = "est. achieved occupancy %"
Pieces = list[tuple[NDArray[np.int64], NDArray[Any]]]


class ArgumentColumns:
    """Collects the correlation and the optional columns of slices, which are given by their index."""

    def __init__(self) -> None:
        self._pieces: dict[str, Pieces] = {}

    def add_work(self, index: list[int], arguments: list[dict[str, Any]]) -> None:
        """Add the arguments of slices that ran on a device."""
        self.add_launched(index, arguments)
        where = np.array(index, np.int64)
        for key, column in _NUMBERS:
            self._put(column, where, *_counts([each.get(key) for each in arguments]))
        # Kineto writes 0 for unknown.
        shares = [each.get(_OCCUPANCY) for each in arguments]
        known = [i for i, share in enumerate(shares) if isinstance(share, int | float) and 0 < share <= 100]
        self._put(
            "occupancy", where, np.array(known, np.int64), np.array([shares[i] for i in known], np.float64)
        )
        for key in _TRIPLES:
            self._put(key, where, *_triples([each.get(key) for each in arguments]))

    def add_launched(self, index: list[int], arguments: list[dict[str, Any]]) -> None:
        """Add the arguments of calls that may launch work."""
        found = _counts([each.get("correlation") for each in arguments])
        self._put("correlation", np.array(index, np.int64), *found)

    def add_operators(self, index: list[int], arguments: list[dict[str, Any]]) -> None:
        """Add the arguments of framework operators."""
        found = _counts([each.get("External id") for each in arguments])
        self._put("external_id", np.array(index, np.int64), *found)

    def _put(
        self, column: str, index: NDArray[np.int64], known: NDArray[np.int64], value: NDArray[Any]
    ) -> None:
        if len(known):
            self._pieces.setdefault(column, []).append((index[known], value))

    def correlation(self, slices: int) -> NDArray[np.int64]:
        """[slices] int64, -1 where unknown."""
        out = np.full(slices, -1, np.int64)
        for index, value in self._pieces.get("correlation", []):
            out[index] = value
        return out

    def columns(self, number: NDArray[np.int64]) -> dict[str, Column]:
        """The columns; `number` is the new index of each slice, -1 for slices that are left out."""
        found = {}
        for name, pieces in self._pieces.items():
            if name != "correlation":
                index = number[np.concatenate([each for each, _ in pieces])]
                value = np.concatenate([each for _, each in pieces])
                found[name] = Column(index=index[index >= 0], value=value[index >= 0])
        return found


def _counts(values: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places and values of the integers from 0 on."""
    if set(map(type, values)) == {int}:
        try:
            whole = np.array(values, np.int64)
        except OverflowError:
            pass
        else:
            known = np.flatnonzero((whole >= 0) & (whole < _LIMIT))
            return known, whole[known]
    chosen = [i for i, value in enumerate(values) if type(value) is int and 0 <= value < _LIMIT]
    return np.array(chosen, np.int64), np.array([values[i] for i in chosen], np.int64)


def _triples(values: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places and values [n, 3] of the lists of three integers from 0 on."""
    if set(map(type, values)) == {list} and set(map(len, values)) == {3}:
        flat = [number for value in values for number in value]
        known, numbers = _counts(flat)
        if len(known) == len(flat):
            return np.arange(len(values)), numbers.reshape(-1, 3)
    chosen = [
        i
        for i, value in enumerate(values)
        if type(value) is list
        and len(value) == 3
        and all(type(number) is int and 0 <= number < _LIMIT for number in value)
    ]
    return np.array(chosen, np.int64), np.array([values[i] for i in chosen], np.int64).reshape(-1, 3)
