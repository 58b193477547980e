"""Marks the kernels in a capture's trace and assigns each to a call.

If the trace has a device, its kernels and collectives count; copies and memsets do not. On the CPU, XLA's
thunks with an HLO op count, and the operators that the framework says compute (`kernel_names`). The outermost
operator counts; nested ones belong to it. HLO's control flow does not count; the operations inside it do.
Readers do not mark a CPU's operators: a bare trace does not show which of them compute.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.timeline import intervals
from fuseproof.profiling.timeline.assemble import reindex
from fuseproof.profiling.timeline.model import DEVICE_WORK, KIND, Timeline

RULES: Final = {
    "torch": "the outermost operator that computes, by PyTorch's dispatcher, and each C++ kernel of Inductor",
    "jax": "each thunk of XLA that has an HLO op, without control flow",
    "tensorflow": "each operation that computes elements, and each thunk of XLA that has an HLO op, without "
    "control flow",
}
DEVICE_RULE: Final = "each kernel on a stream or core of the device, without copies, memsets and control flow"

_KERNELS: Final = ("kernel", "collective")
# Kinds of slices that may be kernels on the CPU; so may "other" events that name an operation after a colon.
_NAMED: Final = ("framework_op", "user_range")
_CONTROL_FLOW: Final = re.compile(r"%?(while|conditional|call)([.\- ]|$)")
_END: Final = "end: "
_MOST_ROOM: Final = 2_000_000  # nanoseconds


class Call(Protocol):
    """A profiled call, as a capture's record has it: from just before it until its results are ready."""

    @property
    def start_ns(self) -> int: ...

    @property
    def end_ns(self) -> int: ...


def rule(framework: str, timeline: Timeline) -> str:
    """What counts as a kernel in this timeline, in words."""
    return DEVICE_RULE if _on_device(timeline).any() else RULES[framework]


def names_to_judge(timeline: Timeline) -> list[str]:
    """Names of host slices that may be kernels, for the framework to judge; empty if a device worked."""
    if _on_device(timeline).any():
        return []
    chosen = timeline.select(timeline.lane_mask(kind="host"), _NAMED)
    names = {timeline.names[number] for number in np.unique(timeline.slices.name[chosen]).tolist()}
    others = timeline.select(timeline.lane_mask(kind="host"), ("other",))
    found = (timeline.names[number] for number in np.unique(timeline.slices.name[others]).tolist())
    return sorted(names | {name for name in found if ": " in name and not name.startswith(_END)})


def mark(timeline: Timeline, kernel_names: Collection[str]) -> Timeline:
    """The timeline with its kernels, by the rule of this module, as slices of kind `kernel`.

    kernel_names: operators that the framework says compute.
    On the CPU a thunk of XLA that ends on another thread is prolonged to its `end: NAME` event.
    """
    slices = timeline.slices
    control = np.array([bool(_CONTROL_FLOW.match(name)) for name in timeline.names], np.bool_)
    kind = slices.kind.copy()
    kind[(kind == KIND["kernel"]) & control[slices.name]] = KIND["other"]
    if _on_device(timeline).any():
        return dataclasses.replace(timeline, slices=dataclasses.replace(slices, kind=kind))
    named = set(kernel_names)
    wanted = np.isin(slices.name, [i for i, name in enumerate(timeline.names) if name in named])
    wanted &= np.isin(kind, [KIND[name] for name in (*_NAMED, "other")])
    kind[_outermost(timeline, np.flatnonzero(wanted))] = KIND["kernel"]
    return _to_their_ends(dataclasses.replace(timeline, slices=dataclasses.replace(slices, kind=kind)))


def by_call(timeline: Timeline, calls: Sequence[Call]) -> list[NDArray[np.int64]]:
    """For each call, the indices of its kernels in a marked timeline, sorted by start.

    A kernel belongs to the call that launched it if the trace has the launch, else to the call in which it
    began. Clocks may disagree by half the idle time between two calls, at most a millisecond. A kernel
    further from every call belongs to none: kernels of the call that warms up the profiler, copies of inputs
    that a call consumes.
    """
    slices = timeline.slices
    kernels = np.flatnonzero(timeline.select(timeline.lane_mask(derived=False), _KERNELS))
    launched = _launch_times(timeline, kernels)
    starts = np.array([call.start_ns for call in calls], np.int64) - timeline.origin_ns
    ends = np.array([call.end_ns for call in calls], np.int64) - timeline.origin_ns
    room = int(np.min(starts[1:] - ends[:-1], initial=_MOST_ROOM)) // 2
    place = np.searchsorted(starts - room, launched, side="right") - 1
    place[(place >= 0) & (launched > ends[place] + room)] = -1
    found = []
    for call in range(len(calls)):
        mine = kernels[place == call]
        found.append(mine[np.argsort(slices.start_ns[mine], kind="stable")])
    return found


def _on_device(timeline: Timeline) -> NDArray[np.bool_]:
    """Which slices are the work of a device other than the host."""
    return timeline.select(timeline.lane_mask(kind="device", derived=False), DEVICE_WORK)


def _outermost(timeline: Timeline, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The chosen slices that no other chosen slice of their lane contains."""
    lane, start, end = timeline.slices.lane, timeline.slices.start_ns, timeline.slices.end_ns
    kept: list[int] = []
    # Sorted by lane, start, longest first: a container comes before its content.
    for index in chosen.tolist():
        if not kept or lane[kept[-1]] != lane[index] or start[index] >= end[kept[-1]]:
            kept.append(index)
    return np.array(kept, np.int64)


def _launch_times(timeline: Timeline, kernels: NDArray[np.int64]) -> NDArray[np.int64]:
    """When the host launched each kernel, by correlation; the kernel's start if that is unknown."""
    slices = timeline.slices
    host = timeline.lane_mask(kind="host")[slices.lane] & (slices.correlation >= 0)
    launches = np.flatnonzero(host)
    launches = launches[np.argsort(slices.correlation[launches], kind="stable")]
    found = slices.start_ns[kernels].copy()
    correlation = slices.correlation[kernels]
    if not len(launches):
        return found
    place = np.searchsorted(slices.correlation[launches], correlation)
    place = np.minimum(place, len(launches) - 1)
    known = (correlation >= 0) & (slices.correlation[launches[place]] == correlation)
    found[known] = slices.start_ns[launches[place[known]]]
    return found


def _to_their_ends(timeline: Timeline) -> Timeline:
    """Prolongs XLA's thunks on the CPU to their `end: NAME` events, on any thread."""
    slices, names = timeline.slices, timeline.names
    is_end = np.array([name.startswith(_END) for name in names], np.bool_)
    ends: dict[str, list[int]] = {}
    for index in np.flatnonzero(is_end[slices.name]).tolist():
        ends.setdefault(names[slices.name[index]].removeprefix(_END), []).append(int(slices.start_ns[index]))
    thunks: dict[str, list[int]] = {}
    for index in np.flatnonzero(slices.kind == KIND["kernel"]).tolist():
        thunks.setdefault(names[slices.name[index]], []).append(index)
    end_of_slice = slices.end_ns.copy()
    for name, times in ends.items():
        mine = thunks.get(name, [])
        # Thunks of one name run one after the other, so the ends have the order of the starts.
        if len(times) == len(mine):
            mine.sort(key=lambda index: int(slices.start_ns[index]))
            end_of_slice[mine] = np.maximum(end_of_slice[mine], sorted(times))
    if np.array_equal(end_of_slice, slices.end_ns):
        return timeline
    duration = end_of_slice - slices.start_ns
    order = np.lexsort((-duration, slices.start_ns, slices.lane))
    lane, start, duration = slices.lane[order], slices.start_ns[order], duration[order]
    depth = intervals.sub_lanes(lane, start, duration)
    deepest = np.zeros(len(timeline.lanes), np.int64)
    np.maximum.at(deepest, lane, depth)
    return dataclasses.replace(
        timeline,
        lanes=tuple(
            dataclasses.replace(each, depth=int(depths) + 1)
            for each, depths in zip(timeline.lanes, deepest, strict=True)
        ),
        slices=dataclasses.replace(
            slices,
            lane=lane,
            start_ns=start,
            duration_ns=duration,
            name=slices.name[order],
            kind=slices.kind[order],
            depth=depth,
            correlation=slices.correlation[order],
            columns=reindex(slices.columns, order, len(order)),
        ),
    )
