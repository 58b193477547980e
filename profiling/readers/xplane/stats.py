"""Makes the optional columns of slices from the stats of XPlane events.

An event's own stats overrule those of its metadata, which all events of that name share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.readers.xplane.xspace import Metadata, Plane, Stats
from fuseproof.profiling.timeline.model import Column


class Spec(NamedTuple):
    """One column: its source stats in order of preference."""

    stats: tuple[str, ...]
    kind: Literal["int", "float", "name", "details"]
    origin: str = "profiler"

    @property
    def names(self) -> bool:
        """Whether the values are indices into the timeline's names."""
        return self.kind == "name"


_MODEL: Final = "compile-time estimate"
COLUMNS: Final = {
    "flops": Spec(("model_flops", "flops"), "int", _MODEL),
    "bytes_accessed": Spec(("bytes_accessed", "bytes accessed"), "int", _MODEL),
    "program": Spec(("program_id",), "int"),
    "run": Spec(("run_id",), "int"),
    "occupancy": Spec(("occupancy_pct", "theoretical_occupancy_pct"), "float"),
    "hlo_op": Spec(("hlo_op",), "name"),
    "hlo_module": Spec(("hlo_module",), "name"),
    "hlo_category": Spec(("hlo_category",), "name"),
    "framework_op": Spec(("tf_op", "name_scope"), "name"),
    "source": Spec(("source",), "name"),
    "long_name": Spec((), "name"),
    # From the driver's description of a launch or copy, which is one string.
    "grid": Spec((), "details"),
    "block": Spec((), "details"),
    "registers": Spec((), "details"),
    "shared_memory": Spec((), "details"),
    "bytes": Spec((), "details"),
}
_DETAIL: Final = re.compile(r"([A-Za-z_]+):\s*([\d,]+)")
_DETAILS: Final = ("kernel_details", "memcpy_details", "memset_details")
# Intervals on a stream that are not work.
_IDLE: Final = ("memory_residency_details", "memalloc_details", "memfree_details", "overhead_details")


@dataclass(slots=True)
class Collected:
    """What the stats say of the events of one plane; each array [events]."""

    correlation: NDArray[np.int64]
    hlo: NDArray[np.bool_]  # has an HLO op
    framework: NDArray[np.bool_]  # has a framework op
    copies: NDArray[np.bool_]
    sets: NDArray[np.bool_]
    idle: NDArray[np.bool_]
    marked: NDArray[np.bool_]  # a step, or another range that the user named
    columns: dict[str, Column] = field(default_factory=dict)


class _Values:
    """The pieces of one column; later pieces overrule earlier ones."""

    def __init__(self) -> None:
        self.index: list[NDArray[np.int64]] = []
        self.value: list[NDArray[Any]] = []

    def put(self, index: NDArray[np.int64], value: NDArray[Any]) -> None:
        if len(index):
            self.index.append(index)
            self.value.append(value)

    def column(self) -> Column:
        index, value = np.concatenate(self.index), np.concatenate(self.value)
        order = np.argsort(index, kind="stable")
        index = index[order]
        last = np.append(index[1:] != index[:-1], True)
        return Column(index=index[last], value=value[order][last])


def collect(plane: Plane, metadata: Metadata, row: NDArray[np.int64], names: dict[str, int]) -> Collected:
    """The columns and marks of a plane's events.

    row:   [events] each event's place in the metadata, -1 unknown.
    names: indices of the timeline's names; new names are added.
    """
    count = len(row)
    none = np.zeros(count, np.bool_)
    found = Collected(
        correlation=np.full(count, -1, np.int64),
        hlo=none,
        framework=none.copy(),
        copies=none.copy(),
        sets=none.copy(),
        idle=none.copy(),
        marked=none.copy(),
    )
    ids: dict[str, list[int]] = {}
    for number, name in plane.stat_names.items():
        ids.setdefault(name, []).append(number)
    texts = _Texts(plane, names)
    values: dict[str, _Values] = {}
    # First the metadata's stats, repeated for each of their events.
    known = np.flatnonzero(row >= 0)
    known = known[np.argsort(row[known], kind="stable")]
    shared: dict[str, _Values] = {}
    _take(metadata.stats, ids, texts, shared, None)
    for name, each in shared.items():
        if not each.index:
            continue
        column = each.column()
        low = np.searchsorted(row[known], column.index, side="left")
        high = np.searchsorted(row[known], column.index, side="right")
        sizes = high - low
        places = np.repeat(low - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
        values.setdefault(name, _Values()).put(known[places], np.repeat(column.value, sizes, axis=0))
    for stats in plane.event_stats():
        _take(stats, ids, texts, values, found)
    found.columns = {name: each.column() for name, each in values.items() if each.index}
    for name, mask in (("hlo_op", found.hlo), ("framework_op", found.framework)):
        if name in found.columns:
            mask[found.columns[name].index] = True
    return found


def _take(
    stats: Stats,
    ids: dict[str, list[int]],
    texts: _Texts,
    values: dict[str, _Values],
    found: Collected | None,
) -> None:
    """Add one batch of stats to `values`, and to `found` if given."""
    if len(stats.owner) == 0:
        return
    for name, spec in COLUMNS.items():
        for source in reversed(spec.stats):
            if source not in ids:
                continue
            mine = stats.only(ids[source])
            value: NDArray[Any]
            if spec.kind == "name":
                index, value = texts.numbers(mine)
            else:
                index, value = numbers(mine)
                sensible = (value > 0) & (value <= 100) if spec.kind == "float" else value >= 0
                index, value = index[sensible], value[sensible]
                value = value.astype(np.float64 if spec.kind == "float" else np.int64)
            values.setdefault(name, _Values()).put(index, value)
    if found is None:
        return
    mine = stats.only(ids.get("correlation_id", []))
    index, value = numbers(mine)
    found.correlation[index] = np.where(value >= 0, value, -1).astype(np.int64)
    for source in _IDLE:
        found.idle[stats.only(ids.get(source, [])).owner] = True
    found.marked[stats.only(ids.get("step_num", [])).owner] = True
    for source in _DETAILS:
        mine = stats.only(ids.get(source, []))
        if len(mine.owner):
            mask = {"memcpy_details": found.copies, "memset_details": found.sets}.get(source)
            if mask is not None:
                mask[mine.owner] = True
            texts.details(mine, values, is_kernel=source == "kernel_details")


def numbers(stats: Stats) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Owners and values of the numeric stats; int64, or float64 if one is a double."""
    numeric = np.isin(stats.kind, (2, 3, 4))
    kind, raw, owner = stats.kind[numeric], stats.value[numeric], stats.owner[numeric]
    if (kind == 2).any():
        value = np.where(kind == 2, raw.view(np.float64), raw.view(np.int64).astype(np.float64))
        finite = np.isfinite(value) & (np.abs(value) < float(1 << 62))
        return owner[finite], value[finite]
    return owner, raw.view(np.int64)


def spelled(plane: Plane, stats: Stats) -> dict[int, str]:
    """The text of each owner's stat, by owner."""
    names: dict[str, int] = {}
    owner, value = _Texts(plane, names).numbers(stats)
    text = list(names)
    return {int(a): text[int(b)] for a, b in zip(owner, value, strict=True)}


class _Texts:
    """Turns the strings of stats into indices of names; decodes each different string once."""

    def __init__(self, plane: Plane, names: dict[str, int]) -> None:
        self._plane = plane
        self._names = names
        self._parsed: dict[bytes, dict[str, list[int]]] = {}
        self._known: dict[bytes, int] = {}

    def numbers(self, stats: Stats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Owners and name indices of the stats that are strings or refer to a stat's name."""
        references = stats.kind == 7
        given, place = np.unique(stats.value[references], return_inverse=True)
        referred = np.array(
            [self._number(self._plane.stat_names.get(int(key), "")) for key in given.view(np.int64)], np.int64
        )
        strings = stats.kind == 5
        raw = self._plane.data.data
        spelled = []
        for a, b in zip(stats.start[strings].tolist(), stats.end[strings].tolist(), strict=True):
            text = bytes(raw[a:b])
            number = self._known.get(text)
            if number is None:
                number = self._known[text] = self._number(str(text, "utf-8", "replace"))
            spelled.append(number)
        owner = np.concatenate([stats.owner[references], stats.owner[strings]])
        value = np.concatenate([referred[place] if len(given) else referred, np.array(spelled, np.int64)])
        return owner[value >= 0], value[value >= 0]

    def _number(self, text: str) -> int:
        return self._names.setdefault(text, len(self._names)) if text else -1

    def details(self, stats: Stats, values: dict[str, _Values], *, is_kernel: bool) -> None:
        """Columns from `regs:32 static_shared:0 dynamic_shared:0 grid:4,1,1 block:128,1,1 occ_pct:50`."""
        raw = self._plane.data.data
        names = self._plane.stat_names
        pieces: dict[str, tuple[list[int], list[list[int]]]] = {}
        columns = (stats.owner, stats.kind, stats.value, stats.start, stats.end)
        for owner, kind, value, a, b in zip(*(column.tolist() for column in columns), strict=True):
            text = names.get(value, "")[:500].encode() if kind == 7 else bytes(raw[a : min(b, a + 500)])
            parsed = self._parsed.get(text)
            if parsed is None:
                parsed = self._parsed[text] = _parse_details(text, is_kernel=is_kernel)
            for name, found in parsed.items():
                index, column = pieces.setdefault(name, ([], []))
                index.append(owner)
                column.append(found)
        for name, (index, column) in pieces.items():
            table = np.array(column, np.dtype(np.float64 if name == "occupancy" else np.int64))
            values.setdefault(name, _Values()).put(
                np.array(index, np.int64), table if name in ("grid", "block") else table[:, 0]
            )


def _parse_details(text: bytes, *, is_kernel: bool) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, value in _DETAIL.findall(text.decode("utf-8", "replace")):
        parts = [int(part) for part in value.split(",") if part and len(part) < 16]
        if parts:
            found[key] = parts
    if not is_kernel:
        # 0 means unknown: ROCm writes it for every copy.
        size = found.get("size") or found.get("num_bytes") or [0]
        return {"bytes": size[:1]} if size[0] > 0 else {}
    out = {name: found[name] for name in ("grid", "block") if len(found.get(name, ())) == 3}
    if "regs" in found:
        out["registers"] = found["regs"][:1]
    shared = [found[key][0] for key in ("static_shared", "dynamic_shared", "group_mem") if key in found]
    if shared:
        out["shared_memory"] = [sum(shared)]
    if 0 < found.get("occ_pct", [0])[0] <= 100:
        out["occupancy"] = found["occ_pct"][:1]
    return out
