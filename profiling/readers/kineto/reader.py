"""PyTorch's Kineto traces (Chrome trace JSON): torch.profiler on CPU, CUDA, ROCm, XPU; old and new schemas.

Times are microseconds with up to three decimals, as numbers or strings; they become integer nanoseconds
exactly. Parts of words in an event's category decide its kind, so that other vendors' names fit.
"""

from __future__ import annotations

import dataclasses
import gc
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.profiling.readers import microseconds
from fuseproof.profiling.readers.event_stream import EventStream
from fuseproof.profiling.readers.kineto.columns import ArgumentColumns
from fuseproof.profiling.readers.kineto.memory import MemoryLog
from fuseproof.profiling.readers.kineto.schema import (
    LaneKey,
    classify,
    device_name,
    device_names,
    lane_order,
    notes_of,
    plain,
    title,
)
from fuseproof.profiling.readers.trace_file import TraceFile
from fuseproof.profiling.timeline.assemble import Found, assemble
from fuseproof.profiling.timeline.model import KIND, Counter, Lane, Timeline

_COLLECTIVE = re.compile(r"nccl|rccl|oneccl|hccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all", re.I)
_MAX_EVENTS = 50_000_000
_UNTIMED = -(1 << 62)  # in place of a duration


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Lane and kind of the events of one (category, process, thread)."""

    number: int
    lane: int
    kind: int
    arguments: str | None  # which arguments to read: "work", "launched", "operators"


def load(file: TraceFile, name: str) -> Timeline:
    """The timeline of a whole trace. Raises UserError, one line, if the file is not a Kineto trace."""
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
        self.lanes: dict[LaneKey, int] = {}
        self.places: dict[tuple[Any, Any, Any], _Place] = {}
        self.slices = 0
        self.name: list[NDArray[np.int32]] = []
        self.place: list[NDArray[np.int32]] = []
        self.arguments = ArgumentColumns()
        self.starts: list[NDArray[np.int64]] = []
        self.durations: list[NDArray[np.int64]] = []
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
            del events  # before the next are parsed
            if self.slices > _MAX_EVENTS:
                raise UserError(f"{self.stream.name} has more than {_MAX_EVENTS} slices; record fewer steps")
        unfinished = sum(len(stack) for stack in self.open.values())
        if unfinished:
            self.others["began and never ended"] = unfinished

    def _add(self, events: list[Any]) -> None:
        names, places = self.names, self.places
        starts: list[Any] = []
        durations: list[Any] = []
        name_ids: list[int] = []
        place_ids: list[int] = []
        # Index and arguments of slices, by the group of arguments to read.
        groups: dict[str, tuple[list[int], list[dict[str, Any]]]] = {
            group: ([], []) for group in ("work", "launched", "operators")
        }
        index = self.slices - 1
        for event in events:
            if type(event) is not dict:
                self.not_events += 1
                continue
            if event.get("ph") != "X":
                event = self._not_a_slice(event)
                if event is None:
                    continue
            index += 1
            name = event.get("name")
            key = (event.get("cat"), event.get("pid"), event.get("tid"))
            try:
                place = places.get(key) or self._place(key)
                name_ids.append(names.setdefault(name, len(names)))
            except TypeError:  # a list or object where a name or a number should be
                key = (plain(key[0]), plain(key[1]), plain(key[2]))
                place = places.get(key) or self._place(key)
                name_ids.append(names.setdefault(plain(name), len(names)))
            place_ids.append(place.number)
            starts.append(event.get("ts"))
            durations.append(event.get("dur"))
            if place.arguments is not None:
                arguments = event.get("args")
                if type(arguments) is dict:
                    indices, found = groups[place.arguments]
                    indices.append(index)
                    found.append(arguments)
        self.slices = index + 1
        self.name.append(np.array(name_ids, np.int32))
        self.place.append(np.array(place_ids, np.int32))
        self.arguments.add_work(*groups["work"])
        self.arguments.add_launched(*groups["launched"])
        self.arguments.add_operators(*groups["operators"])
        start, start_known = microseconds.to_nanoseconds(starts)
        duration, duration_known = microseconds.to_nanoseconds(durations)
        known = start_known & duration_known
        if not known.all():
            self.without_time += int(np.count_nonzero(~known))
            duration[~known] = _UNTIMED
        self.starts.append(start)
        self.durations.append(duration)

    def _place(self, key: tuple[Any, Any, Any]) -> _Place:
        category, process, thread = key
        role, kind = classify(category, process)
        lane = self.lanes.setdefault(LaneKey(role, process, thread), len(self.lanes))
        arguments = "launched" if role == "sync" or (kind == "host_call" and role == "host") else None
        if role == "device":
            arguments = "work"
        elif kind == "framework_op":
            arguments = "operators"
        place = _Place(number=len(self.places), lane=lane, kind=KIND[kind], arguments=arguments)
        self.places[key] = place
        return place

    def _not_a_slice(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Collects metadata, instants and counters; returns the slice that a begin and an end make."""
        phase = event.get("ph")
        if phase == "i" or phase == "I":
            if event.get("name") == "[memory]":
                self.memory.add(event)
        elif phase == "M":
            self._metadata(event)
        elif phase == "C":
            self._counter(event)
        elif phase == "B":
            key = (plain(event.get("pid")), plain(event.get("tid")))
            self.open.setdefault(key, []).append((event.get("ts"), event))
        elif phase == "E":
            stack = self.open.get((plain(event.get("pid")), plain(event.get("tid"))))
            if stack:
                began, opened = stack.pop()
                both, known = microseconds.to_nanoseconds([began, event.get("ts")])
                if known.all():
                    return {**opened, "dur": microseconds.as_text(int(both[1]) - int(both[0]))}
            self.without_time += 1
        elif phase not in ("s", "t", "f"):  # arrows repeat the correlation
            label = f"of phase {plain(phase)!r}"[:40]
            if label in self.others or len(self.others) < 8:
                self.others[label] = self.others.get(label, 0) + 1
        return None

    def _metadata(self, event: Mapping[str, Any]) -> None:
        arguments = event.get("args")
        if type(arguments) is not dict:
            return
        process = plain(event.get("pid"))
        if event.get("name") == "process_name":
            self.process_names[process] = str(arguments.get("name", ""))[:200]
        elif event.get("name") == "thread_name":
            thread = plain(event.get("tid"))
            self.thread_names[process, thread] = str(arguments.get("name", "")).strip()[:200]

    def _counter(self, event: Mapping[str, Any]) -> None:
        arguments = event.get("args")
        if type(arguments) is not dict:
            return
        for key, value in arguments.items():
            if isinstance(value, int | float) and len(self.counters) < 1000:
                name = f"{event.get('name')} {key}" if len(arguments) > 1 else str(event.get("name"))
                times, values = self.counters.setdefault((plain(event.get("pid")), name[:200]), ([], []))
                times.append(event.get("ts"))
                values.append(float(value))

    def timeline(self, name: str, *, cut_short: bool) -> Timeline:
        top = self.stream.top
        devices = device_names(top)
        base = top.get("baseTimeNanoseconds")
        base = base if type(base) is int and 0 <= base < 1 << 61 else 0
        memory, memory_without_time = self.memory.result(lambda number: device_name(number, devices))
        self.without_time += memory_without_time
        # Lanes of devices come first, then host threads, each by number.
        keys = sorted(self.lanes, key=lane_order)
        rank = np.empty(len(keys), np.int32)
        rank[[self.lanes[key] for key in keys]] = np.arange(len(keys), dtype=np.int32)
        places = list(self.places.values())
        place = _joined(self.place, np.int32)
        name_ids = _joined(self.name, np.int32)
        start, duration = _joined(self.starts, np.int64), _joined(self.durations, np.int64)
        kind = np.array([each.kind for each in places], np.uint8)[place]
        lane = rank[np.array([each.lane for each in places], np.int64)][place]
        names = [text if type(text) is str else title(text) for text in self.names]
        collective = np.fromiter((bool(_COLLECTIVE.search(text)) for text in names), np.bool_, len(names))
        kind[(kind == KIND["kernel"]) & collective[name_ids]] = KIND["collective"]
        warnings = self._warnings(cut_short or self.stream.cut_short)
        # `assemble` would count events without a time again, as impossible ones.
        timed = np.flatnonzero(duration != _UNTIMED)
        if not len(timed) and not memory and not self.counters:
            raise UserError(f"{self.stream.name} holds no events with a time; record the trace again")
        number = np.full(self.slices, -1, np.int64)
        number[timed] = np.arange(len(timed))
        return assemble(
            Found(
                lane=lane[timed],
                start_ns=start[timed],
                duration_ns=duration[timed],
                name=name_ids[timed],
                kind=kind[timed],
                correlation=self.arguments.correlation(self.slices)[timed],
                columns=self.arguments.columns(number),
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
            notes=notes_of(top),
        )

    def _lane(self, key: LaneKey, devices: Mapping[int, str]) -> Lane:
        process = self.process_names.get(key.process, "")
        thread = self.thread_names.get((key.process, key.thread), "")
        if key.role in ("device", "sync", "annotation"):
            suffix = {"device": "", "sync": " (synchronization)", "annotation": " (annotations)"}[key.role]
            return Lane(
                name=(thread or f"stream {title(key.thread)}") + suffix,
                kind="device",
                device=device_name(key.process, devices),
                process=process,
                thread=title(key.thread),
                derived=key.role == "annotation",
            )
        suffix = " (Python)" if key.role == "python" else ""
        return Lane(
            name=(thread or f"thread {title(key.thread)}") + suffix,
            kind="host",
            device="CPU",
            process=f"{process} ({title(key.process)})" if process else title(key.process),
            thread=title(key.thread),
        )

    def _counters(self, devices: Mapping[int, str]) -> list[Counter]:
        found = []
        for (process, name), (times, values) in self.counters.items():
            time, known = microseconds.to_nanoseconds(times)
            order = np.argsort(time[known], kind="stable")
            if len(order) == 0:
                continue
            device = device_name(process, devices) if process in devices else "CPU"
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
            warnings.append("the file is cut short: later events are missing")
        if self.without_time:
            warnings.append(f"{self.without_time} events without a usable time are left out")
        if self.not_events:
            warnings.append(f"{self.not_events} entries of traceEvents are not events and are left out")
        warnings += [f"{count} events {label} are not shown" for label, count in self.others.items()]
        return warnings


def _some_times(events: list[Any]) -> list[Any]:
    """Times of one event in 16, which is enough: a trace's times are of one magnitude."""
    return [event.get("ts") for event in events[::16] if type(event) is dict]


def _joined(parts: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _is_unix(base: int, start: NDArray[np.int64]) -> bool:
    """Old schemas have Unix microseconds, newer ones times since a base, and some only times since boot."""
    return base > 0 or bool(len(start) and np.median(start) > 1_000_000_000 * 10**9)
