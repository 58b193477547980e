"""Writes timelines as Perfetto's TrackEvent protobuf.

Each sub-lane is a track, so all overlapping slices are kept; Perfetto drops those of Chrome JSON silently.
The sub-lanes of a lane share a name and a parent, and Perfetto's viewer draws them as one lane. Several
timelines are aligned at their starts.
Schema: protos/perfetto/trace/trace_packet.proto and track_event/*.proto of google/perfetto.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fuseproof.files import replacing
from fuseproof.profiling.timeline.model import KINDS, Timeline

# Field tags: number << 3 | wire type.
_PACKET = b"\x0a"
_TIMESTAMP = b"\x40"
_SEQUENCE = b"\x50\x01"  # trusted_packet_sequence_id 1
_CLEARED = b"\x68\x03"  # sequence_flags: incremental state cleared and needed
_NEEDED = b"\x68\x02"
_TRACK_EVENT = b"\x5a"
_INTERNED = b"\x62"
_DESCRIPTOR = b"\xe2\x03"
_BEGIN, _END, _COUNTER = b"\x48\x01", b"\x48\x02", b"\x48\x04"
_TRACK = b"\x58"
_WRITE_BYTES = 4 << 20


def write(timelines: Sequence[Timeline], path: Path) -> None:
    """Write all timelines to one file for ui.perfetto.dev; gzip if its name ends in .gz.

    Raises UserError if the file cannot be written.
    """
    with replacing(path) as file:
        if path.suffix == ".gz":
            with gzip.open(file, "wb", 6) as compressed:
                _write(timelines, compressed)
        else:
            _write(timelines, file)


def _write(timelines: Sequence[Timeline], file: BinaryIO | gzip.GzipFile) -> None:
    pending: list[bytes] = []
    size = 0
    for packet in _packets(timelines):
        pending.append(packet)
        size += len(packet)
        if size > _WRITE_BYTES:
            file.write(b"".join(pending))
            pending, size = [], 0
    file.write(b"".join(pending))


def _packets(timelines: Sequence[Timeline]) -> Iterator[bytes]:
    categories = b"".join(
        _message(b"\x0a", b"\x08" + _varint(i + 1) + _text(b"\x12", kind)) for i, kind in enumerate(KINDS)
    )
    yield _packet(_SEQUENCE + _CLEARED + _message(_INTERNED, categories))
    uuid = first_name = 1
    process = 0
    for timeline in timelines:
        prefix = f"{timeline.name}: " if len(timelines) > 1 else ""
        for start in range(0, len(timeline.names), 1000):
            interned = b"".join(
                _message(b"\x12", b"\x08" + _varint(first_name + start + i) + _text(b"\x12", name))
                for i, name in enumerate(timeline.names[start : start + 1000])
            )
            yield _packet(_SEQUENCE + _NEEDED + _message(_INTERNED, interned))
        owners: dict[str, int] = {}
        names = [f"{lane.device} {lane.process}".strip() for lane in timeline.lanes]
        measured = [each.device for each in timeline.memory] + [each.device for each in timeline.counters]
        for owner in dict.fromkeys([*names, *measured]):
            process += 1
            owners[owner] = uuid
            described = b"\x08" + _varint(process) + _text(b"\x32", prefix + owner)
            yield _descriptor(uuid, _message(b"\x1a", described))
            uuid += 1
        bounds = np.searchsorted(timeline.slices.lane, np.arange(len(timeline.lanes) + 1)).tolist()
        for i, lane in enumerate(timeline.lanes):
            first_track = uuid
            for _ in range(lane.depth):
                yield _descriptor(uuid, _text(b"\x12", lane.name) + b"\x28" + _varint(owners[names[i]]))
                uuid += 1
            yield from _slices(timeline, bounds[i], bounds[i + 1], first_track, first_name)
        for name, device, times, values, unit in _series(timeline):
            counter = _message(b"\x42", b"\x18\x03" if unit == "bytes" else _text(b"\x32", unit))
            parent = b"\x28" + _varint(owners[device])
            yield _descriptor(uuid, _text(b"\x12", name) + parent + counter)
            track = _COUNTER + _TRACK + _varint(uuid)
            for time, value in zip(times, values, strict=True):
                if math.isfinite(value):
                    number = struct.pack("<Hd", 0x02E1, value)  # double_counter_value
                    yield _event(time, track + number)
            uuid += 1
        first_name += len(timeline.names)


def _series(timeline: Timeline) -> Iterator[tuple[str, str, list[int], list[float], str]]:
    for memory in timeline.memory:
        name = f"{memory.allocator} ({memory.semantics})"
        yield name, memory.device, memory.time_ns.tolist(), memory.running_bytes().tolist(), "bytes"
        if np.isfinite(memory.reserved).any():
            yield (
                f"{name} reserved",
                memory.device,
                memory.time_ns.tolist(),
                memory.reserved.tolist(),
                "bytes",
            )
    for counter in timeline.counters:
        yield (
            f"{counter.name} ({counter.semantics})",
            counter.device,
            counter.time_ns.tolist(),
            counter.value.tolist(),
            counter.unit,
        )


def _slices(timeline: Timeline, low: int, high: int, first_track: int, first_name: int) -> Iterator[bytes]:
    """Begin and end of each slice; those of one track (a sub-lane) are in order of time."""
    slices = timeline.slices
    order = low + np.argsort(slices.depth[low:high], kind="stable")
    columns = (slices.depth, slices.start_ns, slices.end_ns, slices.name, slices.kind)
    heads: dict[tuple[int, int], bytes] = {}
    for depth, start, end, name, kind in zip(*(column[order].tolist() for column in columns), strict=True):
        head = heads.get((name, kind))
        if head is None:
            head = _BEGIN + b"\x18" + _varint(kind + 1) + b"\x50" + _varint(first_name + name) + _TRACK
            heads[name, kind] = head
        track = _varint(first_track + depth)
        yield _event(start, head + track)
        yield _event(end, _END + _TRACK + track)


def _event(time: int, event: bytes) -> bytes:
    body = _TIMESTAMP + _varint(time) + _SEQUENCE + _NEEDED + _TRACK_EVENT + _varint(len(event)) + event
    return _PACKET + _varint(len(body)) + body


def _descriptor(uuid: int, rest: bytes) -> bytes:
    return _packet(_SEQUENCE + _message(_DESCRIPTOR, b"\x08" + _varint(uuid) + rest))


def _packet(body: bytes) -> bytes:
    return _message(_PACKET, body)


def _message(tag: bytes, body: bytes) -> bytes:
    return tag + _varint(len(body)) + body


def _text(tag: bytes, text: str) -> bytes:
    return _message(tag, text.encode("utf-8", "replace"))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
