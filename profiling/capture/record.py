"""What one capture holds: `capture.json` beside the raw traces of one implementation of a case.

A capture directory holds one folder for each implementation of a case, named as the implementation, and each
of these `capture.json` and the trace files it names. Capturing writes the record, the profile page reads it;
the two meet here and nowhere else. Unknown is null, never zero. Times are Unix nanoseconds (`time.time_ns`)
of one machine.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.implementations import Implementation

SCHEMA: Final = 2
FILE_NAME: Final = "capture.json"

TraceKind = Literal["kineto", "xplane", "torch-memory"]
TRACE_KINDS: Final[tuple[str, ...]] = get_args(TraceKind)

_Element = TypeVar("_Element")


@dataclass(frozen=True, kw_only=True)
class ProfiledCall:
    """One call while the profiler was on: from just before it until its results had been waited for."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One raw file of a profiler, `file` in the folder of the record."""

    file: str
    kind: str  # one of TRACE_KINDS


@dataclass(frozen=True, kw_only=True)
class Series:
    """One sampled quantity; `value[i]` at `time_ns[i]`, None where the sensor gave no answer.

    name: `power`, `sm_clock`, `memory_clock`, `temperature`, `memory_used`, `clock_event_reasons` (a bit
          mask) or `resident_memory`.
    unit: `W`, `MHz`, `°C`, `bytes`, `bits`.
    source: what was read, as its maker calls it.
    """

    name: str
    unit: str
    device: str
    source: str
    time_ns: tuple[int, ...]
    value: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What the board's energy counter gained over a loop of at least a second, the profiler off."""

    device: str
    joules: float
    seconds: float
    calls: int

    @property
    def joules_per_call(self) -> float:
        return self.joules / self.calls


@dataclass(frozen=True, kw_only=True)
class CaptureRecord:
    """A finished capture of one implementation of a case.

    row:          the implementation, with its framework.
    device:       `cpu`, `cuda` or `tpu`; `device_name` as the framework calls it.
    versions:     of the framework and the packages that change what is measured.
    threads, stacks, seed: as the capture was asked for: CPU threads, Python frames in the trace, the inputs'.
    calls:        the profiled calls, for aligning traces; the first starts where the page's axis starts.
    kernel_counts: kernels in each of `calls`; empty where the trace cannot tell.
    kernel_rule:  what a kernel is in this framework's trace, in words.
    kernel_names: operators of the trace that the framework says are kernels; empty where the trace says so.
    profiler_on_seconds, profiler_off_seconds: of single calls, for the overhead only; never timings.
    dropped_events: None where the profiler does not tell.
    not_seen:     what the profiler could not see, in words.
    """

    group: str
    row: Implementation
    device: str
    device_name: str
    versions: Mapping[str, str]
    threads: int
    stacks: bool
    seed: int
    calls: tuple[ProfiledCall, ...]
    kernel_counts: tuple[int, ...]
    kernel_rule: str
    kernel_names: tuple[str, ...]
    profiler_on_seconds: tuple[float, ...]
    profiler_off_seconds: tuple[float, ...]
    traces: tuple[Trace, ...]
    samples: tuple[Series, ...] = ()
    energy: Energy | None = None
    dropped_events: int | None = None
    warnings: tuple[str, ...] = ()
    not_seen: tuple[str, ...] = ()
    schema: int = field(default=SCHEMA)

    @property
    def framework(self) -> str:
        return self.row.framework

    @property
    def kernels_per_call(self) -> int | None:
        """The count that all calls share; None if they differ (`warnings` lists them) or none is known."""
        return self.kernel_counts[0] if len(set(self.kernel_counts)) == 1 else None

    @property
    def overhead(self) -> float | None:
        """Median seconds of a call, profiler on over profiler off; None if either is missing."""
        if not self.profiler_on_seconds or not self.profiler_off_seconds:
            return None
        return statistics.median(self.profiler_on_seconds) / statistics.median(self.profiler_off_seconds)

    def to_json(self) -> dict[str, Any]:
        """The document of capture.json; the derived figures are written too, for people and other tools."""
        return {
            **dataclasses.asdict(self),
            "framework": self.framework,
            "kernels_per_call": self.kernels_per_call,
            "overhead": self.overhead,
        }

    @classmethod
    def from_json(cls, document: Any) -> CaptureRecord:
        """The inverse of `to_json`. Raises UserError, one line, for anything else."""
        try:
            return _record(_Fields(document, "the record"))
        except _Malformed as error:
            raise UserError(f"no capture record: {error}; capture it again") from None

    def save(self, folder: Path) -> None:
        write_json(folder / FILE_NAME, self.to_json(), indent=1)


def load(folder: Path | str) -> CaptureRecord:
    """The record of one implementation's folder, its trace files present. Raises UserError."""
    path = Path(folder) / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; capture it again") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); capture it again") from None
    try:
        record = CaptureRecord.from_json(document)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for trace in record.traces:
        if not (path.parent / trace.file).is_file():
            raise UserError(f"{path} names {trace.file}, which is not there; capture it again")
    return record


def folders(directory: Path | str) -> list[Path]:
    """Every implementation's folder at or below `directory`, by path. Raises UserError if there is none."""
    found = sorted(path.parent for path in Path(directory).rglob(FILE_NAME))
    if not found:
        raise UserError(f"{directory} holds no capture ({FILE_NAME}); make one with `fuseproof profile CASE`")
    return found


def unlike(records: Sequence[CaptureRecord]) -> str | None:
    """In what the records differ that may not differ where they are compared, in words; None if in nothing.

    A package that only some of them have makes no difference: each framework's record names its own.
    """
    conditions: dict[str, dict[str, list[str]]] = {}
    for record in records:
        given = {
            "device": record.device,
            f"device of {record.framework}": record.device_name,
            "threads": str(record.threads),
            "Python stacks": "on" if record.stacks else "off",
            **record.versions,
        }
        for what, value in given.items():
            conditions.setdefault(what, {}).setdefault(value, []).append(record.row.name)
    found = (
        f"{what}: " + ", ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
        for what, values in conditions.items()
        if len(values) > 1
    )
    return "; ".join(found) or None


class _Malformed(Exception):
    """What is wrong with a document, without the file's name."""


class _Fields:
    """Typed access to one JSON object."""

    def __init__(self, document: Any, place: str) -> None:
        if not isinstance(document, dict):
            raise _Malformed(f"{place} is no JSON object")
        self._document, self._place = document, place

    def value(self, key: str, *kinds: type) -> Any:
        if key not in self._document:
            raise _Malformed(f"{self._place} has no {key!r}")
        value = self._document[key]
        fits = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise _Malformed(f"{key!r} of {self._place} is {str(value)[:60]!r}")
        return value

    def text(self, key: str) -> str:
        return str(self.value(key, str))

    def whole(self, key: str) -> int:
        value = self.value(key, int)
        if not 0 <= value < 1 << 63:
            raise _Malformed(f"{key!r} of {self._place} is {str(value)[:60]}")
        return int(value)

    def whole_or_none(self, key: str) -> int | None:
        return None if self.value(key, int, type(None)) is None else self.whole(key)

    def number(self, key: str) -> float:
        try:
            return float(self.value(key, int, float))
        except OverflowError:
            raise _Malformed(f"{key!r} of {self._place} is beyond every quantity") from None

    def seconds(self, key: str) -> float:
        value = self.number(key)
        if value <= 0:
            raise _Malformed(f"{key!r} of {self._place} is {value}; it must be above 0")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        return self.each(key, lambda item: item.value("", str))

    def each(self, key: str, make: Callable[[_Fields], _Element]) -> tuple[_Element, ...]:
        """`make` of every entry of a list; an entry that is no object is one whose only key is ''."""
        entries = self.value(key, list)
        place = f"{key!r} of {self._place}"
        return tuple(
            make(_Fields(entry if isinstance(entry, dict) else {"": entry}, place)) for entry in entries
        )


def _record(fields: _Fields) -> CaptureRecord:
    schema = fields.whole("schema")
    if schema != SCHEMA:
        raise _Malformed(f"schema {schema} instead of {SCHEMA}; written by another version of fuseproof")
    group = fields.text("group")
    versions = fields.value("versions", dict)
    if not all(isinstance(version, str) for version in versions.values()):
        raise _Malformed("a version is no text")
    try:
        Case.from_group(group)
        row = Implementation(**fields.value("row", dict))
    except (UserError, TypeError, ValueError) as error:
        raise _Malformed(str(error)) from None
    calls = fields.each("calls", _call)
    counts = fields.each("kernel_counts", lambda item: item.whole(""))
    if counts and len(counts) != len(calls):
        raise _Malformed(f"{len(counts)} kernel counts of {len(calls)} calls")
    energy = fields.value("energy", dict, type(None))
    return CaptureRecord(
        schema=schema,
        group=group,
        row=row,
        device=fields.text("device"),
        device_name=fields.text("device_name"),
        versions=versions,
        threads=fields.whole("threads"),
        stacks=fields.value("stacks", bool),
        seed=fields.whole("seed"),
        calls=calls,
        kernel_counts=counts,
        kernel_rule=fields.text("kernel_rule"),
        kernel_names=fields.texts("kernel_names"),
        profiler_on_seconds=fields.each("profiler_on_seconds", lambda item: item.seconds("")),
        profiler_off_seconds=fields.each("profiler_off_seconds", lambda item: item.seconds("")),
        traces=fields.each("traces", _trace),
        samples=fields.each("samples", _series),
        energy=None if energy is None else _energy(_Fields(energy, "'energy'")),
        dropped_events=fields.whole_or_none("dropped_events"),
        warnings=fields.texts("warnings"),
        not_seen=fields.texts("not_seen"),
    )


def _call(item: _Fields) -> ProfiledCall:
    call = ProfiledCall(start_ns=item.whole("start_ns"), end_ns=item.whole("end_ns"))
    if call.end_ns < call.start_ns:
        raise _Malformed(f"a call ends at {call.end_ns}, before its start {call.start_ns}")
    return call


def _trace(item: _Fields) -> Trace:
    trace = Trace(file=item.text("file"), kind=item.text("kind"))
    # A record may come from elsewhere: it must not point out of its folder.
    if Path(trace.file).name != trace.file or trace.file in ("", ".", ".."):
        raise _Malformed(f"trace file {trace.file!r} is not a plain file name")
    if trace.kind not in TRACE_KINDS:
        raise _Malformed(f"trace kind {trace.kind!r} is none of {', '.join(TRACE_KINDS)}")
    return trace


def _series(item: _Fields) -> Series:
    def sample(entry: _Fields) -> float | None:
        return None if entry.value("", int, float, type(None)) is None else entry.number("")

    series = Series(
        name=item.text("name"),
        unit=item.text("unit"),
        device=item.text("device"),
        source=item.text("source"),
        time_ns=item.each("time_ns", lambda entry: entry.whole("")),
        value=item.each("value", sample),
    )
    if len(series.time_ns) != len(series.value):
        raise _Malformed(f"{series.name}: {len(series.time_ns)} times of {len(series.value)} values")
    if not _ascending(series.time_ns):
        raise _Malformed(f"{series.name}: its times do not ascend")
    return series


def _energy(item: _Fields) -> Energy:
    energy = Energy(
        device=item.text("device"),
        joules=item.number("joules"),
        seconds=item.seconds("seconds"),
        calls=item.whole("calls"),
    )
    if energy.calls == 0 or energy.joules < 0:
        raise _Malformed(f"energy of {energy.calls} calls is {energy.joules} J")
    return energy


def _ascending(times: Sequence[int]) -> bool:
    return all(before <= after for before, after in itertools.pairwise(times))
