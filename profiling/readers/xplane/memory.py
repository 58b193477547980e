"""Allocator events of XLA and TensorFlow: `MemoryAllocation`, `MemoryDeallocation` of no length on the host.

Their times are those of the dispatch, not of the device: `allocator-at-dispatch`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.readers.xplane.stats import numbers, spelled
from fuseproof.profiling.readers.xplane.xspace import Plane, Stats
from fuseproof.profiling.timeline.assemble import sorted_memory
from fuseproof.profiling.timeline.model import MEMORY_ACTION, Memory

EVENTS = {"MemoryAllocation": "alloc", "MemoryDeallocation": "free"}
_NUMBERS = ("bytes_allocated", "peak_bytes_in_use", "allocation_bytes", "requested_bytes", "addr", "address")
_NUMBERED = re.compile(r"([A-Za-z]+)_(\d+)_")


def read(
    plane: Plane,
    titles: Sequence[str],
    row: NDArray[np.int64],
    time_ns: NDArray[np.int64],
    devices: Sequence[str],
) -> list[Memory]:
    """The memory events of a host plane, by allocator.

    titles:  names of the plane's kinds of events; `row` [events] is each event's index into them.
    time_ns: [events] start of each event.
    devices: names of the device planes read so far.
    """
    actions = np.array([MEMORY_ACTION.get(EVENTS.get(title, ""), 255) for title in titles], np.uint8)[row]
    events = np.flatnonzero(actions != 255)
    if len(events) == 0:
        return []
    place = np.full(len(row), -1, np.int64)
    place[events] = np.arange(len(events))
    values = {name: np.full(len(events), np.nan) for name in _NUMBERS}
    address = np.zeros(len(events), np.uint64)
    allocator = np.full(len(events), "", object)
    wanted = {
        number: name for number, name in plane.stat_names.items() if name in (*_NUMBERS, "allocator_name")
    }
    for stats in plane.event_stats():
        for number, name in wanted.items():
            these = _of(stats, number, place)
            if name == "allocator_name":
                for owner, text in spelled(plane, these).items():
                    allocator[place[owner]] = text[:200]
            elif name in ("addr", "address"):
                plain = these.kind != 2
                address[place[these.owner[plain]]] = these.value[plain]
            else:
                owners, value = numbers(these)
                values[name][place[owners]] = value
    size = np.where(
        np.isnan(values["allocation_bytes"]), values["requested_bytes"], values["allocation_bytes"]
    )
    found = []
    for name in dict.fromkeys(allocator.tolist()):
        mine = np.flatnonzero(allocator == name)
        chosen = events[mine]
        changes = np.nan_to_num(size[mine]).astype(np.int64)
        peaks = values["peak_bytes_in_use"][mine]
        found.append(
            sorted_memory(
                Memory(
                    allocator=name or "unnamed allocator",
                    device=_device(name, devices),
                    semantics="allocator-at-dispatch",
                    time_ns=time_ns[chosen],
                    action=actions[chosen],
                    address=address[mine],
                    size=np.where(actions[chosen] == MEMORY_ACTION["free"], -changes, changes),
                    allocated=values["bytes_allocated"][mine],
                    reserved=np.full(len(mine), np.nan),
                    label=np.full(len(mine), -1, np.int32),
                    stated_peak_bytes=int(np.nanmax(peaks)) if np.isfinite(peaks).any() else None,
                )
            )
        )
    return found


def _of(stats: Stats, number: int, place: NDArray[np.int64]) -> Stats:
    mine = stats.only([number])
    chosen = place[mine.owner] >= 0
    return Stats(
        mine.owner[chosen],
        mine.id[chosen],
        mine.kind[chosen],
        mine.value[chosen],
        mine.start[chosen],
        mine.end[chosen],
    )


def _device(allocator: str, devices: Sequence[str]) -> str:
    """The allocator's device: /device:GPU:0 for `GPU_0_bfc`, the CPU for a name without a device."""
    found = _NUMBERED.search(allocator)
    if found is None:
        return "CPU"
    name = f"{found[1].upper()}:{found[2]}"
    return next((device for device in devices if device.endswith(name)), f"/device:{name}")
