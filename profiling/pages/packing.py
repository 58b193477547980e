"""Packs a timeline for a browser: columns of integers, plane by plane, in one deflated stream.

The stream is the length of a JSON manifest (four bytes, little endian), the manifest, then the columns that
it describes. A column is stored in planes of bytes, the lowest bytes of all values first: the upper planes of
small numbers are runs of zeros, which deflate to almost nothing. `html/unpack.js` decodes it in the browser.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fuseproof import units
from fuseproof.errors import UserError
from fuseproof.profiling.timeline.model import DEVICE_WORK, KIND, KINDS, Column, Memory, Timeline

# JavaScript's numbers are exact up to here; decoding would change a larger one.
_EXACT: Final = 2**53

# A property with more different values is a separate column, not part of the table of combinations.
_FEW_VALUES: Final = 4096

_KIND_LABELS: Final[Mapping[str, str]] = {
    "kernel": "kernel",
    "memcpy": "memory copy",
    "memset": "memory set",
    "collective": "collective",
    "host_call": "runtime or host call",
    "framework_op": "framework operator",
    "user_range": "user range",
    "compile": "compilation",
    "overhead": "profiler overhead",
    "other": "other",
    "unestimated": "no estimate: the width means nothing",
}

_MEANING: Final[Mapping[str, str]] = {
    "allocator-at-event": "allocator's count, when it allocated",
    "allocator-at-dispatch": "allocator's count at dispatch on the host; the device uses it later",
    "reserved": "held by the allocator, in use or not",
    "driver-used": "in use on the device by every process, as the driver reports",
    "static-plan": "assigned by the compiler, not measured",
    "sampled": "sampled; between the points nothing is known",
}

SOURCES: Final[Mapping[str, str]] = {
    "kineto": "PyTorch profiler (Kineto)",
    "xplane": "XPlane, the profile of JAX and TensorFlow",
    "tpu-static": "estimate: the TPU compiler's static schedule and memory, nothing measured",
    "torch-memory": "PyTorch memory snapshot or timeline",
    "mixed": "several sources",
}

Integers = NDArray[np.int64]


def pack(timeline: Timeline) -> bytes:
    """`timeline` as the deflated stream in the page.

    Raises UserError for times or identifiers too large for a browser's numbers.
    """
    columns = _Columns()
    slices = timeline.slices
    # Rows of the drawing are sub-lanes: their slices are in order and do not overlap.
    order = np.lexsort((slices.start_ns, slices.depth, slices.lane))
    origin = _first_moment(timeline)
    start = slices.start_ns[order] - origin
    duration = slices.duration_ns[order].astype(np.int64)
    lane, depth = slices.lane[order], slices.depth[order]
    opens = np.ones(len(order), np.bool_)
    opens[1:] = (lane[1:] != lane[:-1]) | (depth[1:] != depth[:-1])
    # A gap since the end of the previous slice of a row is a smaller number than a time.
    gap = start.copy()
    gap[1:] -= np.where(opens[1:], 0, start[:-1] + duration[:-1])

    used = np.zeros(len(timeline.names), np.bool_)
    used[slices.name] = True
    for column in slices.columns.values():
        if column.names:
            used[column.value] = True
    new_name = np.cumsum(used) - 1
    names = [name for name, wanted in zip(timeline.names, used.tolist(), strict=True) if wanted]

    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    details, detail, sparse = _details(timeline, position)
    devices = list(dict.fromkeys(one.device for one in timeline.lanes))
    groups, group_of = _groups(timeline)
    rows: list[list[int]] = [[0] * max(one.depth, 1) for one in timeline.lanes]
    for i in np.flatnonzero(opens).tolist():
        counts = rows[int(lane[i])]
        counts.extend([0] * (int(depth[i]) + 1 - len(counts)))
    for (i, d), size in zip(*_row_sizes(lane, depth, opens), strict=True):
        rows[i][d] = size
    has_shapes = "grid" in slices.columns
    manifest: dict[str, Any] = {
        "format": 1,
        "title": timeline.name,
        "facts": list(_facts(timeline)),
        "span": _last_moment(timeline) - origin,
        "kinds": [
            {
                "name": kind,
                "label": _KIND_LABELS[kind],
                "work": kind in DEVICE_WORK,
                "standIn": kind == "framework_op",
                "ranked": kind in ("kernel", "collective"),
                "range": kind == "user_range",
                "launched": kind in ("kernel", "collective") and has_shapes,
            }
            for kind in KINDS
        ],
        "names": names,
        "devices": devices,
        "groups": groups,
        "lanes": [
            {
                "name": one.name,
                "group": group_of[i],
                "device": devices.index(one.device),
                "derived": one.derived,
                "note": _lane_note(one.process, one.thread, one.clock, timeline),
                "rows": rows[i],
            }
            for i, one in enumerate(timeline.lanes)
        ],
        "details": details,
        "columns": {
            "gap": columns.integers(gap),
            "duration": columns.integers(duration),
            "name": columns.integers(new_name[slices.name[order]]),
            "kind": columns.integers(slices.kind[order].astype(np.int64)),
            "correlation": columns.integers(_correlation(slices.correlation[order]), delta=True),
            "detail": columns.integers(detail),
        },
        "sparse": [
            {
                "name": name,
                "names": column.names,
                "at": columns.integers(index, delta=True),
                "value": columns.numbers(new_name[value] if column.names else value),
            }
            for name, column, index, value in sparse
        ],
        "charts": [chart for chart in _charts(timeline, origin, columns) if chart["series"]],
    }
    head = json.dumps(manifest, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8",
        "replace",  # a lone surrogate in a name must not stop the page
    )
    return zlib.compress(b"".join((len(head).to_bytes(4, "little"), head, *columns.parts)), 7)


def _facts(timeline: Timeline) -> Iterator[str]:
    yield SOURCES[timeline.source]
    unknown = int(np.count_nonzero(timeline.slices.kind == KIND["unestimated"]))
    if unknown:
        yield f"{units.count(unknown, 'instruction')} without an estimate, not counted"


class _Columns:
    """Columns one after the other; adding one returns its description for the manifest."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._size = 0

    def integers(self, values: Integers, *, delta: bool = False) -> dict[str, Any]:
        """Adds a column of integers; with `delta`, of the steps from each value to the next."""
        code = "plain"
        if delta:
            values, code = np.diff(values, prepend=0), "delta"
        elif len(values) and values.min() < 0:
            code = "zigzag"
        if code != "plain":
            values = (values << 1) ^ (values >> 63)
        largest = int(values.max()) if len(values) else 0
        if largest >= _EXACT:
            raise UserError(
                f"the timeline holds the number {largest:,}; as nanoseconds that is more than the 104 days "
                "that a browser's numbers are exact for; do some events have another clock?"
            )
        return self._planes(values.astype("<i8"), max(1, -(-largest.bit_length() // 8)), code)

    def numbers(self, values: NDArray[Any]) -> dict[str, Any]:
        """Adds a column of integers or floats."""
        if values.dtype.kind in "iu" and len(values) and abs(values.astype(np.int64)).max() < _EXACT // 2:
            return self.integers(values.astype(np.int64))
        return self._planes(values.astype("<f8"), 8, "float")

    def _planes(self, values: NDArray[Any], planes: int, code: str) -> dict[str, Any]:
        part = values.view(np.uint8).reshape(-1, 8)[:, :planes].T.tobytes()
        where = {"at": self._size, "planes": planes, "count": len(values), "code": code}
        self.parts.append(part)
        self._size += len(part)
        return where


def _first_moment(timeline: Timeline) -> int:
    firsts = [int(times[0]) for times in _moments(timeline)]
    return min([*firsts, int(timeline.slices.start_ns.min())] if len(timeline.slices) else firsts, default=0)


def _last_moment(timeline: Timeline) -> int:
    lasts = [int(times[-1]) for times in _moments(timeline)]
    return max([*lasts, int(timeline.slices.end_ns.max())] if len(timeline.slices) else lasts, default=0)


def _moments(timeline: Timeline) -> Iterator[Integers]:
    """The times of each counter and each allocator that has any."""
    yield from (one.time_ns for one in timeline.counters if len(one.time_ns))
    yield from (one.time_ns for one in timeline.memory if len(one.time_ns))


def _row_sizes(
    lane: NDArray[np.int32], depth: NDArray[np.uint16], opens: NDArray[np.bool_]
) -> tuple[list[tuple[int, int]], list[int]]:
    begins = np.flatnonzero(opens)
    sizes = np.diff(begins, append=len(lane)).tolist()
    return list(zip(lane[begins].tolist(), depth[begins].tolist(), strict=True)), sizes


def _groups(timeline: Timeline) -> tuple[list[dict[str, Any]], list[int]]:
    """The groups of lanes, devices first and then processes of hosts, and each lane's group."""
    keys = [
        (0, one.device) if one.kind != "host" else (1, one.process or one.device) for one in timeline.lanes
    ]
    ordered = sorted(dict.fromkeys(keys), key=lambda key: key[0])
    return [{"name": name, "device": not host} for host, name in ordered], [
        ordered.index(key) for key in keys
    ]


def _lane_note(process: str, thread: str, clock: str, timeline: Timeline) -> str:
    clocks = {one.clock for one in timeline.lanes}
    parts = [process, thread and f"id {thread}", f"clock {clock}" if len(clocks) > 1 else ""]
    return ", ".join(part for part in parts if part)


def _correlation(values: Integers) -> Integers:
    """0 unknown, else the identifier plus one; identifiers too large for a browser get new numbers."""
    if len(values) and values.max() >= _EXACT // 4:
        return np.unique(np.maximum(values, -1), return_inverse=True)[1] + int(values.min() >= 0)
    return np.maximum(values, -1) + 1


_Sparse = tuple[str, Column, Integers, NDArray[Any]]


def _details(timeline: Timeline, position: Integers) -> tuple[list[dict[str, Any]], Integers, list[_Sparse]]:
    """The optional properties: a table of their few combinations, each slice's entry, and separate columns.

    A property with many different values is a separate column.
    """
    combined = np.zeros(len(position), np.int64)
    tabled: list[tuple[str, Column]] = []
    sparse: list[_Sparse] = []
    for name, column in timeline.slices.columns.items():
        label = name.replace("_", " ")
        if column.origin != "profiler":
            label += f" ({column.origin})"
        where = position[column.index]
        codes = np.zeros(len(position), np.int64)
        for part in np.atleast_2d(column.value.T):
            values, code = np.unique(part, return_inverse=True)
            joined = codes[where] * (len(values) + 1) + code.reshape(-1) + 1
            codes[where] = np.unique(joined, return_inverse=True)[1] + 1
        many = int(codes.max(initial=0))
        joined = np.unique(combined * (many + 1) + codes, return_inverse=True)[1]
        if column.value.ndim == 1 and max(many, int(joined.max(initial=0))) > _FEW_VALUES:
            by_place = np.argsort(where)
            sparse.append((label, column, where[by_place], column.value[by_place]))
        else:
            combined = joined
            tabled.append((label, column))
    example = np.unique(combined, return_index=True)[1]
    details: list[dict[str, Any]] = [{} for _ in example]
    old = np.empty(len(position), np.int64)
    old[position] = np.arange(len(position))
    for label, column in tabled:
        for combination, i in zip(details, old[example].tolist(), strict=True):
            value = column.get(i)
            if value is not None:
                combination[label] = timeline.names[value] if column.names else _finite(value)
    return details or [{}], combined, sparse


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _charts(timeline: Timeline, origin: int, columns: _Columns) -> Iterator[dict[str, Any]]:
    many = len({*(one.device for one in timeline.memory), *(one.device for one in timeline.counters)}) > 1
    place = {name: i for i, name in enumerate(dict.fromkeys(one.device for one in timeline.lanes))}
    for memory in sorted(timeline.memory, key=lambda one: place.get(one.device, len(place))):
        yield _chart(
            f"{memory.allocator}{f', {memory.device}' if many else ''}",
            "bytes",
            _MEANING[memory.semantics],
            memory.time_ns - origin,
            [("allocated", memory.running_bytes()), ("reserved", memory.reserved)],
            columns,
            step=True,
            note=_peak(memory),
        )
    for counter in sorted(timeline.counters, key=lambda one: place.get(one.device, len(place))):
        yield _chart(
            f"{counter.name}{f', {counter.device}' if many else ''}",
            counter.unit,
            _MEANING[counter.semantics],
            counter.time_ns - origin,
            [(counter.name, counter.value)],
            columns,
            step=counter.semantics != "sampled",
            note="",
        )


def _peak(memory: Memory) -> str:
    peak = memory.stated_peak_bytes
    whose = "compiler" if memory.semantics == "static-plan" else "allocator"
    return "" if peak is None else f"the {whose}'s own peak: {peak:,} bytes"


def _chart(
    name: str,
    unit: str,
    meaning: str,
    time_ns: Integers,
    series: list[tuple[str, NDArray[np.float64]]],
    columns: _Columns,
    *,
    step: bool,
    note: str,
) -> dict[str, Any]:
    known = [(label, value) for label, value in series if np.isfinite(value).any()]
    finite = [value[np.isfinite(value)] for _, value in known]
    if len(known) > 1:
        meaning += "; the pale line: reserved"
    where = columns.integers(time_ns, delta=True)
    return {
        "name": name,
        "unit": unit,
        "meaning": meaning,
        "note": note,
        "lowest": min([0.0, *(float(value.min()) for value in finite)]),
        "highest": max([0.0, *(float(value.max()) for value in finite)]),
        "series": [
            {"name": label, "step": step, "time": where, "value": columns.numbers(_as_integers(value))}
            for label, value in known
        ],
    }


def _as_integers(values: NDArray[np.float64]) -> NDArray[Any]:
    """Integers deflate far better than floats; values with a NaN must stay floats."""
    whole = (
        np.isfinite(values).all() and (abs(values) < _EXACT // 2).all() and (values == np.floor(values)).all()
    )
    return values.astype(np.int64) if whole else values
