"""Reads protobuf's wire format in columns: NumPy reads one field of all messages at a time.

Every length is checked against the message around it, so a damaged or hostile file raises WireError and
memory is in proportion to the file. https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Index = NDArray[np.int64]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
# Real events have a few dozen fields; each takes one pass over the messages that have it.
_MAX_FIELDS = 4096


class WireError(ValueError):
    """The bytes do not fit the wire format or the schema."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Messages as places in the data: message i is data[start[i]:end[i]]."""

    start: Index
    end: Index

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True, slots=True)
class Fields:
    """One field of some messages: raw bits of a number in `value`, the place of a string or message."""

    row: Index  # which message
    number: Index
    wire: Index
    value: NDArray[np.uint64]
    start: Index
    end: Index

    def only(self, number: int, wire: int) -> Fields:
        """The entries of one field number and wire type."""
        chosen = (self.number == number) & (self.wire == wire)
        if chosen.all():
            return self
        return Fields(
            self.row[chosen],
            self.number[chosen],
            self.wire[chosen],
            self.value[chosen],
            self.start[chosen],
            self.end[chosen],
        )


def scalar_fields(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, wire type, value, start, end) of each field of one message; start and end of its content."""
    raw = data.data
    while start < end:
        tag, start = varint(raw, start, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError("field 0")
        if wire == VARINT:
            value, start = varint(raw, start, end)
            yield number, wire, value, start, start
        elif wire == LENGTH:
            size, start = varint(raw, start, end)
            if size > end - start:
                raise WireError("a length beyond the end")
            yield number, wire, 0, start, start + size
            start += size
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            if size > end - start:
                raise WireError("a number beyond the end")
            yield number, wire, int.from_bytes(raw[start : start + size], "little"), start, start + size
            start += size
        else:
            raise WireError(f"wire type {wire}")


def varint(raw: memoryview, start: int, end: int) -> tuple[int, int]:
    """The varint at `start`, and the place after it. Raises WireError if it does not end before `end`."""
    value = shift = 0
    while start < end and shift < 70:
        byte = raw[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, start
        shift += 7
    raise WireError("a varint beyond the end")


def fields(data: Bytes, messages: Ranges) -> Iterator[Fields]:
    """The first field of every message, then the second field of every message that has one, and so on."""
    at = messages.start.copy()
    rows = np.flatnonzero(at < messages.end)
    for _ in range(_MAX_FIELDS):
        if len(rows) == 0:
            return
        end = messages.end[rows]
        tag, here = _varints(data, at[rows], end)
        wire = (tag & np.uint64(7)).astype(np.int64)
        number = (tag >> np.uint64(3)).astype(np.int64)
        if (number == 0).any():
            raise WireError("field 0")
        value = np.zeros(len(rows), np.uint64)
        start = here.copy()
        first = int(wire[0])
        for kind in [first] if (wire == first).all() else np.unique(wire).tolist():
            mine = np.flatnonzero(wire == kind)
            if kind == VARINT:
                value[mine], here[mine] = _varints(data, here[mine], end[mine])
                start[mine] = here[mine]
            elif kind == LENGTH:
                sizes, begin = _varints(data, here[mine], end[mine])
                if (sizes > (end[mine] - begin).astype(np.uint64)).any():
                    raise WireError("a length beyond the end")
                start[mine], here[mine] = begin, begin + sizes.astype(np.int64)
            elif kind in (FIXED64, FIXED32):
                size = 8 if kind == FIXED64 else 4
                if (here[mine] + size > end[mine]).any():
                    raise WireError("a number beyond the end")
                for i in range(size):
                    value[mine] |= data[here[mine] + i].astype(np.uint64) << np.uint64(8 * i)
                here[mine] += size
            else:
                raise WireError(f"wire type {kind}")
        yield Fields(rows, number, wire, value, start, here)
        at[rows] = here
        rows = rows[here < end]
    if len(rows):
        raise WireError(f"a message of more than {_MAX_FIELDS} fields")


def _varints(data: Bytes, at: Index, end: Index) -> tuple[NDArray[np.uint64], Index]:
    """The varint at each place, and the places after them."""
    if (at >= end).any():
        raise WireError("a varint beyond the end")
    byte = data[at]
    value = (byte & 0x7F).astype(np.uint64)
    after = at + 1
    more = np.flatnonzero(byte & 0x80)
    for shift in range(7, 70, 7):
        if len(more) == 0:
            return value, after
        here = after[more]
        if (here >= end[more]).any():
            raise WireError("a varint beyond the end")
        byte = data[here]
        value[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        after[more] = here + 1
        more = more[(byte & 0x80) != 0]
    if len(more):
        raise WireError("a varint of more than 10 bytes")
    return value, after
