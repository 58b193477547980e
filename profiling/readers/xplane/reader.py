"""XPlane traces (`.xplane.pb`) of JAX and TensorFlow: CPU, GPU and TPU.

GPU planes have the streams as the driver recorded them, and lines that xprof derives from these; TPU planes
have `XLA Ops` as recorded. Both ends of a slice are rounded from picoseconds to nanoseconds, so that
neighbours neither overlap nor drift apart. TPU: not verified on hardware.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.profiling.readers.trace_file import TraceFile
from fuseproof.profiling.readers.xplane import memory as xplane_memory
from fuseproof.profiling.readers.xplane import xspace
from fuseproof.profiling.readers.xplane.protobuf import WireError
from fuseproof.profiling.readers.xplane.schema import is_device, kinds, line_roles, works
from fuseproof.profiling.readers.xplane.stats import COLUMNS, Collected, collect
from fuseproof.profiling.readers.xplane.xspace import Plane, Space
from fuseproof.profiling.timeline.assemble import Found, assemble
from fuseproof.profiling.timeline.model import Column, Lane, LaneKind, Memory, Timeline

_DROPPED = re.compile(r"(\d+)[\w\s]{0,40}\bevents?\b[\w\s]{0,20}\bdropped|dropped\s+(\d+)", re.I)


@dataclass(slots=True)
class _Gathered:
    """The contents of the planes read so far."""

    names: dict[str, int] = field(default_factory=dict)
    lanes: list[Lane] = field(default_factory=list)
    parts: list[Found] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    dropped: int | None = None
    slices: int = 0


def load(file: TraceFile, name: str) -> Timeline:
    """The timeline of a whole XSpace. Raises UserError, one line, if the file is not one or is damaged."""
    space = xspace.read(file)
    gathered = _Gathered()
    profile_start = 0
    seen: Tally[str] = Tally()
    planes = [plane for plane in space.planes if len(plane.metadata)]
    on_device = any(is_device(plane) and works(plane) for plane in planes)
    for plane in space.planes:
        for key, value in plane.stats:
            if key == "profile_start_time" and isinstance(value, int):
                profile_start = value
            if key in ("dropped_traces", "dropped_events") and isinstance(value, int):
                gathered.dropped = (gathered.dropped or 0) + value
    for plane in planes:
        try:
            _add_plane(plane, space, seen, gathered, on_device=on_device)
        except WireError as error:
            raise UserError(
                f"{file.path}: plane {plane.name[:80]!r} is damaged ({error}); record it again"
            ) from None
    if not gathered.slices:
        raise UserError(f"{file.path} holds no events; run something while the profiler is on")
    found = _joined(gathered.parts)
    # Some profilers record Unix time, others time since the start of the profile.
    since_start = bool(len(found.start_ns)) and int(np.median(found.start_ns)) < 10**17
    warnings = _warnings(space, gathered, file)
    return assemble(
        found,
        gathered.lanes,
        list(gathered.names),
        source="xplane",
        name=name,
        memory=sorted(gathered.memory, key=lambda each: (each.device, each.allocator)),
        base_ns=profile_start if since_start and 0 < profile_start < 1 << 61 else 0,
        origin_is_unix=not since_start or profile_start > 0,
        dropped_events=gathered.dropped,
        warnings=warnings,
        notes=gathered.notes,
    )


def _warnings(space: Space, gathered: _Gathered, file: TraceFile) -> list[str]:
    warnings = []
    if space.cut_short or file.cut_short:
        warnings.append("the file is cut short: later events are missing, and names and devices may be")
    for text in (*space.errors, *space.warnings):
        for number in _DROPPED.findall(text):
            gathered.dropped = (gathered.dropped or 0) + int((number[0] or number[1])[:15])
        warnings.append(f"the profiler says: {' '.join(text.split())[:300]}")
    return warnings[:50]


def _add_plane(plane: Plane, space: Space, seen: Tally[str], gathered: _Gathered, *, on_device: bool) -> None:
    on_accelerator = is_device(plane)
    host = _host(plane.name, space, seen)
    several = f" ({host})" if seen[plane.name] > 1 else ""
    roles = line_roles(plane) if on_accelerator else ["host"] * len(plane.lines)
    first_lane = len(gathered.lanes)
    kind: LaneKind = "device" if on_accelerator else "host"
    for line, role in zip(plane.lines, roles, strict=True):
        gathered.lanes.append(
            Lane(
                name=line.name or "unnamed",
                kind=kind,
                device=(plane.name if on_accelerator else "CPU") + several,
                process=host if on_accelerator or plane.name == "/host:CPU" else plane.name,
                thread=line.name,
                derived=role == "derived",
            )
        )
    if on_accelerator:
        gathered.notes |= {
            f"{plane.name}{several} {key}": str(value)
            for key, value in plane.stats[:50]
            if key and len(key) < 100
        }
    metadata = plane.event_metadata()
    row = np.searchsorted(metadata.id, plane.metadata)
    row = np.minimum(row, max(len(metadata.id) - 1, 0))
    known = metadata.id[row] == plane.metadata if len(metadata.id) else np.zeros(len(row), np.bool_)
    row = np.where(known, row, -1)
    titles, long_names = metadata.name, metadata.long_name
    missing = np.unique(plane.metadata[~known])
    if len(missing):  # their names were after the cut
        titles = titles + [f"event {number}" for number in missing.tolist()]
        long_names = long_names + [""] * len(missing)
        row = np.where(known, row, len(metadata.id) + np.searchsorted(missing, plane.metadata))
    collected = collect(plane, metadata, np.where(known, row, -1), gathered.names)
    _add_long_names(titles, long_names, row, collected, gathered.names)
    codes = kinds(plane, roles, titles, long_names, row, collected, count_host_kernels=not on_device)
    number = np.array([gathered.names.setdefault(title, len(gathered.names)) for title in titles], np.int32)
    timestamps = np.array([_clamped(line.timestamp_ns) for line in plane.lines], np.int64)
    # A larger picosecond count is nonsense; `assemble` drops it.
    offset = np.clip(plane.offset_ps, -(1 << 62), 1 << 62)
    duration = plane.duration_ps
    end = offset + np.clip(duration, 0, (1 << 62) - 1)
    start_ns = _to_nanoseconds(offset)
    lengths = np.where(duration < 0, -1, _to_nanoseconds(end) - start_ns)
    gathered.parts.append(
        Found(
            lane=(plane.line + first_lane).astype(np.int32),
            start_ns=timestamps[plane.line] + start_ns,
            duration_ns=lengths,
            name=number[row],
            kind=codes,
            correlation=collected.correlation,
            columns={
                name: Column(
                    index=column.index + gathered.slices,
                    value=column.value,
                    origin=COLUMNS[name].origin,
                    names=COLUMNS[name].names,
                )
                for name, column in collected.columns.items()
            },
        )
    )
    if not on_accelerator:
        gathered.memory += xplane_memory.read(
            plane, titles, row, timestamps[plane.line] + start_ns, [lane.device for lane in gathered.lanes]
        )
    gathered.slices += len(plane.metadata)


def _host(plane_name: str, space: Space, seen: Tally[str]) -> str:
    """The host of a plane; planes of several hosts in one file have equal names."""
    seen[plane_name] += 1
    nth = seen[plane_name]
    if nth <= len(space.hosts):
        return space.hosts[nth - 1]
    return f"host {nth}" if nth > 1 else ""


def _add_long_names(
    titles: Sequence[str],
    long_names: Sequence[str],
    row: NDArray[np.int64],
    collected: Collected,
    names: dict[str, int],
) -> None:
    """Adds a column with the long names of events that have one."""
    number = np.array(
        [
            names.setdefault(long, len(names)) if long and long != short else -1
            for short, long in zip(titles, long_names, strict=True)
        ],
        np.int64,
    )[row]
    index = np.flatnonzero(number >= 0)
    if len(index):
        collected.columns["long_name"] = Column(index=index, value=number[index])


def _to_nanoseconds(picoseconds: NDArray[np.int64]) -> NDArray[np.int64]:
    return (picoseconds + 500) // 1000


def _clamped(value: int) -> int:
    """A timestamp to which an offset can be added without overflow; `assemble` drops such a time."""
    return max(-(1 << 62), min(1 << 62, value))


def _joined(parts: Sequence[Found]) -> Found:
    columns: dict[str, list[Column]] = {}
    for part in parts:
        for name, column in part.columns.items():
            columns.setdefault(name, []).append(column)

    def whole(attribute: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, attribute) for part in parts])

    return Found(
        lane=whole("lane"),
        start_ns=whole("start_ns"),
        duration_ns=whole("duration_ns"),
        name=whole("name"),
        kind=whole("kind"),
        correlation=whole("correlation"),
        columns={
            name: Column(
                index=np.concatenate([column.index for column in pieces]),
                value=np.concatenate([column.value for column in pieces]),
                origin=pieces[0].origin,
                names=pieces[0].names,
            )
            for name, pieces in columns.items()
        },
    )
