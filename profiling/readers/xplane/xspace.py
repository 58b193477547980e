"""Reads an XSpace file into columns: planes, lines, events and their stats, without interpreting them.

Schema: tsl/profiler/protobuf/xplane.proto. A file cut short gives the events before the cut.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.profiling.readers.trace_file import TraceFile
from fuseproof.profiling.readers.xplane import protobuf
from fuseproof.profiling.readers.xplane.protobuf import (
    FIXED64,
    LENGTH,
    VARINT,
    Bytes,
    Index,
    Ranges,
    WireError,
)

# Protobuf's own limit for one message.
MAX_XSPACE_BYTES = 2 << 30
_BATCH = 1 << 17
_MAX_LINES = 100_000


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    timestamp_ns: int
    events: int  # how many


@dataclass(frozen=True, slots=True)
class Stats:
    """Stats of a batch of owners (events or metadata): one entry for each stat."""

    owner: Index
    id: Index
    # Field of XStat: 2 double, 3 uint64, 4 int64, 5 string, 6 bytes, 7 reference to a stat's name.
    kind: Index
    value: NDArray[np.uint64]
    start: Index
    end: Index

    def only(self, ids: list[int]) -> Stats:
        """The stats with these metadata ids."""
        chosen = np.isin(self.id, ids)
        return Stats(
            self.owner[chosen],
            self.id[chosen],
            self.kind[chosen],
            self.value[chosen],
            self.start[chosen],
            self.end[chosen],
        )


@dataclass(slots=True)
class Metadata:
    """The metadata that events share, sorted by id."""

    id: Index
    name: list[str]  # the short one if there are two
    long_name: list[str]  # for TPU operations the HLO text
    stats: Stats


@dataclass(slots=True)
class Plane:
    name: str
    data: Bytes
    lines: list[Line] = field(default_factory=list)
    line: Index = field(default_factory=lambda: np.empty(0, np.int64))  # of each event, index into lines
    metadata: Index = field(default_factory=lambda: np.empty(0, np.int64))  # of each event, its id
    offset_ps: Index = field(default_factory=lambda: np.empty(0, np.int64))
    duration_ps: Index = field(default_factory=lambda: np.empty(0, np.int64))
    stat_names: dict[int, str] = field(default_factory=dict)
    stats: list[tuple[str, float | int | str]] = field(default_factory=list)  # of the plane itself
    _events: Ranges = field(default_factory=lambda: Ranges(np.empty(0, np.int64), np.empty(0, np.int64)))
    _metadata: Ranges = field(default_factory=lambda: Ranges(np.empty(0, np.int64), np.empty(0, np.int64)))

    def event_metadata(self) -> Metadata:
        """The metadata that events refer to. The rest is not read: a plane of HLO protos has nothing else."""
        id_, value = _map_entries(self.data, self._metadata)
        order = np.argsort(id_, kind="stable")
        id_, value = id_[order], Ranges(value.start[order], value.end[order])
        last = np.append(id_[1:] != id_[:-1], True) if len(id_) else np.empty(0, np.bool_)
        used = np.flatnonzero(last & np.isin(id_, np.unique(self.metadata)))
        chosen = Ranges(value.start[used], value.end[used])
        names, titles = [""] * len(used), [""] * len(used)
        places: list[protobuf.Fields] = []
        for found in protobuf.fields(self.data, chosen):
            for target, number in ((names, 2), (titles, 4)):
                part = found.only(number, LENGTH)
                for row, text in zip(part.row.tolist(), self.texts(part.start, part.end), strict=True):
                    target[row] = text
            part = found.only(5, LENGTH)
            if len(part.row):
                places.append(part)
        title = [short or name for short, name in zip(titles, names, strict=True)]
        return Metadata(id_[used], title, names, _stats(self.data, places))

    def event_stats(self) -> Iterator[Stats]:
        """Stats of all events, a batch at a time: those of a million events at once would not fit memory."""
        for first in range(0, len(self._events), _BATCH):
            batch = Ranges(
                self._events.start[first : first + _BATCH], self._events.end[first : first + _BATCH]
            )
            places = [found.only(4, LENGTH) for found in protobuf.fields(self.data, batch)]
            stats = _stats(self.data, [part for part in places if len(part.row)])
            stats.owner[:] += first
            yield stats

    def texts(self, start: Index, end: Index) -> list[str]:
        """The strings at these places of the file."""
        raw = self.data.data
        return [str(raw[a:b], "utf-8", "replace") for a, b in zip(start.tolist(), end.tolist(), strict=True)]


@dataclass(slots=True)
class Space:
    planes: list[Plane] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    cut_short: bool = False


def read(file: TraceFile) -> Space:
    """All planes of a file. Raises UserError if it is not an XSpace or is damaged."""
    data = _bytes(file)
    space = Space(cut_short=file.cut_short)
    try:
        _read_space(data, space)
    except WireError as error:
        raise UserError(
            f"{file.path} is not an XPlane trace, or is damaged ({error}); record it again"
        ) from None
    if not any(plane.name for plane in space.planes):
        raise UserError(f"{file.path} is not an XPlane trace: it names no plane")
    return space


def _bytes(file: TraceFile) -> Bytes:
    file.max_bytes = min(file.max_bytes, MAX_XSPACE_BYTES)
    try:
        size = file.path.stat().st_size if file.path.is_file() else -1
        if not file.compressed and 0 < size <= file.max_bytes:
            with file.path.open("rb") as handle:
                return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {file.path}: {error.strerror or error}") from None
    return np.frombuffer(file.read(), np.uint8)


def _read_space(data: Bytes, space: Space) -> None:
    raw, at, size = data.data, 0, len(data)
    while at < size:
        try:
            tag, begin = protobuf.varint(raw, at, size)
            if tag & 7 != LENGTH or not 1 <= tag >> 3 <= 15:
                raise WireError(f"field {tag >> 3} of wire type {tag & 7}")
            length, begin = protobuf.varint(raw, begin, size)
        except WireError:
            if size - at < 20 and space.planes:  # the cut is within the header of a plane
                space.cut_short = True
                return
            raise
        end = begin + length
        if end > size:
            # Cut short: read the rest of the last plane. The first must at least begin like a plane.
            space.cut_short = True
            if tag >> 3 == 1:
                space.planes.append(_plane(data, begin, size, cut=True))
            return
        if tag >> 3 == 1:
            space.planes.append(_plane(data, begin, end, cut=False))
        elif tag >> 3 in (2, 3, 4):
            target = {2: space.errors, 3: space.warnings, 4: space.hosts}[tag >> 3]
            if len(target) < 100:
                target.append(str(raw[begin : min(end, begin + 1000)], "utf-8", "replace"))
        at = end


def _plane(data: Bytes, start: int, end: int, *, cut: bool) -> Plane:
    plane = Plane("", data)
    lines: list[tuple[int, int]] = []
    metadata: list[tuple[int, int]] = []
    stat_metadata: list[tuple[int, int]] = []
    stats: list[tuple[int, int]] = []
    lists = {3: lines, 4: metadata, 5: stat_metadata, 6: stats}
    for number, kind, begin, finish in _tolerant(data, start, end, cut=cut):
        if kind != LENGTH or (cut and finish == end and number != 3):
            continue  # only a line is of use when cut
        if number == 2:
            plane.name = str(data.data[begin : min(finish, begin + 1000)], "utf-8", "replace")
        elif number in lists:
            lists[number].append((begin, finish))
    if len(lines) > _MAX_LINES:
        raise WireError(f"a plane of {len(lines)} lines")
    _read_lines(plane, lines, cut=cut)
    plane._metadata = _ranges(metadata)
    for key, name in zip(*_stat_names(data, _ranges(stat_metadata)), strict=True):
        plane.stat_names[key] = name
    plane.stats = _named(plane, stats)
    return plane


def _tolerant(data: Bytes, start: int, end: int, *, cut: bool) -> Iterator[tuple[int, int, int, int]]:
    """Fields of one message; if cut, the fields before the cut and the rest of the last."""
    if not cut:
        for number, kind, _, begin, finish in protobuf.scalar_fields(data, start, end):
            yield number, kind, begin, finish
        return
    raw = data.data
    while start < end:
        try:
            tag, begin = protobuf.varint(raw, start, end)
            if tag & 7 == LENGTH:
                size, begin = protobuf.varint(raw, begin, end)
                if begin + size > end:
                    yield tag >> 3, LENGTH, begin, end
                    return
                finish = begin + size
            else:
                finish = begin + 8 if tag & 7 == FIXED64 else begin + 4
                if tag & 7 == VARINT:
                    _, finish = protobuf.varint(raw, begin, end)
        except WireError:
            return
        yield tag >> 3, tag & 7, begin, finish
        start = finish


def _read_lines(plane: Plane, lines: list[tuple[int, int]], *, cut: bool) -> None:
    data, raw = plane.data, plane.data.data
    starts, ends = array("q"), array("q")
    for i, (start, end) in enumerate(lines):
        name = title = ""
        timestamp = 0
        before = len(starts)
        at, torn = start, cut and i == len(lines) - 1
        try:
            while at < end:
                if raw[at] == 0x22:  # an event, as nearly every field is
                    size = raw[at + 1] if at + 1 < end else 0x80
                    if size < 0x80:
                        begin = at + 2
                    else:
                        size, begin = protobuf.varint(raw, at + 1, end)
                    at = begin + size
                    if at > end:
                        raise WireError("an event beyond the end of its line")
                    starts.append(begin)
                    ends.append(at)
                    continue
                tag, begin = protobuf.varint(raw, at, end)
                number, kind = tag >> 3, tag & 7
                if kind == LENGTH:
                    size, begin = protobuf.varint(raw, begin, end)
                    at = begin + size
                    if at > end:
                        raise WireError("a string beyond the end of its line")
                    if number == 2:
                        name = str(raw[begin : min(at, begin + 1000)], "utf-8", "replace")
                    elif number == 11:
                        title = str(raw[begin : min(at, begin + 1000)], "utf-8", "replace")
                elif kind == VARINT:
                    value, at = protobuf.varint(raw, begin, end)
                    if number == 3:
                        timestamp = value - (1 << 64) if value >= 1 << 63 else value
                elif kind in (FIXED64, protobuf.FIXED32):
                    at = begin + (8 if kind == FIXED64 else 4)
                else:
                    raise WireError(f"wire type {kind}")
        except WireError:
            if not torn:
                raise
        plane.lines.append(Line(name or title, timestamp, len(starts) - before))
    plane._events = Ranges(np.array(starts, np.int64), np.array(ends, np.int64))
    counts = np.array([line.events for line in plane.lines], np.int64)
    plane.line = np.repeat(np.arange(len(counts)), counts)
    total = len(starts)
    plane.metadata = np.zeros(total, np.int64)
    plane.offset_ps = np.zeros(total, np.int64)
    plane.duration_ps = np.zeros(total, np.int64)
    targets = {1: plane.metadata, 2: plane.offset_ps, 3: plane.duration_ps}
    for first in range(0, total, _BATCH):
        batch = Ranges(plane._events.start[first : first + _BATCH], plane._events.end[first : first + _BATCH])
        for found in protobuf.fields(data, batch):
            for number, target in targets.items():
                part = found.only(number, VARINT)
                target[first + part.row] = part.value.view(np.int64)


def _ranges(places: list[tuple[int, int]]) -> Ranges:
    both = np.array(places, np.int64).reshape(-1, 2)
    return Ranges(both[:, 0].copy(), both[:, 1].copy())


def _map_entries(data: Bytes, entries: Ranges) -> tuple[Index, Ranges]:
    """Keys and places of the messages of a map<int64, message>."""
    key = np.zeros(len(entries), np.int64)
    start, end = np.zeros(len(entries), np.int64), np.zeros(len(entries), np.int64)
    for found in protobuf.fields(data, entries):
        part = found.only(1, VARINT)
        key[part.row] = part.value.view(np.int64)
        part = found.only(2, LENGTH)
        start[part.row], end[part.row] = part.start, part.end
    return key, Ranges(start, end)


def _stat_names(data: Bytes, entries: Ranges) -> tuple[list[int], list[str]]:
    key, value = _map_entries(data, entries)
    names = [""] * len(key)
    for found in protobuf.fields(data, value):
        part = found.only(2, LENGTH)
        for row, a, b in zip(part.row.tolist(), part.start.tolist(), part.end.tolist(), strict=True):
            names[row] = str(data.data[a:b], "utf-8", "replace")
    return key.tolist(), names


def _stats(data: Bytes, places: list[protobuf.Fields]) -> Stats:
    """Decodes XStat messages; `row` in `places` is the owner."""
    if not places:
        none = np.empty(0, np.int64)
        return Stats(none.copy(), none, none, np.empty(0, np.uint64), none, none)
    owner = np.concatenate([part.row for part in places])
    messages = Ranges(
        np.concatenate([part.start for part in places]), np.concatenate([part.end for part in places])
    )
    count = len(messages)
    id_, kind = np.zeros(count, np.int64), np.zeros(count, np.int64)
    value = np.zeros(count, np.uint64)
    start, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for found in protobuf.fields(data, messages):
        part = found.only(1, VARINT)
        id_[part.row] = part.value.view(np.int64)
        for number, wire_type in ((2, FIXED64), (3, VARINT), (4, VARINT), (7, VARINT)):
            part = found.only(number, wire_type)
            kind[part.row] = number
            value[part.row] = part.value
        for number in (5, 6):
            part = found.only(number, LENGTH)
            kind[part.row] = number
            start[part.row], end[part.row] = part.start, part.end
    return Stats(owner, id_, kind, value, start, end)


def _named(plane: Plane, places: list[tuple[int, int]]) -> list[tuple[str, float | int | str]]:
    """Names and values of the few stats of a plane itself."""
    found: list[tuple[str, float | int | str]] = []
    for start, end in places[:1000]:
        stats = _stats(plane.data, [_one(start, end)])
        name = plane.stat_names.get(int(stats.id[0]), "")
        kind, value = int(stats.kind[0]), stats.value[:1]
        if kind == 2:
            found.append((name, float(value.view(np.float64)[0])))
        elif kind == 3:
            found.append((name, int(value[0])))
        elif kind == 4:
            found.append((name, int(value.view(np.int64)[0])))
        elif kind == 5:
            found.append((name, plane.texts(stats.start, stats.end)[0][:1000]))
        elif kind == 7:
            found.append((name, plane.stat_names.get(int(value[0]), "")))
    return found


def _one(start: int, end: int) -> protobuf.Fields:
    zero = np.zeros(1, np.int64)
    return protobuf.Fields(
        zero, zero, zero, np.zeros(1, np.uint64), np.array([start], np.int64), np.array([end], np.int64)
    )
