"""XPlane traces (`.xplane.pb`) of JAX and TensorFlow: CPU, GPU and TPU.

GPU planes hold the streams as the driver recorded them, and lines that xprof derives from these; TPU planes
hold `XLA Ops` as recorded. What a line is follows from its plane and name, by parts of words. Times in
picoseconds are rounded to nanoseconds at both ends of a slice, so neighbours neither overlap nor part. TPU:
not verified on hardware.
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
from fuseproof.profiling.readers.xplane.stats import COLUMNS, Collected, collect
from fuseproof.profiling.readers.xplane.xspace import Plane, Space
from fuseproof.profiling.timeline.assemble import Found, assemble
from fuseproof.profiling.timeline.model import KIND, Column, Lane, LaneKind, Memory, Timeline, kind_codes

_STREAM = re.compile(r"\bstream\b|\bqueue\b", re.I)
# Lines that profilers compute from others, on any accelerator.
_DERIVED = re.compile(
    r"steps?$|name scope|source|framework|launch stats|traceme|tensorflow ops|offload|^step|llo|bubble", re.I
)
_MODULES = re.compile(r"modules?$", re.I)
_OPERATIONS = re.compile(r"\bops?$", re.I)

_COLLECTIVE = re.compile(
    r"nccl|rccl|(?:all|cross)[-_]?(?:replica|reduce|gather|to[-_]?all)|reduce[-_]?scatter|collective|\bsend\b|\brecv\b",
    re.I,
)
_COPY = re.compile(
    r"memcpy|^%?(?:async[-_])?copy(?:[-_.]|$)|copy[-_](?:start|done)|^hip_?copy|slice-start|slice-done", re.I
)
_SET = re.compile(r"memset", re.I)
_API = re.compile(r"^(?:cu|cuda|hip|cudnn|cublas|ze|nccl|rccl)[A-Z_]")
_COMPILE = re.compile(r"compil|HloPass|hlo_pass|[Cc]ode_?[Gg]en|LLVM")
_FRAMEWORK_OP = re.compile(r"^[\w./-]+:[A-Za-z_]\w*$")
_DROPPED = re.compile(r"(\d+)[\w\s]{0,40}\bevents?\b[\w\s]{0,20}\bdropped|dropped\s+(\d+)", re.I)


@dataclass(slots=True)
class _Gathered:
    """What the planes have given so far."""

    names: dict[str, int] = field(default_factory=dict)
    lanes: list[Lane] = field(default_factory=list)
    parts: list[Found] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    dropped: int | None = None
    slices: int = 0


def load(file: TraceFile, name: str) -> Timeline:
    """Read a whole XSpace; one UserError of one line if it is none."""
    space = xspace.read(file)
    gathered = _Gathered()
    profile_start = 0
    seen: Tally[str] = Tally()
    planes = [plane for plane in space.planes if len(plane.metadata)]
    on_device = any(_is_device(plane) and _works(plane) for plane in planes)
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
        raise UserError(f"{file.path} holds no events; was anything run while the profiler was on?")
    found = _joined(gathered.parts)
    # Recorded in Unix time by some, since the start of the profile by others.
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
        warnings.append(
            "the file is cut short: what came after the cut is missing, names and devices among it"
        )
    for text in (*space.errors, *space.warnings):
        for number in _DROPPED.findall(text):
            gathered.dropped = (gathered.dropped or 0) + int((number[0] or number[1])[:15])
        warnings.append(f"the profiler says: {' '.join(text.split())[:300]}")
    return warnings[:50]


def _is_device(plane: Plane) -> bool:
    return "/device:" in plane.name


def _works(plane: Plane) -> bool:
    return "CUSTOM" not in plane.name and any("work" in role for role in _roles(plane))


def _roles(plane: Plane) -> list[str]:
    """Of each line of a device plane: "work", "derived", "module" or "other"."""
    names = [line.name for line in plane.lines]
    if "CUSTOM" in plane.name:
        return ["other"] * len(names)
    if any(_STREAM.search(name) for name in names):
        return ["work" if _STREAM.search(name) else "derived" for name in names]
    roles = []
    for name in names:
        if _DERIVED.search(name):
            roles.append("derived")
        elif _MODULES.search(name):
            roles.append("module")
        elif _OPERATIONS.search(name):
            roles.append("work")
        else:
            roles.append("unknown")
    # Lines of an accelerator this does not know are its work, unless it has lines that surely are.
    known = "work" in roles
    return [("other" if known else "work") if role == "unknown" else role for role in roles]


def _add_plane(plane: Plane, space: Space, seen: Tally[str], gathered: _Gathered, *, on_device: bool) -> None:
    is_device = _is_device(plane)
    host = _host(plane.name, space, seen)
    several = f" ({host})" if seen[plane.name] > 1 else ""
    roles = _roles(plane) if is_device else ["host"] * len(plane.lines)
    first_lane = len(gathered.lanes)
    kind: LaneKind = "device" if is_device else "host"
    for line, role in zip(plane.lines, roles, strict=True):
        gathered.lanes.append(
            Lane(
                name=line.name or "unnamed",
                kind=kind,
                device=(plane.name if is_device else "CPU") + several,
                process=host if is_device or plane.name == "/host:CPU" else plane.name,
                thread=line.name,
                derived=role == "derived",
            )
        )
    if is_device:
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
    if len(missing):  # lost with the end of the file
        titles = titles + [f"event {number}" for number in missing.tolist()]
        long_names = long_names + [""] * len(missing)
        row = np.where(known, row, len(metadata.id) + np.searchsorted(missing, plane.metadata))
    collected = collect(plane, metadata, np.where(known, row, -1), gathered.names)
    _add_long_names(titles, long_names, row, collected, gathered.names)
    codes = _kinds(plane, roles, titles, long_names, row, collected, count_host_kernels=not on_device)
    number = np.array([gathered.names.setdefault(title, len(gathered.names)) for title in titles], np.int32)
    timestamps = np.array([_clamped(line.timestamp_ns) for line in plane.lines], np.int64)
    # Beyond these a picosecond count is nonsense; assembling drops it.
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
    if not is_device:
        gathered.memory += xplane_memory.read(
            plane, titles, row, timestamps[plane.line] + start_ns, [lane.device for lane in gathered.lanes]
        )
    gathered.slices += len(plane.metadata)


def _host(plane_name: str, space: Space, seen: Tally[str]) -> str:
    """Planes of several hosts in one file repeat their names."""
    seen[plane_name] += 1
    nth = seen[plane_name]
    if nth <= len(space.hosts):
        return space.hosts[nth - 1]
    return f"host {nth}" if nth > 1 else ""


def _kinds(
    plane: Plane,
    roles: Sequence[str],
    titles: Sequence[str],
    long_names: Sequence[str],
    row: NDArray[np.int64],
    collected: Collected,
    *,
    count_host_kernels: bool,
) -> NDArray[np.uint8]:
    """The kind of every event."""
    if not _is_device(plane):
        by_name = [_host_kind(long or short) for long, short in zip(long_names, titles, strict=True)]
        codes = kind_codes(by_name)[row]
        memory = np.array([title in xplane_memory.EVENTS for title in titles], np.bool_)[row]
        codes[collected.framework & (codes == KIND["other"]) & ~memory] = KIND["framework_op"]
        codes[(collected.correlation >= 0) & (codes == KIND["other"])] = KIND["host_call"]
        codes[collected.marked] = KIND["user_range"]
        # XLA on the CPU: its thunks carry the HLO op they run. Where there is a device, launches do too.
        if count_host_kernels:
            codes[collected.hlo & (collected.correlation < 0)] = KIND["kernel"]
        return codes
    codes = kind_codes(map(_device_kind, titles))[row]
    codes[collected.copies] = KIND["memcpy"]
    codes[collected.sets] = KIND["memset"]
    codes[collected.idle] = KIND["other"]
    role = np.array(roles)[plane.line]
    codes[role == "derived"] = KIND["user_range"]
    codes[(role == "module") | (role == "other")] = KIND["other"]
    return codes


def _device_kind(title: str) -> str:
    # TPU events may carry the whole HLO line: only the name before " = " says what it is.
    short = title.split(" = ", 1)[0][:500]
    if _SET.search(short):
        return "memset"
    if _COLLECTIVE.search(short):
        return "collective"
    return "memcpy" if _COPY.search(short) else "kernel"


def _host_kind(title: str) -> str:
    title = title[:1000]
    if _COMPILE.search(title):
        return "compile"
    if title.startswith("$") or _API.search(title):
        return "host_call"
    if _FRAMEWORK_OP.search(title):
        return "framework_op"
    return "other"


def _add_long_names(
    titles: Sequence[str],
    long_names: Sequence[str],
    row: NDArray[np.int64],
    collected: Collected,
    names: dict[str, int],
) -> None:
    """A column for the events whose short name leaves something out."""
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
    """So that adding an offset cannot overflow; such a time is dropped when assembled."""
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
