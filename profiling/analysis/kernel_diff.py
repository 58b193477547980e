"""Which kernels of one timeline became which of another, by what the traces say of them; nothing is guessed.

Two kernels are joined, in this order,

1. by their name (but for the number at its end), where both have it: `matched`; where the name says nothing,
   such as XLA's `fusion`, only if nothing else is known of it, and the row says so;
2. by framework operator: what ran before under `aten::gelu` and after as `triton_poi_fused_add_gelu_0` or
   `graph_0_cpp_fused_add_gelu_0` (Inductor puts the operators into the name), as `add_rsqrt_fusion` (XLA puts
   the last operations of a fusion there), under the same operator, or with that operator in its HLO metadata.
   All that hang together are one row: `merged` where the kernels after are fewer, else `matched`.

The rest is `only-before` and `only-after`. Not joined does not mean unrelated: XLA's `fusion.4` has no words.
Kernels are here all that keeps a device busy: copies and memsets too. Where none was seen, the
outermost framework operators stand in, as in a bare trace of PyTorch's CPU.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.timeline.intervals import union_length
from fuseproof.profiling.timeline.model import DEVICE_WORK, KIND, Source, Timeline
from fuseproof.units import TimeUnit, duration, number

Relation = Literal["merged", "only-before", "only-after", "matched"]
RELATIONS: Final[tuple[Relation, ...]] = ("merged", "only-before", "only-after", "matched")
Window = tuple[int, int]  # ns in the timeline's own time, half open
Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]

_FUSED: Final = re.compile(r"(?:graph_\d+_)?(?:triton|cpp|cutlass|xpu)_(?:[a-z]+_)?fused_(.+?)(?:_\d+)?$")
_NUMBERED: Final = re.compile(r"\.(?:\d+|clone|remat|cloned)(?=\.|$)")
# Operators that only name or regroup memory: that two kernels have them in common says nothing.
_VIEWS: Final = frozenset(
    ("t", "transpose", "permute", "as_strided", "view", "_unsafe_view", "reshape", "expand", "empty",
     "empty_like", "empty_strided", "resolve_conj", "resolve_neg", "detach", "slice", "select", "unsqueeze",
     "squeeze", "alias", "to", "_to_copy", "contiguous", "copy", "clone", "fill", "zero")
)  # fmt: skip
# Words in the names of XLA's fusions that say how, not what; and what any module may be called.
_HOW: Final = frozenset(
    ("fusion", "fused", "wrapped", "loop", "input", "output", "broadcast", "bitcast", "convert", "copy",
     "parameter", "tuple", "get", "element", "call", "command", "region", "computation", "clone", "custom",
     "ynn", "onednn", "forward", "backward", "convert_element_type", "element_type")
)  # fmt: skip
# What TensorFlow calls otherwise than XLA.
_XLA_WORDS: Final = {
    "addv2": "add",
    "sub": "subtract",
    "mul": "multiply",
    "realdiv": "divide",
    "matmul": "dot",
}
# Wrappers of PyTorch's compiler around what it runs.
_WRAPPER: Final = re.compile(
    r"torch-compiled region|torchdynamo|aotdispatcher|pregraph|## call|compiledfx|compiledfunction|"
    r"autograd::engine",
    re.I,
)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """All slices of one name, per call: the mean of their count, the median of their summed durations.

    `time_ns` is None where the trace has no durations.
    """

    name: str
    count: float
    time_ns: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """Kernels that became others. `joined_by`: what says so, in words; empty for those of one side only."""

    relation: Relation
    before: tuple[Kernel, ...] = ()
    after: tuple[Kernel, ...] = ()
    joined_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One timeline in numbers per call. `unit`: what was compared."""

    name: str
    source: Source
    unit: Literal["kernel", "operator"]
    count: float
    busy_ns: float  # length of the union within a call, the median over calls
    calls: int = 0  # 0: none was marked, the whole trace counts as one
    time_unit: TimeUnit = "ns"  # of this and of the kernels


@dataclass(frozen=True, kw_only=True)
class Difference:
    before: Side
    after: Side
    rows: tuple[Row, ...]  # by relation, in the order of RELATIONS; the longest first

    def count(self, relation: Relation) -> tuple[float, float]:
        """Kernels per call before and after in the rows of a relation."""
        rows = [row for row in self.rows if row.relation == relation]
        return sum(k.count for row in rows for k in row.before), sum(
            k.count for row in rows for k in row.after
        )

    @property
    def per(self) -> str:
        """What the numbers are of, in words."""
        known = self.before.calls and self.after.calls
        return "per call" if known else "in the program" if self.is_static else "over the whole trace"

    @property
    def is_static(self) -> bool:
        return "tpu-static" in (self.before.source, self.after.source)

    def sentence(self) -> str:
        """The difference in one or two lines."""
        static = any(k.time_ns is None for row in self.rows for k in (*row.before, *row.after))
        plural = "" if self.before.count == 1 else "s"
        told = [f"{number(self.before.count)} {self.before.unit}{plural} became {number(self.after.count)}"]
        merged, into = self.count("merged")
        if merged:
            told.append(f"{number(merged)} merged into {number(into)}")
        gone, new = self.count("only-before")[0], self.count("only-after")[1]
        if gone:
            told.append(f"{number(gone)} named by nothing after")
        if new:
            told.append(f"{number(new)} by nothing before")
        kept = self.count("matched")
        if any(kept):
            told.append(f"{number(kept[0])} matched with {number(kept[1])}")
        unknown = "" if not static else ", as far as there are estimates"
        return (
            f"{'; '.join(told)}. "
            f"Busy {duration(self.before.busy_ns, self.before.time_unit)} → "
            f"{duration(self.after.busy_ns, self.after.time_unit)} {self.per}{unknown}."
        )


def total(kernels: Sequence[Kernel], unit: TimeUnit = "ns") -> str:
    """Their time per call; nothing for none, `unknown` where one has no known time."""
    if any(kernel.time_ns is None for kernel in kernels):
        return "unknown"
    return duration(sum(kernel.time_ns or 0 for kernel in kernels), unit) if kernels else ""


def compare(
    before: Timeline,
    after: Timeline,
    *,
    before_calls: Sequence[Window] = (),
    after_calls: Sequence[Window] = (),
) -> Difference:
    """The difference of two timelines, per call; without calls, a whole trace counts as one."""
    first, second = gather(before, before_calls), gather(after, after_calls)
    rows = list(_rows(first.units, second.units))
    rows.sort(key=lambda row: (RELATIONS.index(row.relation), -_longest(row)))
    return Difference(before=first.side, after=second.side, rows=tuple(rows))


@dataclass(kw_only=True)
class _Unit:
    """A name on one side. `under`: operators it ran under or holds; `is_`: operators it is itself."""

    name: str
    count: float
    time_ns: float | None
    under: set[str] = field(default_factory=set)
    is_: set[str] = field(default_factory=set)
    fused: bool = False
    vague: bool = False  # a name that does not say what is computed, such as XLA's `fusion`

    @property
    def kernel(self) -> Kernel:
        return Kernel(name=self.name, count=self.count, time_ns=self.time_ns)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What one timeline did in its calls."""

    side: Side
    units: Sequence[_Unit]


def gather(timeline: Timeline, calls: Sequence[Window] = ()) -> Gathered:
    """Kernels by name, or the outermost framework operators where none ran, per call."""
    s = timeline.slices
    windows = list(calls) or [(0, int(s.end_ns.max(initial=0)) + 1)]
    inside = _within(s.start_ns, windows)
    raw = timeline.lane_mask(derived=False)
    work = timeline.select(raw, (*DEVICE_WORK, "unestimated"))
    operators = not work.any()
    outermost = _outermost(timeline) if operators else work
    chosen = np.flatnonzero(outermost & inside)
    related = _ancestors(timeline, chosen)
    if operators or _on_host(timeline, chosen):
        for place, names in _descendants(timeline, chosen).items():
            related[place] = related.get(place, set()) | names
    units = [
        _unit(timeline, chosen, names, related, windows, operators)
        for names in _groups(s.name[chosen].astype(np.int64))
    ]
    timed = outermost & (s.kind != KIND["unestimated"])
    start, end = s.start_ns[timed], s.end_ns[timed]
    side = Side(
        name=timeline.name,
        source=timeline.source,
        unit="operator" if operators else "kernel",
        count=len(chosen) / len(windows),
        busy_ns=statistics.median(_busy(start, end, window) for window in windows),
        calls=len(calls),
        time_unit=timeline.time_unit,
    )
    return Gathered(side=side, units=_same_names_together(units))


def _unit(
    timeline: Timeline,
    chosen: Integers,
    places: Integers,
    related: dict[int, set[str]],
    windows: Sequence[Window],
    operators: bool,
) -> _Unit:
    s = timeline.slices
    mine = chosen[places]
    name = timeline.names[s.name[mine[0]]]
    known = s.kind[mine] != KIND["unestimated"]
    unit = _Unit(
        name=name,
        count=len(mine) / len(windows),
        time_ns=_median_time(s.start_ns[mine], s.duration_ns[mine], windows) if known.all() else None,
    )
    for i in places.tolist():
        unit.under |= related.get(i, set())
    told = {text for key in ("framework_op", "hlo_module") for text in _texts(timeline, key, mine)}
    unit.under |= {_operator(text) for text in told}
    fused = _FUSED.match(name)
    if fused:
        unit.fused = True
        unit.is_ = {f"\0{fused[1]}"}  # operators joined by "_", which they also contain: parted when compared
    elif operators or (_on_host(timeline, mine) and not _texts(timeline, "hlo_op", mine)):
        unit.is_ = {_operator(name)}
    elif "hlo_op" in s.columns or "hlo_category" in s.columns:
        words = {word for word in re.split(r"[_\-.\d]+", name) if len(word) > 1}
        unit.vague = words <= _HOW
        unit.is_ = (words | {_operator(text) for text in _texts(timeline, "framework_op", mine)}) - _HOW
        unit.fused = "fusion" in words
    else:
        unit.is_ = set(unit.under)
    unit.under |= {operator for operator in unit.is_ if not operator.startswith("\0")}
    unit.under |= {_XLA_WORDS[operator] for operator in unit.under if operator in _XLA_WORDS}
    return unit


def _rows(before: Sequence[_Unit], after: Sequence[_Unit]) -> Iterable[Row]:
    named = {unit.name: unit for unit in after}
    same = [
        (old, new)
        for old in before
        if (new := named.get(old.name)) is not None and not (old.vague and (old.is_ or new.is_))
    ]
    for old, new in same:
        how = "the same name, which does not say what is computed" if old.vague else "the same name"
        yield Row(relation="matched", before=(old.kernel,), after=(new.kernel,), joined_by=how)
    taken = {old.name for old, _ in same}
    left = [unit for unit in before if unit.name not in taken]
    right = [unit for unit in after if unit.name not in taken]
    vocabulary = sorted({o for unit in left for o in unit.under}, key=len, reverse=True)
    shared = {
        (i, j): common
        for j, new in enumerate(right)
        for holds in [_holds(new, vocabulary)]
        for i, old in enumerate(left)
        if (common := (holds & old.under) - _VIEWS)
    }
    for lefts, rights in _components(len(left), len(right), shared):
        a, b = [left[i] for i in sorted(lefts)], [right[j] for j in sorted(rights)]
        operators = sorted({o for i in lefts for j in rights for o in shared.get((i, j), ())})
        first, second = tuple(unit.kernel for unit in a), tuple(unit.kernel for unit in b)
        if not b:
            yield Row(relation="only-before", before=first)
        elif not a:
            yield Row(relation="only-after", after=second)
        else:
            merged = sum(k.count for k in second) < sum(k.count for k in first)
            yield Row(
                relation="merged" if merged else "matched",
                before=first,
                after=second,
                joined_by=f"{'operators' if len(operators) > 1 else 'operator'} {', '.join(operators)}",
            )


def _holds(unit: _Unit, vocabulary: Sequence[str]) -> set[str]:
    """The operators a kernel is; those of a fused name are found in it, longest first."""
    found = {operator for operator in unit.is_ if not operator.startswith("\0")}
    for body in (operator[1:] for operator in unit.is_ if operator.startswith("\0")):
        text = f"_{body}_"
        for operator in vocabulary:
            if operator and f"_{operator}_" in text:
                found.add(operator)
                text = text.replace(f"_{operator}_", "_\0_")
    return found


def _components(
    left: int, right: int, edges: Iterable[tuple[int, int]]
) -> Iterable[tuple[set[int], set[int]]]:
    """What hangs together in the graph of both sides; what hangs on nothing alone."""
    group = list(range(left + right))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = i = group[group[i]]
        return i

    for i, j in edges:
        group[root(i)] = root(left + j)
    members: dict[int, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    for i in range(left + right):
        members[root(i)][i >= left].add(i if i < left else i - left)
    return members.values()


def _longest(row: Row) -> float:
    return max(sum(k.time_ns or 0 for k in side) for side in (row.before, row.after))


def _operator(text: str) -> str:
    """`aten::add_`, `jit(f)/add`, `x:Add` and `EagerLocalExecute: Add` as `add`: what compilers call it."""
    last = text.rstrip(":").rsplit("/", 1)[-1].rsplit(":", 1)[-1].strip().split("(", 1)[0]
    last = last.removeprefix("jit_").split(".", 1)[0].lower()
    return last if last.endswith("__") else last.rstrip("_")


def _texts(timeline: Timeline, key: str, mine: Integers) -> set[str]:
    column = timeline.slices.columns.get(key)
    if column is None or not column.names:
        return set()
    at = np.searchsorted(column.index, mine)
    known = at < len(column.index)
    at, wanted = at[known], mine[known]
    numbers = np.unique(column.value[at[column.index[at] == wanted]])
    return {timeline.names[int(number)] for number in numbers}


def _same_names_together(units: Sequence[_Unit]) -> list[_Unit]:
    """`fusion.1` and `fusion.2` are `fusion` twice: the numbers of one program mean nothing in another."""
    found: dict[str, _Unit] = {}
    for unit in units:
        plain = unit.name if unit.fused and "\0" in "".join(unit.is_) else _NUMBERED.sub("", unit.name)
        into = found.setdefault(plain, _Unit(name=plain, count=0.0, time_ns=0.0))
        into.count += unit.count
        into.time_ns = (
            None if None in (into.time_ns, unit.time_ns) else (into.time_ns or 0) + (unit.time_ns or 0)
        )
        into.under |= unit.under
        into.is_ |= unit.is_
        into.fused |= unit.fused
        into.vague |= unit.vague
    return list(found.values())


def _within(start: Integers, windows: Sequence[Window]) -> Mask:
    chosen = np.zeros(len(start), np.bool_)
    for begin, end in windows:
        chosen |= (start >= begin) & (start < end)
    return chosen


def _median_time(start: Integers, duration: Integers, windows: Sequence[Window]) -> float:
    return statistics.median(
        float(duration[(start >= begin) & (start < end)].sum()) for begin, end in windows
    )


def _busy(start: Integers, end: Integers, window: Window) -> int:
    """Length of the union of the intervals within the window."""
    touching = (start < window[1]) & (end > window[0])
    return union_length(np.maximum(start[touching], window[0]), np.minimum(end[touching], window[1]))


def _groups(values: Integers) -> list[Integers]:
    """The places of each value, in the order the values appear."""
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    groups = np.split(order, cuts) if len(order) else []
    return sorted(groups, key=lambda places: int(places[0]))


def _proper_operators(timeline: Timeline) -> Mask:
    """Framework operators that are not a compiler's wrapper around others."""
    wrapper = np.array([bool(_WRAPPER.search(name)) for name in timeline.names] or [False], np.bool_)
    s = timeline.slices
    proper: Mask = (s.kind == KIND["framework_op"]) & ~wrapper[s.name]
    return proper


def _outermost(timeline: Timeline) -> Mask:
    """Framework operators within no other one of their lane."""
    s = timeline.slices
    mask = _proper_operators(timeline)
    places = np.flatnonzero(mask)
    reached = -1
    lane = -1
    for i, of, start, end in zip(
        places.tolist(),
        s.lane[places].tolist(),
        s.start_ns[places].tolist(),
        s.end_ns[places].tolist(),
        strict=True,
    ):
        if of != lane:
            lane, reached = of, -1
        if start < reached:
            mask[i] = False
        else:
            reached = end
    return mask


def _on_host(timeline: Timeline, chosen: Integers) -> bool:
    """Whether all of these ran on lanes of the host, as kernels of a CPU do."""
    on_host = timeline.lane_mask(kind="host")[timeline.slices.lane[chosen]]
    return len(chosen) > 0 and bool(on_host.all())


def _ancestors(timeline: Timeline, chosen: Integers) -> dict[int, set[str]]:
    """For the place of each kernel in `chosen`, the operators that its launch lies in, or itself on a CPU."""
    s = timeline.slices
    launch = chosen.copy()
    known = timeline.lane_mask(kind="host")[s.lane[chosen]] if len(chosen) else np.empty(0, np.bool_)
    launches = np.flatnonzero((s.kind == KIND["host_call"]) & (s.correlation >= 0))
    if len(launches) and len(chosen):
        order = launches[np.argsort(s.correlation[launches], kind="stable")]
        at = np.minimum(np.searchsorted(s.correlation[order], s.correlation[chosen]), len(order) - 1)
        launched = (s.correlation[order[at]] == s.correlation[chosen]) & (s.correlation[chosen] >= 0)
        launch, known = np.where(launched, order[at], chosen), known | launched
    found: dict[int, set[str]] = defaultdict(set)
    for rows in _flame_rows(timeline, np.unique(s.lane[launch[known]]).tolist()):
        lane, starts = s.lane[rows[0]], s.start_ns[rows]
        mine = np.flatnonzero(known & (s.lane[launch] == lane))
        when = s.start_ns[launch[mine]]
        under = rows[np.maximum(np.searchsorted(starts, when, side="right") - 1, 0)]
        covers = (s.start_ns[under] <= when) & (s.end_ns[under] >= when)
        for place, name in zip(mine[covers].tolist(), s.name[under[covers]].tolist(), strict=True):
            found[place].add(_operator(timeline.names[name]))
    return found


def _descendants(timeline: Timeline, chosen: Integers) -> dict[int, set[str]]:
    """For the place of each outermost operator in `chosen`, the operators it is made of."""
    s = timeline.slices
    found: dict[int, set[str]] = defaultdict(set)
    places = np.arange(len(chosen))
    for rows in _flame_rows(timeline, np.unique(s.lane[chosen]).tolist()):
        mine = places[s.lane[chosen] == s.lane[rows[0]]]
        at = np.searchsorted(s.start_ns[chosen[mine]], s.start_ns[rows], side="right") - 1
        outer = mine[np.maximum(at, 0)]
        inside = (at >= 0) & (s.end_ns[chosen[outer]] >= s.end_ns[rows])
        for place, name in zip(outer[inside].tolist(), s.name[rows[inside]].tolist(), strict=True):
            found[place].add(_operator(timeline.names[name]))
    return found


def _flame_rows(timeline: Timeline, lanes: Sequence[int]) -> Iterable[Any]:
    """The framework operators of each sub-lane of these lanes, in order of time."""
    s = timeline.slices
    proper = np.flatnonzero(_proper_operators(timeline) & np.isin(s.lane, lanes))
    key = s.lane[proper].astype(np.int64) * (1 << 16) + s.depth[proper]
    for places in _groups(key):
        yield proper[places]
