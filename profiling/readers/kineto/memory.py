"""The `[memory]` instants of a Kineto trace: the events of torch's allocators, by device."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fuseproof.profiling.readers import microseconds
from fuseproof.profiling.timeline.assemble import sorted_memory
from fuseproof.profiling.timeline.model import MEMORY_ACTION, Memory

_CPU = 0  # torch's DeviceType


class _Events:
    def __init__(self) -> None:
        self.time: list[Any] = []
        self.address = array("Q")
        self.size = array("q")
        self.allocated = array("d")
        self.reserved = array("d")


class MemoryLog:
    """Collects events, one list for each (device type, device)."""

    def __init__(self, names: dict[Any, int]) -> None:
        self._names = names
        self._devices: dict[tuple[int, int], _Events] = {}
        self._unusable = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Add one `[memory]` instant; an unusable one is counted."""
        arguments = event.get("args")
        size = arguments.get("Bytes") if type(arguments) is dict else None
        if type(arguments) is not dict or type(size) is not int or abs(size) >= 1 << 62:
            self._unusable += 1
            return
        kind, number = arguments.get("Device Type"), arguments.get("Device Id")
        key = (kind if type(kind) is int else _CPU, number if type(number) is int else -1)
        events = self._devices.get(key)
        if events is None:
            if len(self._devices) >= 1000:
                self._unusable += 1
                return
            events = self._devices[key] = _Events()
        address = arguments.get("Addr")
        events.time.append(event.get("ts"))
        events.address.append(address if type(address) is int and 0 <= address < 1 << 64 else 0)
        events.size.append(size)
        events.allocated.append(_bytes(arguments.get("Total Allocated")))
        events.reserved.append(_bytes(arguments.get("Total Reserved")))

    def result(self, device_name: Callable[[int], str]) -> tuple[list[Memory], int]:
        """The events by device, and the number of unusable ones."""
        found = []
        unusable = self._unusable
        for (kind, number), events in sorted(self._devices.items()):
            time, known = microseconds.to_nanoseconds(events.time)
            unusable += int(np.count_nonzero(~known))
            size = np.frombuffer(events.size, np.int64)[known]
            reserved = np.frombuffer(events.reserved, np.float64)[known]
            if kind == _CPU and not np.nan_to_num(reserved).any():
                # The CPU allocator reserves nothing; 0 in the file means "not tracked".
                reserved = np.full(len(reserved), np.nan)
            found.append(
                sorted_memory(
                    Memory(
                        allocator="torch",
                        device="CPU" if kind == _CPU else device_name(number),
                        semantics="allocator-at-event",
                        time_ns=time[known],
                        action=np.where(size < 0, MEMORY_ACTION["free"], MEMORY_ACTION["alloc"]).astype(
                            np.uint8
                        ),
                        address=np.frombuffer(events.address, np.uint64)[known],
                        size=size,
                        allocated=np.frombuffer(events.allocated, np.float64)[known],
                        reserved=reserved,
                        label=np.full(len(size), -1, np.int32),
                    )
                )
            )
        return found, unusable


def _bytes(value: Any) -> float:
    return float(value) if type(value) in (int, float) and 0 <= value < 1 << 62 else float("nan")
