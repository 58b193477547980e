"""Loads a capture for drawing: its traces, call marks and sampled counters joined in one timeline.

The common axis is Unix nanoseconds. Events of another clock are left out with a warning, never shifted by a
guess.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.profiling import capture
from fuseproof.profiling.analysis import kernels
from fuseproof.profiling.capture import record as capture_record
from fuseproof.profiling.capture.record import CaptureRecord, Series
from fuseproof.profiling.timeline.assemble import Found, assemble
from fuseproof.profiling.timeline.model import CALLS_LANE, KIND, Counter, Lane, Memory, Timeline

CALL_NAME: Final = "profiled call {}"  # from 1
# Before the first call and after the last: half of the idle time that a capture leaves between calls.
_AROUND_NS: Final = 1_000_000
_MARGIN: Final = 0.25  # share of the calls' span; samples this far around the calls are drawn


@dataclass(frozen=True, kw_only=True)
class MemoryRise:
    """The most bytes that one call added to an allocator's total at the call's start, the profiler on."""

    allocator: str
    device: str
    bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedCapture:
    """A capture as the page draws it.

    calls:  (start, end) of each call in the timeline's nanoseconds; empty if its clock is not Unix time.
    doubts: problems found while loading, beyond `record.warnings` and `timeline.warnings`.
    """

    record: CaptureRecord
    folder: Path
    timeline: Timeline
    calls: tuple[kernels.Window, ...]
    doubts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.record.implementation.name

    @cached_property
    def side(self) -> kernels.Side:
        """Kernels and busy time per call."""
        return kernels.gather(self.timeline, self.windows).side

    @property
    def windows(self) -> tuple[kernels.Window, ...]:
        """The span of each call with half of the idle time around it: clocks disagree a little."""
        if not self.calls:
            return ()
        middles = [(end + start) // 2 for (_, end), (start, _) in itertools.pairwise(self.calls)]
        first, last = self.calls[0][0] - _AROUND_NS, self.calls[-1][1] + _AROUND_NS
        return tuple(itertools.pairwise([first, *middles, last]))

    @property
    def call_ns(self) -> float | None:
        """Median length of a call with the profiler on, for reading the page; not a timing."""
        lengths = [call.end_ns - call.start_ns for call in self.record.calls]
        return statistics.median(lengths) if lengths else None

    @cached_property
    def memory_rise(self) -> MemoryRise | None:
        """Of the allocator that rose most, a device's before the CPU's; None without memory events."""
        found = [rise for memory in self.timeline.memory if (rise := _rise(memory, self.calls)) is not None]
        on_devices = [rise for rise in found if rise.device != "CPU"]
        return max(on_devices or found, key=lambda rise: rise.bytes, default=None)


def load(folder: Path) -> LoadedCapture:
    """The capture in `folder`. Raises UserError if the record or a trace cannot be read."""
    record = capture_record.load(folder)
    doubts: list[str] = []
    kinds = [trace.kind for trace in record.traces]
    read = list(zip(kinds, capture.timelines(folder, record), strict=True))
    if not read:
        raise UserError(f"{folder} names no trace; capture it again")
    main = next((timeline for kind, timeline in read if kind != "torch-memory"), None)
    others = [timeline for _, timeline in read if timeline is not main]
    if main is None:
        main, others = others[0], others[1:]
    if not main.origin_is_unix:
        doubts.append("the trace's clock is not Unix time: calls and samples are not drawn")
        return LoadedCapture(record=record, folder=folder, timeline=main, calls=(), doubts=tuple(doubts))
    memory = list(main.memory)
    for other in others:
        if other.origin_is_unix:
            memory += [
                dataclasses.replace(
                    each,
                    allocator=f"{each.allocator} (snapshot)",
                    time_ns=each.time_ns + (other.origin_ns - main.origin_ns),
                    label=np.full(len(each), -1, np.int32),
                )
                for each in other.memory
            ]
        else:
            doubts.append(f"the memory of {other.name} has another clock and is not drawn")
    timeline = _joined(main, memory, record)
    shift = timeline.origin_ns
    calls = tuple((call.start_ns - shift, call.end_ns - shift) for call in record.calls)
    doubts += _misplaced(timeline, calls)
    return LoadedCapture(record=record, folder=folder, timeline=timeline, calls=calls, doubts=tuple(doubts))


def typical_call(profiles: Sequence[LoadedCapture]) -> int | None:
    """The call, from 0, whose length is nearest to the median in all captures.

    None if a capture has no calls on its timeline.
    """
    placed = [[call.end_ns - call.start_ns for call in one.record.calls] for one in profiles if one.calls]
    if len(placed) < len(profiles) or not placed or not all(placed):
        return None
    shared = min(map(len, placed))
    apart = [
        max(abs(lengths[k] / (statistics.median(lengths) or 1) - 1) for lengths in placed)
        for k in range(shared)
    ]
    return apart.index(min(apart))


def _joined(main: Timeline, memory: Sequence[Memory], record: CaptureRecord) -> Timeline:
    """The trace with a lane of calls and with the samples, in Unix nanoseconds."""
    s = main.slices
    origin = main.origin_ns
    marks = record.calls
    lane = Lane(name=CALLS_LANE, kind="device", device=_main_device(main), derived=True)
    names = (*main.names, *(CALL_NAME.format(i + 1) for i in range(len(marks))))

    def both(first: Sequence[int], second: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([np.array(first, second.dtype), second])

    found = Found(
        lane=both([0] * len(marks), s.lane + 1),
        start_ns=both([call.start_ns for call in marks], s.start_ns + origin),
        duration_ns=both([call.end_ns - call.start_ns for call in marks], s.duration_ns),
        name=both([len(main.names) + i for i in range(len(marks))], s.name),
        kind=both([KIND["user_range"]] * len(marks), s.kind),
        correlation=both([-1] * len(marks), s.correlation),
        columns={
            key: dataclasses.replace(column, index=column.index + len(marks))
            for key, column in s.columns.items()
        },
    )
    return assemble(
        found,
        [lane, *main.lanes],
        names,
        source=main.source,
        name=main.name,
        counters=[
            *(dataclasses.replace(each, time_ns=each.time_ns + origin) for each in main.counters),
            *(counter for series in record.samples if (counter := _counter(series, record)) is not None),
        ],
        memory=[dataclasses.replace(each, time_ns=each.time_ns + origin) for each in memory],
        origin_is_unix=True,
        dropped_events=main.dropped_events if record.dropped_events is None else record.dropped_events,
        warnings=main.warnings,
        notes=main.notes,
    )


def _main_device(timeline: Timeline) -> str:
    devices = timeline.devices()
    return max(devices, key=lambda device: device.kernels).name if devices else "CPU"


def _counter(series: Series, record: CaptureRecord) -> Counter | None:
    """The samples around the calls; None if there are none, and for bit masks, which are not a quantity."""
    if series.unit == "bits" or not record.calls:
        return None
    first, last = record.calls[0].start_ns, record.calls[-1].end_ns
    margin = int((last - first) * _MARGIN) + 1
    time = np.array(series.time_ns, np.int64)
    kept = (time >= first - margin) & (time <= last + margin)
    value = np.array([np.nan if one is None else one for one in series.value], np.float64)[kept]
    if not np.isfinite(value).any():
        return None
    return Counter(
        name=series.name.replace("_", " "),
        unit=series.unit,
        device=series.device,
        semantics="driver-used" if series.name == "memory_used" else "sampled",
        time_ns=time[kept],
        value=value,
    )


def _misplaced(timeline: Timeline, calls: Sequence[kernels.Window]) -> list[str]:
    """A doubt for each sign that the calls and the trace have different clocks."""
    if not calls:
        return ["no call was marked: the numbers are for the whole trace"]
    s = timeline.slices
    others = ~np.array([lane.name == CALLS_LANE for lane in timeline.lanes], np.bool_)[s.lane]
    starts = np.sort(s.start_ns[others])
    empty = sum(
        int(np.searchsorted(starts, end) - np.searchsorted(starts, start)) == 0 for start, end in calls
    )
    if not empty:
        return []
    return [f"nothing was recorded in {empty} of {len(calls)} calls: their clock may not be the trace's"]


def _rise(memory: Memory, calls: Sequence[kernels.Window]) -> MemoryRise | None:
    running = memory.running_bytes()
    rises = []
    for start, end in calls:
        first, last = np.searchsorted(memory.time_ns, (start, end))
        within = running[first:last]
        if len(within):
            before = running[first - 1] if first else running[0] - memory.size[0]
            if np.isfinite(before) and np.isfinite(within).any():
                rises.append(max(0, int(np.nanmax(within) - before)))
    if not rises:
        return None
    return MemoryRise(allocator=memory.allocator, device=memory.device, bytes=max(rises))
