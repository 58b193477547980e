"""PyTorch's Kineto traces (Chrome trace JSON): torch.profiler on CPU, CUDA, ROCm, XPU; old and new schemas.

Times are microseconds with up to three decimals, as numbers or strings; they become integer nanoseconds exactly.
What an event is follows from its category, by parts of words, so that other vendors' names fit.
"""

from __future__ import annotations

import dataclasses
import gc
import re
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.profiling import microseconds
from fuseproof.profiling.assemble import Found, assemble
from fuseproof.profiling.event_stream import EventStream
from fuseproof.profiling.kineto_memory import MemoryLog
from fuseproof.profiling.timeline import KIND, Column, Counter, Lane, Timeline
from fuseproof.profiling.trace_file import TraceFile

_UNKNOWN = -1
_COLLECTIVE = re.compile(r"nccl|rccl|oneccl|hccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all", re.I)
_MAX_EVENTS = 50_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Where events of one (category, process, thread) go."""

    lane: int
    kind: int
    launched: bool  # carries a correlation
    work: bool  # runs on a device: carries grid, block, …
    operator: bool  # carries an external id


@dataclasses.dataclass(frozen=True, slots=True)
class _LaneKey:
    role: str  # "device", "sync", "annotation", "host", "python"
    process: Any
    thread: Any


def load(file: TraceFile, name: str) -> Timeline:
    """Read a whole trace; one UserError of one line if it is none."""
    reader = _Reader(EventStream(file.blocks(), str(file.path)))
    collecting = gc.isenabled()
    gc.disable()  # a fifth of the time; the parsed events hold no cycles
    try:
        reader.read()
    finally:
        if collecting:
            gc.enable()
    return reader.timeline(name, cut_short=file.cut_short)


class _Reader:
    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self.names: dict[Any, int] = {}
        self.lanes: dict[_LaneKey, int] = {}
        self.places: dict[tuple[Any, Any, Any], _Place] = {}
        self.name = array("i")
        self.lane = array("i")
        self.kind = array("B")
        self.correlation = array("q")
        self.starts: list[NDArray[np.int64]] = []
        self.durations: list[NDArray[np.int64]] = []
        self.sparse: dict[str, tuple[array[int], array[float]]] = {}
        self.process_names: dict[Any, str] = {}
        self.thread_names: dict[tuple[Any, Any], str] = {}
        self.memory = MemoryLog(self.names)
        self.counters: dict[tuple[Any, str], tuple[list[Any], list[float]]] = {}
        self.open: dict[tuple[Any, Any], list[tuple[Any, dict[str, Any]]]] = {}
        self.without_time = 0
        self.not_events = 0
        self.others: dict[str, int] = {}

    def read(self) -> None:
        for events in self.stream:
            if not self.stream.quote_times and microseconds.needs_text(_some_times(events)):
                self.stream.quote_times = True
                events = self.stream.requoted()
            self._add(events)
            if len(self.name) > _MAX_EVENTS:
                raise UserError(f"{self.stream.name} has more than {_MAX_EVENTS} slices; record fewer steps")
        unfinished = sum(len(stack) for stack in self.open.values())
        if unfinished:
            self.others["began and never ended"] = unfinished

    def _add(self, events: list[Any]) -> None:
        starts: list[Any] = []
        durations: list[Any] = []
        names, places = self.names, self.places
        add_name, add_lane, add_kind = self.name.append, self.lane.append, self.kind.append
        add_correlation = self.correlation.append
        first = len(self.name)
        for event in events:
            if type(event) is not dict:
                self.not_events += 1
                continue
            if event.get("ph") != "X":
                event = self._not_a_slice(event)
                if event is None:
                    continue
            name = event.get("name")
            key = (event.get("cat"), event.get("pid"), event.get("tid"))
            try:
                place = places.get(key) or self._place(key)
                name = names.setdefault(name, len(names))
            except TypeError:  # a list or object where a name or a number should be
                key = (_plain(key[0]), _plain(key[1]), _plain(key[2]))
                place = places.get(key) or self._place(key)
                name = names.setdefault(_plain(name), len(names))
            starts.append(event.get("ts"))
            durations.append(event.get("dur"))
            add_name(name)
            add_lane(place.lane)
            add_kind(place.kind)
            if place.launched:
                arguments = event.get("args")
                if type(arguments) is dict:
                    add_correlation(_identifier(arguments.get("correlation")))
                    if place.work:
                        self._device_work(len(self.name) - 1, arguments)
                else:
                    add_correlation(_UNKNOWN)
            else:
                add_correlation(_UNKNOWN)
                if place.operator:
                    arguments = event.get("args")
                    if type(arguments) is dict:
                        external = arguments.get("External id")
                        if type(external) is int and 0 <= external < 1 << 62:
                            self._put("external_id", len(self.name) - 1, external)
        self._put_times(first, starts, durations)

    def _put_times(self, first: int, starts: list[Any], durations: list[Any]) -> None:
        start, start_known = microseconds.to_nanoseconds(starts)
        duration, duration_known = microseconds.to_nanoseconds(durations)
        known = start_known & duration_known
        if not known.all():
            self.without_time += int(np.count_nonzero(~known))
            duration[~known] = -1  # dropped when assembled
        self.starts.append(start)
        self.durations.append(duration)

    def _device_work(self, index: int, arguments: Mapping[str, Any]) -> None:
        put = self._put
        for key, column in _NUMBERS:
            value = arguments.get(key)
            if type(value) is int and 0 <= value < 1 << 62:
                put(column, index, value)
        occupancy = arguments.get("est. achieved occupancy %")
        if isinstance(occupancy, int | float) and 0 < occupancy <= 100:  # Kineto writes 0 for unknown
            put("occupancy", index, occupancy)
        for key in ("grid", "block"):
            value = arguments.get(key)
            if (
                type(value) is list
                and len(value) == 3
                and all(type(n) is int and 0 <= n < 1 << 53 for n in value)
            ):
                indices, values = self._column(key)
                indices.append(index)
                values.extend(value)

    def _put(self, column: str, index: int, value: float) -> None:
        indices, values = self._column(column)
        indices.append(index)
        values.append(value)

    def _column(self, column: str) -> tuple[array[int], array[float]]:
        found = self.sparse.get(column)
        if found is None:
            found = self.sparse[column] = (array("q"), array("d" if column in _FLOATS else "q"))
        return found

    def _place(self, key: tuple[Any, Any, Any]) -> _Place:
        category, process, thread = key
        role, kind = _classify(category, process)
        lane = self.lanes.setdefault(_LaneKey(role, process, thread), len(self.lanes))
        place = _Place(
            lane=lane,
            kind=KIND[kind],
            launched=role in ("device", "sync") or (kind == "host_call" and role == "host"),
            work=role == "device",
            operator=kind == "framework_op",
        )
        self.places[key] = place
        return place

    def _not_a_slice(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Metadata, instants, counters; the slice that a pair of begin and end makes."""
        phase = event.get("ph")
        if phase == "i" or phase == "I":
            if event.get("name") == "[memory]":
                self.memory.add(event)
        elif phase == "M":
            self._metadata(event)
        elif phase == "C":
            self._counter(event)
        elif phase == "B":
            key = (_plain(event.get("pid")), _plain(event.get("tid")))
            self.open.setdefault(key, []).append((event.get("ts"), event))
        elif phase == "E":
            stack = self.open.get((_plain(event.get("pid")), _plain(event.get("tid"))))
            if stack:
                began, opened = stack.pop()
                both, known = microseconds.to_nanoseconds([began, event.get("ts")])
                if known.all():
                    return {**opened, "dur": microseconds.as_text(int(both[1]) - int(both[0]))}
            self.without_time += 1
        elif phase not in ("s", "t", "f"):  # arrows repeat what the correlation says
            label = f"of phase {_plain(phase)!r}"[:40]
            if label in self.others or len(self.others) < 8:
                self.others[label] = self.others.get(label, 0) + 1
        return None

    def _metadata(self, event: Mapping[str, Any]) -> None:
        arguments = event.get("args")
        if type(arguments) is not dict:
            return
        process = _plain(event.get("pid"))
        if event.get("name") == "process_name":
            self.process_names[process] = str(arguments.get("name", ""))[:200]
        elif event.get("name") == "thread_name":
            thread = _plain(event.get("tid"))
            self.thread_names[process, thread] = str(arguments.get("name", "")).strip()[:200]

    def _counter(self, event: Mapping[str, Any]) -> None:
        arguments = event.get("args")
        if type(arguments) is not dict:
            return
        for key, value in arguments.items():
            if isinstance(value, int | float) and len(self.counters) < 1000:
                name = f"{event.get('name')} {key}" if len(arguments) > 1 else str(event.get("name"))
                times, values = self.counters.setdefault((_plain(event.get("pid")), name[:200]), ([], []))
                times.append(event.get("ts"))
                values.append(float(value))

    def timeline(self, name: str, *, cut_short: bool) -> Timeline:
        top = self.stream.top
        devices = _device_names(top)
        base = top.get("baseTimeNanoseconds")
        base = base if type(base) is int and 0 <= base < 1 << 61 else 0
        slices = len(self.name)
        memory, memory_without_time = self.memory.result(lambda number: _device(number, devices))
        self.without_time += memory_without_time
        # Lanes in the order a reader wants them: devices, then host threads; numbers in order.
        keys = sorted(self.lanes, key=_lane_order)
        rank = np.empty(len(keys), np.int32)
        rank[[self.lanes[key] for key in keys]] = np.arange(len(keys), dtype=np.int32)
        start = np.concatenate(self.starts) if self.starts else np.empty(0, np.int64)
        duration = np.concatenate(self.durations) if self.durations else np.empty(0, np.int64)
        kind = np.frombuffer(self.kind, np.uint8).copy() if slices else np.empty(0, np.uint8)
        name_ids = np.frombuffer(self.name, np.int32) if slices else np.empty(0, np.int32)
        names = [text if type(text) is str else _title(text) for text in self.names]
        collective = np.fromiter((bool(_COLLECTIVE.search(text)) for text in names), np.bool_, len(names))
        kind[(kind == KIND["kernel"]) & collective[name_ids]] = KIND["collective"]
        if not slices and not memory and not self.counters:
            raise UserError(
                f"{self.stream.name} holds no events that make a timeline; record the trace again"
            )
        warnings = self._warnings(cut_short or self.stream.cut_short)
        # Events without a time are counted above, not again as impossible.
        timed = np.flatnonzero(duration != -1) if self.without_time else np.arange(slices)
        number = np.full(slices, -1, np.int64)
        number[timed] = np.arange(len(timed))
        lane = np.frombuffer(self.lane, np.int32) if slices else np.empty(0, np.int32)
        correlation = np.frombuffer(self.correlation, np.int64) if slices else np.empty(0, np.int64)
        return assemble(
            Found(
                lane=rank[lane][timed],
                start_ns=start[timed],
                duration_ns=duration[timed],
                name=name_ids[timed],
                kind=kind[timed],
                correlation=correlation[timed],
                columns=self._columns(number),
            ),
            [self._lane(key, devices) for key in keys],
            names,
            source="kineto",
            name=name,
            counters=self._counters(devices),
            memory=memory,
            base_ns=base,
            origin_is_unix=_is_unix(base, start),
            warnings=warnings,
            notes=_notes(top),
        )

    def _columns(self, number: NDArray[np.int64]) -> dict[str, Column]:
        columns = {}
        for name, (indices, values) in self.sparse.items():
            index = number[np.frombuffer(indices, np.int64)]
            value = np.frombuffer(values, np.float64 if name in _FLOATS else np.int64)
            if name in ("grid", "block"):
                value = value.reshape(-1, 3)
            columns[name] = Column(index=index[index >= 0], value=value[index >= 0])
        return columns

    def _lane(self, key: _LaneKey, devices: Mapping[int, str]) -> Lane:
        process = self.process_names.get(key.process, "")
        thread = self.thread_names.get((key.process, key.thread), "")
        if key.role in ("device", "sync", "annotation"):
            suffix = {"device": "", "sync": " (synchronization)", "annotation": " (annotations)"}[key.role]
            return Lane(
                name=(thread or f"stream {_title(key.thread)}") + suffix,
                kind="device",
                device=_device(key.process, devices),
                process=process,
                thread=_title(key.thread),
                derived=key.role == "annotation",
            )
        suffix = " (Python)" if key.role == "python" else ""
        return Lane(
            name=(thread or f"thread {_title(key.thread)}") + suffix,
            kind="host",
            device="CPU",
            process=f"{process} ({_title(key.process)})" if process else _title(key.process),
            thread=_title(key.thread),
        )

    def _counters(self, devices: Mapping[int, str]) -> list[Counter]:
        found = []
        for (process, name), (times, values) in self.counters.items():
            time, known = microseconds.to_nanoseconds(times)
            order = np.argsort(time[known], kind="stable")
            if len(order) == 0:
                continue
            device = _device(process, devices) if process in devices else "CPU"
            found.append(
                Counter(
                    name=name,
                    unit="",
                    device=device,
                    semantics="sampled",
                    time_ns=time[known][order],
                    value=np.array(values)[known][order],
                )
            )
        return found

    def _warnings(self, cut_short: bool) -> list[str]:
        warnings = []
        if cut_short:
            warnings.append("the file is cut short: events after the cut are missing")
        if self.without_time:
            warnings.append(f"{self.without_time} events without a usable time are left out")
        if self.not_events:
            warnings.append(f"{self.not_events} entries of traceEvents are not events and are left out")
        warnings += [f"{count} events {label} are not shown" for label, count in self.others.items()]
        return warnings


def _some_times(events: list[Any]) -> list[Any]:
    """Times of one event in 16: a trace's times are of one size."""
    return [event.get("ts") for event in events[::16] if type(event) is dict]


_NUMBERS = (
    ("registers per thread", "registers"),
    ("shared memory", "shared_memory"),
    ("bytes", "bytes"),
    ("External id", "external_id"),
)
_FLOATS = ("occupancy",)
_NOTES = (
    "cuda_runtime_version",
    "cuda_driver_version",
    "cupti_version",
    "hip_runtime_version",
    "hip_driver_version",
    "roctracer_version",
    "traceName",
    "trace_id",
)


def _classify(category: Any, process: Any) -> tuple[str, str]:
    """Role of the lane and kind of the slice, from the category in any schema's spelling."""
    text = category.lower() if isinstance(category, str) else ""
    if "annotation" in text:
        return ("annotation" if "gpu" in text or "device" in text else "host"), "user_range"
    if "runtime" in text or "driver" in text:
        return "host", "host_call"
    if "python" in text:
        return "python", "host_call"
    if "sync" in text or text == "cuda_event":
        return "sync", "other"
    if "memcpy" in text:
        return "device", "memcpy"
    if "memset" in text:
        return "device", "memset"
    if "kernel" in text or (not text and process == "CUDA functions"):
        return "device", "kernel"
    if "overhead" in text:
        return "host", "overhead"
    if "compil" in text or text in ("dynamo_timed", "inductor"):
        return "host", "compile"
    if "op" in text.replace("-", "_").split("_") or "operator" in text or process == "CPU functions":
        return "host", "framework_op"
    return "host", "other"


def _device_names(top: Mapping[str, Any]) -> dict[int, str]:
    properties = top.get("deviceProperties")
    names = {}
    for each in properties if isinstance(properties, list) else []:
        if isinstance(each, dict) and type(each.get("id")) is int and isinstance(each.get("name"), str):
            names[each["id"]] = each["name"].strip()[:200]
    return names


def _device(number: Any, names: Mapping[int, str]) -> str:
    known = names.get(number) if type(number) is int else None
    return f"GPU {_title(number)} {known}" if known else f"GPU {_title(number)}"


def _lane_order(key: _LaneKey) -> tuple[Any, ...]:
    on_device = key.role in ("device", "sync", "annotation")
    role = ("annotation", "device", "sync", "python", "host").index(key.role)
    return (not on_device, *_natural(key.process), *_natural(key.thread), role)


def _natural(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float) and value == value:
        return (0, value, "")
    return (1, 0, str(value))


def _is_unix(base: int, start: NDArray[np.int64]) -> bool:
    """Old schemas give Unix microseconds, newer ones times since a base; some only time since boot."""
    return base > 0 or bool(len(start) and np.median(start) > 1_000_000_000 * 10**9)


def _notes(top: Mapping[str, Any]) -> dict[str, str]:
    notes = {key: str(top[key])[:200] for key in _NOTES if isinstance(top.get(key), str | int | float)}
    rank = top["distributedInfo"].get("rank") if isinstance(top.get("distributedInfo"), dict) else None
    return notes | ({"rank": str(rank)} if isinstance(rank, int) else {})


def _identifier(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 62 else _UNKNOWN


def _plain(value: Any) -> Any:
    """Something hashable that says what it was."""
    return value if value is None or isinstance(value, str | int | float) else repr(value)[:200]


def _title(value: Any) -> str:
    return "unnamed" if value is None else str(value)[:200]
