"""Makes a sorted Timeline that starts at 0 from a reader's slices, which are unsorted in absolute time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.profiling.timeline import intervals
from fuseproof.profiling.timeline.model import (
    Column,
    Counter,
    Lane,
    Memory,
    Slices,
    Source,
    Timeline,
)

# Times beyond this are nonsense (Unix time reaches it in 2043), and differences of them may not fit 64 bits.
TIME_LIMIT = 1 << 61
MAX_LANES = 20_000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Slices as a reader collects them, each array [n]; `columns` index into them and need not be sorted."""

    lane: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]
    name: NDArray[np.int32]
    kind: NDArray[np.uint8]
    correlation: NDArray[np.int64]
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)


def assemble(
    found: Found,
    lanes: Sequence[Lane],
    names: Sequence[str],
    *,
    source: Source,
    name: str,
    counters: Sequence[Counter] = (),
    memory: Sequence[Memory] = (),
    base_ns: int = 0,
    origin_is_unix: bool = False,
    dropped_events: int | None = None,
    warnings: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
) -> Timeline:
    """Sorts, drops impossible times and empty lanes, and assigns sub-lanes. Lanes keep their order.

    base_ns: added to the times of `found`, `counters` and `memory`, in nanoseconds.
    Raises UserError for more than 20,000 lanes.
    """
    warnings = list(warnings)
    if len(lanes) > MAX_LANES:
        raise UserError(f"{name} has {len(lanes)} streams and threads, more than {MAX_LANES}; not a trace")
    start, duration = found.start_ns, found.duration_ns
    sane = _possible(start) & (duration >= 0) & (duration < TIME_LIMIT)
    kept = np.flatnonzero(sane)
    if len(kept) < len(sane):
        warnings.append(f"{len(sane) - len(kept)} events with impossible times are left out")
    order = kept[np.lexsort((-duration[kept], start[kept], found.lane[kept]))]
    start, duration, lane = start[order], duration[order], found.lane[order]
    memory, left_out = _sane_memory(memory)
    if left_out:
        warnings.append(f"{left_out} memory events with impossible times are left out")
    firsts = [int(start.min())] if len(start) else []
    series = [each.time_ns for each in memory] + [each.time_ns for each in counters]
    firsts += [int(times[0]) for times in series if len(times)]
    origin = min(firsts, default=0)

    used = np.unique(lane)
    number = np.full(len(lanes), -1, np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    lane = number[lane]
    depth = intervals.sub_lanes(lane, start, duration)
    depths = np.zeros(len(used), np.int64)
    np.maximum.at(depths, lane, depth)
    slices = Slices(
        lane=lane,
        start_ns=start - origin,
        duration_ns=duration,
        name=found.name[order],
        kind=found.kind[order],
        depth=depth,
        correlation=found.correlation[order],
        columns=reindex(found.columns, order, len(found.lane)),
    )
    return Timeline(
        source=source,
        name=name,
        origin_ns=origin + base_ns,
        origin_is_unix=origin_is_unix,
        lanes=tuple(
            dataclasses.replace(lanes[i], depth=int(deepest) + 1)
            for i, deepest in zip(used, depths, strict=True)
        ),
        slices=slices,
        names=tuple(_printable(text) for text in names),
        counters=tuple(dataclasses.replace(each, time_ns=each.time_ns - origin) for each in counters),
        memory=tuple(dataclasses.replace(each, time_ns=each.time_ns - origin) for each in memory),
        dropped_events=dropped_events,
        warnings=tuple(warnings),
        notes=notes or {},
    )


def sorted_memory(memory: Memory) -> Memory:
    """The same events, ascending in time; events of one instant keep their order."""
    return _take(memory, np.argsort(memory.time_ns, kind="stable"))


def _possible(time: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (time > -TIME_LIMIT) & (time < TIME_LIMIT)


def _sane_memory(memory: Sequence[Memory]) -> tuple[list[Memory], int]:
    kept, left_out = [], 0
    for each in memory:
        sane = _possible(each.time_ns)
        left_out += int(np.count_nonzero(~sane))
        kept.append(each if sane.all() else _take(each, np.flatnonzero(sane)))
    return [each for each in kept if len(each)], left_out


def _take(memory: Memory, chosen: NDArray[np.int64]) -> Memory:
    columns = ("time_ns", "action", "address", "size", "allocated", "reserved", "label")
    return dataclasses.replace(memory, **{column: getattr(memory, column)[chosen] for column in columns})


def reindex(columns: Mapping[str, Column], order: NDArray[np.int64], size: int) -> dict[str, Column]:
    """Columns of `size` slices after those are reordered to `order` [n]; other entries are dropped."""
    place = np.full(size, -1, np.int64)
    place[order] = np.arange(len(order))
    out = {}
    for name, column in columns.items():
        index = place[column.index]
        chosen = np.flatnonzero(index >= 0)
        chosen = chosen[np.argsort(index[chosen], kind="stable")]
        if len(chosen):
            out[name] = dataclasses.replace(column, index=index[chosen], value=column.value[chosen])
    return out


def _printable(text: str) -> str:
    """The text without lone surrogates, which no file or terminal accepts."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
