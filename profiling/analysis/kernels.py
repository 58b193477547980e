"""The kernels of one timeline by name, per call, and the framework operators that each one belongs to.

All that keeps a device busy counts as a kernel here, copies and memsets too. In a trace without kernels, such
as a bare trace of PyTorch's CPU, the outermost framework operators take their place.
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
from fuseproof.units import TimeUnit

Window = tuple[int, int]  # ns in the timeline's own time, half open
Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]

_FUSED: Final = re.compile(r"(?:graph_\d+_)?(?:triton|cpp|cutlass|xpu)_(?:[a-z]+_)?fused_(.+?)(?:_\d+)?$")
_NUMBERED: Final = re.compile(r"\.(?:\d+|clone|remat|cloned)(?=\.|$)")
# Words in the names of XLA's fusions that say how, not what, and words that any module's name may have.
_HOW: Final = frozenset(
    ("fusion", "fused", "wrapped", "loop", "input", "output", "broadcast", "bitcast", "convert", "copy",
     "parameter", "tuple", "get", "element", "call", "command", "region", "computation", "clone", "custom",
     "ynn", "onednn", "forward", "backward", "convert_element_type", "element_type")
)  # fmt: skip
# TensorFlow's names of operations for which XLA has another.
_XLA_WORDS: Final = {
    "addv2": "add",
    "sub": "subtract",
    "mul": "multiply",
    "realdiv": "divide",
    "matmul": "dot",
}
# Ranges that PyTorch's compiler puts around the operators that it runs.
_WRAPPER: Final = re.compile(
    r"torch-compiled region|torchdynamo|aotdispatcher|pregraph|## call|compiledfx|compiledfunction|"
    r"autograd::engine",
    re.I,
)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """All slices of one name, per call: mean count, median over calls of the summed durations.

    `time_ns` is None if the trace has no durations.
    """

    name: str
    count: float
    time_ns: float | None


@dataclass(frozen=True, kw_only=True)
class Side:
    """One timeline in numbers per call. `unit`: what counts as a kernel."""

    name: str
    source: Source
    unit: Literal["kernel", "operator"]
    count: float
    busy_ns: float  # median over calls of the union's length within a call
    calls: int = 0  # 0: no call is marked, and the whole trace counts as one
    time_unit: TimeUnit = "ns"  # of `busy_ns` and of the kernels' times


@dataclass(kw_only=True)
class NamedKernel:
    """A kernel with the operators that join it with kernels of another timeline.

    own:   operators that the kernel computes.
    under: operators that its launch is nested in, that it consists of, and its own.
    fused_words: operators of Inductor's fused names, joined by "_", which their own names contain too.
    vague: its name does not say what is computed, such as XLA's `fusion`.
    """

    name: str
    count: float
    time_ns: float | None
    own: set[str] = field(default_factory=set)
    under: set[str] = field(default_factory=set)
    fused_words: set[str] = field(default_factory=set)
    vague: bool = False

    @property
    def kernel(self) -> Kernel:
        return Kernel(name=self.name, count=self.count, time_ns=self.time_ns)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The kernels of one timeline, and its numbers."""

    side: Side
    kernels: Sequence[NamedKernel]


def gather(timeline: Timeline, calls: Sequence[Window] = ()) -> Gathered:
    """The kernels of a timeline by name, per call; its outermost framework operators if no kernel ran.

    calls: (start, end) in the timeline's nanoseconds; without them the whole timeline counts as one call.
    """
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
    kernels = [
        _named_kernel(timeline, chosen, names, related, windows, operators)
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
    return Gathered(side=side, kernels=_same_names_together(kernels))


def _named_kernel(
    timeline: Timeline,
    chosen: Integers,
    places: Integers,
    related: dict[int, set[str]],
    windows: Sequence[Window],
    operators: bool,
) -> NamedKernel:
    s = timeline.slices
    mine = chosen[places]
    name = timeline.names[s.name[mine[0]]]
    known = s.kind[mine] != KIND["unestimated"]
    kernel = NamedKernel(
        name=name,
        count=len(mine) / len(windows),
        time_ns=_median_time(s.start_ns[mine], s.duration_ns[mine], windows) if known.all() else None,
    )
    for i in places.tolist():
        kernel.under |= related.get(i, set())
    stated = {text for key in ("framework_op", "hlo_module") for text in _texts(timeline, key, mine)}
    kernel.under |= {_operator(text) for text in stated}
    fused = _FUSED.match(name)
    if fused:
        kernel.fused_words = {fused[1]}
    elif operators or (_on_host(timeline, mine) and not _texts(timeline, "hlo_op", mine)):
        kernel.own = {_operator(name)}
    elif "hlo_op" in s.columns or "hlo_category" in s.columns:
        words = {word for word in re.split(r"[_\-.\d]+", name) if len(word) > 1}
        kernel.vague = words <= _HOW
        kernel.own = (words | {_operator(text) for text in _texts(timeline, "framework_op", mine)}) - _HOW
    else:
        kernel.own = set(kernel.under)
    kernel.under |= kernel.own
    kernel.under |= {_XLA_WORDS[operator] for operator in kernel.under if operator in _XLA_WORDS}
    return kernel


def _operator(text: str) -> str:
    """As compilers name it: `add` for `aten::add_`, `jit(f)/add`, `x:Add` and `EagerLocalExecute: Add`."""
    last = text.rstrip(":").rsplit("/", 1)[-1].rsplit(":", 1)[-1].strip().split("(", 1)[0]
    last = last.removeprefix("jit_").split(".", 1)[0].lower()
    return last if last.endswith("__") else last.rstrip("_")


def _texts(timeline: Timeline, key: str, mine: Integers) -> set[str]:
    """The different values that these slices have in a column of names."""
    column = timeline.slices.columns.get(key)
    if column is None or not column.names:
        return set()
    at = np.searchsorted(column.index, mine)
    known = at < len(column.index)
    at, wanted = at[known], mine[known]
    numbers = np.unique(column.value[at[column.index[at] == wanted]])
    return {timeline.names[int(number)] for number in numbers}


def _same_names_together(kernels: Sequence[NamedKernel]) -> list[NamedKernel]:
    """Adds up `fusion.1` and `fusion.2` as `fusion`: a program's numbers mean nothing in another program."""
    found: dict[str, NamedKernel] = {}
    for kernel in kernels:
        plain = kernel.name if kernel.fused_words else _NUMBERED.sub("", kernel.name)
        into = found.setdefault(plain, NamedKernel(name=plain, count=0.0, time_ns=0.0))
        into.count += kernel.count
        into.time_ns = (
            None if None in (into.time_ns, kernel.time_ns) else (into.time_ns or 0) + (kernel.time_ns or 0)
        )
        into.under |= kernel.under
        into.own |= kernel.own
        into.fused_words |= kernel.fused_words
        into.vague |= kernel.vague
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
    """Which slices are framework operators, without a compiler's wrappers around others."""
    wrapper = np.array([bool(_WRAPPER.search(name)) for name in timeline.names] or [False], np.bool_)
    s = timeline.slices
    proper: Mask = (s.kind == KIND["framework_op"]) & ~wrapper[s.name]
    return proper


def _outermost(timeline: Timeline) -> Mask:
    """Which slices are framework operators that no other one of their lane contains."""
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
    """Whether all of these slices lie on lanes of the host, as kernels of a CPU do."""
    on_host = timeline.lane_mask(kind="host")[timeline.slices.lane[chosen]]
    return len(chosen) > 0 and bool(on_host.all())


def _ancestors(timeline: Timeline, chosen: Integers) -> dict[int, set[str]]:
    """For each place in `chosen`: the operators around the kernel's launch, or around the kernel on a CPU."""
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
    """For each place in `chosen`, an outermost operator: the operators that it consists of."""
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
