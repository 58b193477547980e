"""Does each call keep memory? What is in use, over many calls that discard their results.

Each meter counts exactly and none samples: what malloc has handed out, how many objects Python has, what a
GPU's allocator has handed out. Memory that a first call takes for good, and caches that fill, do not grow in
every window of calls, or less and less: in a module that `torch.compile` made, by 181 objects in the first 32
calls and by 22 in the eleventh. A leak grows by about as much in each.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fuseproof import units
from fuseproof.frameworks import host_memory

# Windows that are compared, after one that warms up.
_WINDOWS = 8
_MOST = 32  # calls in a window
_SECONDS = 2.0  # for all windows, unless one call takes a tenth of it
# The least that a call can keep, less some for what else is freed: one object, or one block of malloc.
_OBJECT, _BLOCK = 0.9, 20.0
# The smallest window over the median, and the second half of the windows over the first: containers grow by
# larger steps from time to time, and what fills grows by less and less.
_STEADY, _LASTING = 0.6, 0.8
# A function whose calls take longer would hold up the caller.
MOST_SECONDS = 2.0

Read = Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What every call keeps: so much per call, seen in so many calls."""

    meter: Meter
    per_call: float
    calls: int

    @property
    def message(self) -> str:
        return f"each call keeps {self.meter.shown(self.per_call)}, seen over {self.calls} calls"


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Something that is in use and can be counted; `least` is what a leak takes of it per call."""

    name: str
    read: Read
    least: float

    def shown(self, amount: float) -> str:
        if self.name == "objects of Python":
            return f"{units.significant(amount, 2)} {self.name}"
        return f"{units.memory(round(amount))} of {self.name}"


def leak(call: Callable[[], object], seconds: float, device_memory: Read | None) -> Leak | None:
    """What each call keeps; None if nothing. A leak is seen twice before it is one.

    call: discards what it gets. seconds: that one takes, `MOST_SECONDS` at most.
    device_memory: bytes in use on the device that is not the host.
    """
    calls = max(1, min(_MOST, int(_SECONDS / ((_WINDOWS + 1) * max(seconds, 1e-9)))))
    with _frozen():
        for _ in range(calls):
            call()
        first = _measured(call, calls, _meters(device_memory))
        # Another thread may have allocated meanwhile: it would have to do so in every window again.
        return _measured(call, calls, [first.meter]) if first else None


def reason_against(seconds: float) -> str:
    """Why some of it cannot be seen, where a call takes so many seconds; empty if it can."""
    if seconds > MOST_SECONDS:
        return f"not checked: a call takes {units.duration(seconds)}"
    if host_memory.in_use() is None:
        return "not checked outside Python: that needs glibc 2.33 or newer"
    return ""


def _meters(device_memory: Read | None) -> list[Meter]:
    found = [Meter(name="objects of Python", read=sys.getallocatedblocks, least=_OBJECT)]
    if host_memory.in_use() is not None:
        # First, because a block of malloc that an object of Python owns is the larger part of a leak.
        found.insert(0, Meter(name="host memory", read=lambda: host_memory.in_use() or 0, least=_BLOCK))
    if device_memory is not None:
        found.insert(0, Meter(name="memory of the device", read=device_memory, least=_BLOCK))
    return found


def _measured(call: Callable[[], object], calls: int, meters: list[Meter]) -> Leak | None:
    read: list[list[int]] = []
    for window in range(_WINDOWS + 1):
        if window:
            for _ in range(calls):
                call()
        gc.collect()
        read.append([meter.read() for meter in meters])
    for meter, values in zip(meters, zip(*read, strict=True), strict=True):
        growth = [after - before for before, after in itertools.pairwise(values)]
        if grows([each / calls for each in growth], meter.least):
            return Leak(meter=meter, per_call=sum(growth) / (_WINDOWS * calls), calls=_WINDOWS * calls)
    return None


def grows(growth: list[float], least: float) -> bool:
    """Whether the growth per call, window by window, is that of a leak."""
    half = len(growth) // 2
    return min(growth) >= max(least, _STEADY * statistics.median(growth)) and sum(
        growth[half:]
    ) >= _LASTING * sum(growth[:half])


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """Within, collections look at new objects only: with a framework loaded one takes 0.2 s otherwise."""
    own = not gc.get_freeze_count()
    if own:
        gc.freeze()
    try:
        yield
    finally:
        if own:
            gc.unfreeze()
