"""PyTorch's memory snapshots (`torch.cuda.memory._dump_snapshot`) and raw memory timelines.

A snapshot has, for each device, the allocator's history (a ring buffer, which may have lost the beginning)
and its segments at the end. The two give the bytes that were allocated before the history.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.profiling.readers import plain_pickle
from fuseproof.profiling.readers.event_stream import EventStream
from fuseproof.profiling.readers.trace_file import TraceFile
from fuseproof.profiling.timeline.assemble import Found, assemble, sorted_memory
from fuseproof.profiling.timeline.model import MEMORY_ACTION, Memory, Timeline, empty_slices

MAX_SNAPSHOT_BYTES = 1 << 30
_RAW = re.compile(rb"\s*\[\s*\[\s*-?\d+\s*,\s*[1-4]\s*,\s*-?\d+\s*,\s*\d\s*\]")

# torch.profiler._memory_profiler: the order of _CATEGORY_TO_INDEX and the values of Action.
_CATEGORIES = (
    "parameter",
    "optimizer state",
    "input",
    "temporary",
    "activation",
    "gradient",
    "autograd detail",
    "unknown",
)
_RAW_ACTIONS = {1: "preexisting", 2: "alloc", 3: "resize", 4: "free"}
_ACTIONS = {
    "alloc": ("alloc", 1),
    "free_requested": ("free", -1),
    "segment_alloc": ("reserve", 1),
    "segment_map": ("reserve", 1),
    "segment_free": ("release", -1),
    "segment_unmap": ("release", -1),
    "oom": ("out_of_memory", 0),
}


def is_memory_timeline(head: bytes) -> bool:
    """Whether a file with this beginning is a raw timeline: [[ns, action, bytes, category], …]."""
    return _RAW.match(head) is not None


def load_memory_timeline(file: TraceFile, name: str) -> Timeline:
    """The timeline of torch.profiler's raw memory timeline, labelled by category.

    The format has neither devices nor addresses. Raises UserError if no event has a time.
    """
    stream = EventStream(file.blocks(), str(file.path))
    parts: list[NDArray[np.int64]] = []
    unusable = 0
    for events in stream:
        usable = [event for event in events if _is_raw(event)]
        unusable += len(events) - len(usable)
        parts.append(np.array(usable, np.int64).reshape(-1, 4))
    rows = np.concatenate(parts) if parts else np.empty((0, 4), np.int64)
    time = rows[:, 0].copy()
    begun = time > 0
    if not begun.any():
        raise UserError(f"{file.path} holds no memory events with a time; record the timeline again")
    time[~begun] = time[begun].min()  # -1: allocated before the profile
    codes = np.zeros(5, np.uint8)
    for number, action in _RAW_ACTIONS.items():
        codes[number] = MEMORY_ACTION[action]
    memory = Memory(
        allocator="torch",
        device="unknown device",
        semantics="allocator-at-event",
        time_ns=time,
        action=codes[rows[:, 1]],
        address=np.zeros(len(rows), np.uint64),
        size=rows[:, 2].copy(),
        allocated=np.full(len(rows), np.nan),
        reserved=np.full(len(rows), np.nan),
        label=np.minimum(rows[:, 3], len(_CATEGORIES) - 1).astype(np.int32),
        initial_bytes=0.0,
    )
    warnings = [f"{unusable} entries are not memory events and are left out"] if unusable else []
    if file.cut_short or stream.cut_short:
        warnings.append("the file is cut short: later events are missing")
    return _timeline([sorted_memory(memory)], name, _CATEGORIES, warnings)


def _is_raw(event: Any) -> bool:
    return (
        type(event) is list
        and len(event) == 4
        and all(type(value) is int and abs(value) < 1 << 61 for value in event)
        and 1 <= event[1] <= 4
        and event[3] >= 0
    )


def load_snapshot(file: TraceFile, name: str) -> Timeline:
    """The timeline of a snapshot pickle, which is read without executing it.

    Raises UserError if it is cut short, is not a snapshot, or has no allocations.
    """
    file.max_bytes = min(file.max_bytes, MAX_SNAPSHOT_BYTES)
    data = file.read()
    if file.cut_short:
        raise UserError(f"{file.path} is cut short; copy or record the snapshot again")
    snapshot, operations = plain_pickle.loads(data, str(file.path))
    del data
    if isinstance(snapshot, list):  # torch 1.x: only the segments
        snapshot = {"segments": snapshot}
    if not isinstance(snapshot, dict) or not ("segments" in snapshot or "device_traces" in snapshot):
        raise UserError(f"{file.path} is a pickle, but not a torch memory snapshot (no `segments`)")
    names: dict[str, int] = {}
    warnings: list[str] = []
    budget = _Budget(operations, str(file.path))
    held = _segments(snapshot, budget, names)
    histories = snapshot.get("device_traces")
    found = []
    for device, entries in enumerate(histories if isinstance(histories, list) else []):
        if isinstance(entries, list) and entries:
            memory = _history(device, entries, held.get(device), names, budget, warnings)
            if memory is not None:
                found.append(memory)
    with_history = {memory.device for memory in found}
    others = [segments for device, segments in held.items() if f"GPU {device}" not in with_history]
    if others:
        warnings.append("no allocation history of some devices: only the blocks held at the end are shown")
        end = max((int(memory.time_ns[-1]) for memory in found), default=0)
        found += [segments.as_memory(end) for segments in others if len(segments.sizes)]
    if not found:
        raise UserError(
            f"{file.path} holds no allocations; call torch.cuda.memory._record_memory_history() first"
        )
    return _timeline(found, name, list(names), warnings)


class _Budget:
    """Limits the entries read to the opcodes in the pickle, which may refer to one list a million times."""

    def __init__(self, entries: int, name: str) -> None:
        self._left = entries
        self._name = name

    def dicts(self, values: Any) -> Iterator[dict[str, Any]]:
        for value in values if isinstance(values, list | tuple) else ():
            self._left -= 1
            if self._left < 0:
                raise UserError(f"{self._name} repeats its entries without end: refused")
            if type(value) is dict:
                yield value


class _Segments:
    """The blocks that one device held when the snapshot was taken."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.reserved = 0
        self.addresses = array("Q")
        self.sizes = array("q")
        self.labels = array("i")

    @property
    def allocated(self) -> int:
        return sum(self.sizes)

    def as_memory(self, time_ns: int) -> Memory:
        size = np.array(self.sizes, np.int64)
        return Memory(
            allocator="torch",
            device=f"GPU {self.device}",
            semantics="allocator-at-event",
            time_ns=np.full(len(size), time_ns, np.int64),
            action=np.full(len(size), MEMORY_ACTION["preexisting"], np.uint8),
            address=np.array(self.addresses, np.uint64),
            size=size,
            allocated=np.full(len(size), np.nan),
            reserved=np.full(len(size), float(self.reserved)),
            label=np.array(self.labels, np.int32),
            initial_bytes=0.0,
        )


def _segments(snapshot: Mapping[str, Any], budget: _Budget, names: dict[str, int]) -> dict[int, _Segments]:
    held: dict[int, _Segments] = {}
    for segment in budget.dicts(snapshot.get("segments")):
        device = segment.get("device")
        device = device if _is_count(device) and device < 4096 else 0
        mine = held.setdefault(device, _Segments(device))
        mine.reserved += _count(segment.get("total_size"))
        address = _address(segment.get("address"))
        for block in budget.dicts(segment.get("blocks")):
            size = _count(block.get("size"))
            if str(block.get("state", "")).startswith("active_alloc"):
                mine.addresses.append(_address(block.get("address")) or address)
                mine.sizes.append(size)
                mine.labels.append(_label(block.get("frames"), names))
            address += size
    return held


def _history(
    device: int,
    entries: list[Any],
    held: _Segments | None,
    names: dict[str, int],
    budget: _Budget,
    warnings: list[str],
) -> Memory | None:
    time, size, address = array("q"), array("q"), array("Q")
    action, label = array("B"), array("i")
    # An allocation ends at `free_requested`; torch records `free_completed` when the block is free again.
    actions = dict(_ACTIONS)
    kinds = {
        entry.get("action") for entry in entries if type(entry) is dict and type(entry.get("action")) is str
    }
    if "free_requested" not in kinds:
        actions["free_completed"] = ("free", -1)
    untimed = 0
    for number, entry in enumerate(budget.dicts(entries)):
        what = entry.get("action")
        code, sign = actions.get(what, ("other", 0)) if type(what) is str else ("other", 0)
        moment = entry.get("time_us")
        if not _is_count(moment) or moment >= 1 << 51:
            untimed += 1
            moment = number
        time.append(moment * 1000)
        action.append(MEMORY_ACTION[code])
        size.append(sign * _count(entry.get("size")))
        address.append(_address(entry.get("addr")))
        label.append(_label(entry.get("frames"), names))
    if not time:
        return None
    if untimed:
        warnings.append(f"{untimed} entries of GPU {device} have no time; they are drawn in their order")
    sizes, codes = np.array(size, np.int64), np.array(action, np.uint8)
    reserving = np.isin(codes, [MEMORY_ACTION["reserve"], MEMORY_ACTION["release"]])
    reserved = np.full(len(sizes), np.nan)
    initial = float("nan")
    if held is not None:
        changed = np.cumsum(np.where(reserving, sizes, 0), dtype=np.float64)
        reserved = held.reserved - changed[-1] + changed
        changes = np.isin(codes, [MEMORY_ACTION["alloc"], MEMORY_ACTION["free"]])
        initial = float(held.allocated) - float(sizes[changes].sum(dtype=np.float64))
        if initial < 0:
            initial = float("nan")
    return sorted_memory(
        Memory(
            allocator="torch",
            device=f"GPU {device}",
            semantics="allocator-at-event",
            time_ns=np.array(time, np.int64),
            action=codes,
            address=np.array(address, np.uint64),
            size=sizes,
            allocated=np.full(len(sizes), np.nan),
            reserved=reserved,
            label=np.array(label, np.int32),
            initial_bytes=initial,
        )
    )


def _label(frames: Any, names: dict[str, int]) -> int:
    """The innermost Python frame, which the user knows; else the innermost frame of any kind."""
    if type(frames) is not list:
        return -1
    chosen = None
    for frame in frames[:64]:
        if type(frame) is dict and type(frame.get("filename")) is str:
            if frame["filename"].endswith(".py"):
                chosen = frame
                break
            chosen = chosen or (frame if frame["filename"] not in ("", "??") else None)
    if chosen is None:
        return -1
    text = f"{chosen.get('name')} {chosen['filename']}:{chosen.get('line')}"[:500]
    return names.setdefault(text, len(names))


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _address(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 63 else 0


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 50 else 0


def _timeline(memory: list[Memory], name: str, names: Any, warnings: list[str]) -> Timeline:
    none = empty_slices()
    return assemble(
        Found(
            lane=none.lane,
            start_ns=none.start_ns,
            duration_ns=none.duration_ns,
            name=none.name,
            kind=none.kind,
            correlation=none.correlation,
        ),
        [],
        names,
        source="torch-memory",
        name=name,
        memory=memory,
        origin_is_unix=any(int(each.time_ns[0]) > 10**18 for each in memory),
        warnings=warnings,
    )
