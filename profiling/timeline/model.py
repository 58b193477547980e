"""One model for every trace: lanes of slices, counters and memory events, in columns of integer nanoseconds.

Readers make a `Timeline`; analysis, pages and writers read it.
Unknown is never zero: -1 in `correlation`, NaN in counters, no entry in an optional column, None elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.timeline.intervals import count_overlaps, union_length
from fuseproof.units import TimeUnit

Source = Literal["kineto", "xplane", "tpu-static", "torch-memory", "mixed"]
LaneKind = Literal["device", "host", "static"]
Semantics = Literal[
    "allocator-at-event", "allocator-at-dispatch", "reserved", "driver-used", "static-plan", "sampled"
]

KINDS: Final = (
    "kernel",
    "memcpy",
    "memset",
    "collective",
    "host_call",
    "framework_op",
    "user_range",
    "compile",
    "overhead",
    "other",
    "unestimated",  # in a static schedule: an instruction for which the compiler has no duration
)
KIND: Final[Mapping[str, int]] = {name: code for code, name in enumerate(KINDS)}
# Kinds that keep a device busy; `kernels` in the summary counts them. A collective is a kernel.
DEVICE_WORK: Final = ("kernel", "memcpy", "memset", "collective")
CALLS_LANE: Final = "profiled calls"  # the derived lane with a capture's call marks

MEMORY_ACTIONS: Final = (
    "alloc",
    "free",
    "preexisting",
    "reserve",
    "release",
    "out_of_memory",
    "resize",
    "other",
)
MEMORY_ACTION: Final[Mapping[str, int]] = {name: code for code, name in enumerate(MEMORY_ACTIONS)}


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A stream, a thread or a line of a plane. Its slices lie in sub-lanes 0 … `depth` - 1."""

    name: str  # "stream 7", "python3 (21587)", "XLA Ops"
    kind: LaneKind
    device: str  # "GPU 0 NVIDIA H100 80GB HBM3", "CPU"; equal for all lanes of one device, unique to it
    process: str = ""  # "python3 (21587)", a host name; empty where unknown
    thread: str = ""  # stream or thread identifier as the trace has it
    clock: str = "trace"  # lanes of different clock domains must not be compared in time
    derived: bool = False  # made by a tool from other lanes or its own clock; never counted
    depth: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """A property that some slices have: `value[i]` is that of slice `index[i]`; other slices have none.

    `index` is int64 and ascending. `value` is [n] or, for grid and block, [n, 3].
    """

    index: NDArray[np.int64]
    value: NDArray[Any]
    origin: str = "profiler"  # or "compile-time estimate", "framework formula"
    names: bool = False  # the values are indices into Timeline.names

    def get(self, slice_index: int) -> Any | None:
        """The value of one slice as Python objects (list for grid and block), None where unknown."""
        at = int(np.searchsorted(self.index, slice_index))
        if at == len(self.index) or self.index[at] != slice_index:
            return None
        return self.value[at].tolist()


@dataclass(frozen=True, kw_only=True, eq=False)
class Slices:
    """All slices of all lanes, sorted by lane, start, longest first. Times are relative to `origin_ns`."""

    lane: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]  # never negative
    name: NDArray[np.int32]  # index into Timeline.names
    kind: NDArray[np.uint8]  # index into KINDS
    depth: NDArray[np.uint16]  # sub-lane: within one (lane, depth) nothing overlaps
    correlation: NDArray[np.int64]  # joins a launch with its kernel; -1 unknown
    # grid, block [n, 3]; registers, shared_memory, flops, bytes, occupancy, program; hlo_op, hlo_module, …
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lane)

    @property
    def end_ns(self) -> NDArray[np.int64]:
        """End of each slice, relative to `origin_ns`."""
        return self.start_ns + self.duration_ns


@dataclass(frozen=True, kw_only=True, eq=False)
class Counter:
    """A quantity over time: `value[i]` at `time_ns[i]`, NaN where unknown, unknown in between."""

    name: str  # "allocated", "reserved", "power"
    unit: str  # "bytes", "W", "MHz"
    device: str  # as in Lane.device
    semantics: Semantics
    time_ns: NDArray[np.int64]  # ascending
    value: NDArray[np.float64]
    clock: str = "trace"


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """The events of one allocator on one device, ascending in time.

    `size` is the change in bytes, negative for a free, 0 for events that change nothing. `allocated` and
    `reserved` are the totals that the allocator itself reports after the event, NaN where it reports none.
    """

    allocator: str  # "torch", "GPU_0_bfc", "static plan"
    device: str
    semantics: Semantics
    time_ns: NDArray[np.int64]
    action: NDArray[np.uint8]  # index into MEMORY_ACTIONS
    address: NDArray[np.uint64]  # 0 unknown
    size: NDArray[np.int64]
    allocated: NDArray[np.float64]
    reserved: NDArray[np.float64]
    label: NDArray[np.int32]  # index into Timeline.names (allocating code, category); -1 unknown
    initial_bytes: float = float("nan")  # allocated before the first event, where known
    stated_peak_bytes: int | None = None  # the allocator's high-water mark; may be from before the record
    clock: str = "trace"

    def __len__(self) -> int:
        return len(self.time_ns)

    def running_bytes(self) -> NDArray[np.float64]:
        """[events] bytes allocated after each event: the allocator's totals, else its events summed.

        A sum starts at `initial_bytes`, or at the least start that keeps it from being negative.
        """
        if len(self) == 0:
            return np.empty(0)
        if not np.isnan(self.allocated).all():
            return self.allocated
        kept = np.isin(
            self.action, [MEMORY_ACTION[name] for name in ("alloc", "free", "preexisting", "resize")]
        )
        total = np.cumsum(np.where(kept, self.size, 0).astype(np.float64))
        start = self.initial_bytes if not np.isnan(self.initial_bytes) else max(0.0, -float(total.min()))
        return total + start

    @property
    def peak_bytes(self) -> int | None:
        """The highest total within the record; without totals, the allocator's high-water mark."""
        running = self.running_bytes()
        known = running[np.isfinite(running)]
        return int(known.max()) if len(known) else self.stated_peak_bytes


@dataclass(frozen=True, kw_only=True)
class Device:
    """The work of one device: slices of DEVICE_WORK on its lanes that are not derived."""

    name: str
    kernels: int
    busy_ns: int  # length of the union of their intervals
    span_ns: int  # last end minus first start
    overlaps: int  # slices that begin before an earlier one of their lane ends


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """One trace. Time 0 is `origin_ns`: Unix nanoseconds where `origin_is_unix`, else the trace's clock."""

    source: Source
    name: str
    origin_ns: int
    lanes: tuple[Lane, ...]
    slices: Slices
    names: tuple[str, ...]
    origin_is_unix: bool = False
    time_unit: TimeUnit = "ns"  # "cycles" for a static schedule: every `_ns` is in cycles then
    counters: tuple[Counter, ...] = ()
    memory: tuple[Memory, ...] = ()
    dropped_events: int | None = None  # None: the trace does not say
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)  # profiler and driver versions, peak rates, …

    def lane_mask(
        self, *, device: str | None = None, kind: LaneKind | None = None, derived: bool | None = None
    ) -> NDArray[np.bool_]:
        """[lanes] bool: lanes that match every given property."""
        return np.array(
            [
                (device is None or lane.device == device)
                and (kind is None or lane.kind == kind)
                and (derived is None or lane.derived == derived)
                for lane in self.lanes
            ],
            dtype=np.bool_,
        )

    def select(
        self, lanes: NDArray[np.bool_] | None = None, kinds: Collection[str] | None = None
    ) -> NDArray[np.bool_]:
        """[slices] bool: slices on these lanes ([lanes] bool) and of these kinds; None means all."""
        chosen = np.ones(len(self.slices), np.bool_) if lanes is None else lanes[self.slices.lane]
        if kinds is not None:
            wanted = np.zeros(len(KINDS), np.bool_)
            wanted[[KIND[kind] for kind in kinds]] = True
            chosen = chosen & wanted[self.slices.kind]
        return chosen

    def busy_ns(
        self, lanes: NDArray[np.bool_] | None = None, kinds: Collection[str] | None = DEVICE_WORK
    ) -> int:
        """Length of the union of the slices' intervals; by default on all lanes that are not derived."""
        chosen = self.select(self.lane_mask(derived=False) if lanes is None else lanes, kinds)
        return union_length(self.slices.start_ns[chosen], self.slices.end_ns[chosen])

    def devices(self) -> tuple[Device, ...]:
        """Devices with a device lane, and others on which kernels ran, in the order of their lanes."""
        raw = self.select(self.lane_mask(derived=False), DEVICE_WORK)
        lanes, starts, ends = self.slices.lane[raw], self.slices.start_ns[raw], self.slices.end_ns[raw]
        number = {name: i for i, name in enumerate(dict.fromkeys(lane.device for lane in self.lanes))}
        owner = np.array([number[lane.device] for lane in self.lanes], np.int64)[lanes]
        shown = {lane.device for lane in self.lanes if lane.kind == "device" and not lane.derived}
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(number) + 1))
        found = []
        for name, i in number.items():
            mine = order[bounds[i] : bounds[i + 1]]
            if len(mine) == 0 and name not in shown:
                continue
            first, last = starts[mine], ends[mine]
            found.append(
                Device(
                    name=name,
                    kernels=len(mine),
                    busy_ns=union_length(first, last),
                    span_ns=int(last.max() - first.min()) if len(mine) else 0,
                    overlaps=count_overlaps(lanes[mine], first, last),
                )
            )
        return tuple(found)

    @property
    def span_ns(self) -> int:
        """Last end minus first start over all slices."""
        if len(self.slices) == 0:
            return 0
        return int(self.slices.end_ns.max() - self.slices.start_ns.min())

    @property
    def overlaps(self) -> int:
        """`overlaps` summed over all devices."""
        return sum(device.overlaps for device in self.devices())


def empty_slices() -> Slices:
    """The slices of a timeline that has only memory or counters."""
    return Slices(
        lane=np.empty(0, np.int32),
        start_ns=np.empty(0, np.int64),
        duration_ns=np.empty(0, np.int64),
        name=np.empty(0, np.int32),
        kind=np.empty(0, np.uint8),
        depth=np.empty(0, np.uint16),
        correlation=np.empty(0, np.int64),
    )


def kind_codes(names: Iterable[str]) -> NDArray[np.uint8]:
    """The codes of KIND names, for `Slices.kind`."""
    return np.array([KIND[name] for name in names], np.uint8)
