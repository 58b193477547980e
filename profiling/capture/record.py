"""The record of one capture: `capture.json`, beside the raw traces of one implementation of a case.

A capture directory has one folder for each implementation of a case, named after it. The folder holds
`capture.json` and the trace files that it names. Capturing writes the record and the profile page reads it;
they share nothing else. Unknown is null, never zero. Times are Unix nanoseconds (`time.time_ns`) of one
machine.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from fuseproof import documents, privacy
from fuseproof.cases import Case, parse_group
from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.implementations import Implementation
from fuseproof.workloads.builtin import WORKLOADS

SCHEMA: Final = 2
FILE_NAME: Final = "capture.json"

TraceKind = Literal["kineto", "xplane", "torch-memory"]
# Keys of capture.json that differ from the names here.
_KEYS: Final[Mapping[str, str]] = {"implementation": "row"}

# msgspec checks these when a record is read; NaN and infinity are outside of the limits.
_LARGEST: Final = sys.float_info.max
Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Meta(gt=0, le=_LARGEST)]
Finite = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]


@dataclass(frozen=True, kw_only=True)
class ProfiledCall:
    """One call with the profiler on: from just before it until its results are ready."""

    start_ns: Whole
    end_ns: Whole


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One raw file of a profiler; `file` is its name in the folder of the record."""

    file: str
    kind: TraceKind


@dataclass(frozen=True, kw_only=True)
class Series:
    """One sampled quantity; `value[i]` at `time_ns[i]`, None where the sensor did not answer.

    name: `power`, `sm_clock`, `memory_clock`, `temperature`, `memory_used`, `clock_event_reasons` (a bit
          mask) or `resident_memory`.
    unit: `W`, `MHz`, `°C`, `bytes`, `bits`.
    source: what was read, by its vendor's name.
    """

    name: str
    unit: str
    device: str
    source: str
    time_ns: tuple[Whole, ...]
    value: tuple[Finite | None, ...]


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Increase of the board's energy counter over a loop of a second or more, the profiler off."""

    device: str
    joules: Annotated[float, Meta(ge=0, le=_LARGEST)]
    seconds: Positive
    calls: Annotated[int, Meta(ge=1, le=2**63 - 1)]

    @property
    def joules_per_call(self) -> float:
        return self.joules / self.calls


@dataclass(frozen=True, kw_only=True)
class CaptureRecord:
    """A finished capture of one implementation of a case.

    group:        the case.
    implementation: `row` in capture.json.
    device:       `cpu`, `cuda` or `tpu`; `device_name` is the framework's name for it.
    versions:     of the framework and of the packages that change what is measured.
    threads:      CPU threads.
    stacks:       whether the trace has Python frames.
    seed:         of the inputs.
    calls:        the profiled calls; traces are aligned by them.
    kernel_counts: kernels in each of `calls`; empty if the trace does not show calls.
    kernel_rule:  what counts as a kernel in this framework's trace, in words.
    kernel_names: operators that the framework says are kernels; empty if the trace marks kernels itself.
    profiler_on_seconds, profiler_off_seconds: of single calls, for the overhead only; never timings.
    dropped_events: None if the profiler does not report them.
    not_seen:     what the profiler could not see, in words.
    """

    group: str
    implementation: Implementation
    device: str
    device_name: str
    versions: Mapping[str, str]
    threads: Whole
    stacks: bool
    seed: Whole
    calls: tuple[ProfiledCall, ...]
    kernel_counts: tuple[Whole, ...]
    kernel_rule: str
    kernel_names: tuple[str, ...]
    profiler_on_seconds: tuple[Positive, ...]
    profiler_off_seconds: tuple[Positive, ...]
    traces: tuple[Trace, ...]
    samples: tuple[Series, ...] = ()
    energy: Energy | None = None
    dropped_events: Whole | None = None
    warnings: tuple[str, ...] = ()
    not_seen: tuple[str, ...] = ()
    schema: int = field(default=SCHEMA)

    @property
    def framework(self) -> str:
        return self.implementation.framework

    @property
    def kernels_per_call(self) -> int | None:
        """The count if all calls have the same; None if they differ (see `warnings`) or none is known."""
        return self.kernel_counts[0] if len(set(self.kernel_counts)) == 1 else None

    @property
    def overhead(self) -> float | None:
        """Median seconds of a call, profiler on over profiler off; None if either is missing."""
        if not self.profiler_on_seconds or not self.profiler_off_seconds:
            return None
        return statistics.median(self.profiler_on_seconds) / statistics.median(self.profiler_off_seconds)

    def to_json(self) -> dict[str, Any]:
        """The document of capture.json, with the derived figures for people and other tools.

        The file of a user's implementation is named without home folders.
        """
        stored = dataclasses.asdict(self)
        for name in ("warnings", "not_seen"):
            stored[name] = privacy.anonymous_document(stored[name])
        stored["implementation"]["target"] = privacy.anonymous(self.implementation.target)
        return {
            **{_KEYS.get(name, name): value for name, value in stored.items()},
            "framework": self.framework,
            "kernels_per_call": self.kernels_per_call,
            "overhead": self.overhead,
        }

    @classmethod
    def from_json(cls, document: Any) -> CaptureRecord:
        """The inverse of `to_json`. Raises UserError, one line, for any other document."""
        try:
            if not isinstance(document, dict):
                raise ValueError("not a JSON object")
            documents.refuse_other_schema(document.get("schema"), SCHEMA, oldest=SCHEMA)
            named = {name: document[key] for name, key in _KEYS.items() if key in document}
            if isinstance(of := named.get("implementation"), dict):
                named["implementation"] = Implementation.current_fields(of)
            record = msgspec.convert({**document, **named}, cls)
            _refuse_contradictions(record)
        except (msgspec.ValidationError, ValueError, UserError) as error:
            raise UserError(f"not a capture record: {documents.reason(error)}; capture it again") from None
        return record

    def save(self, folder: Path) -> None:
        """Write capture.json into `folder`."""
        write_json(folder / FILE_NAME, self.to_json(), indent=1)


def load(folder: Path | str) -> CaptureRecord:
    """The record in one implementation's folder.

    Raises UserError if it cannot be read, is damaged, or names a trace file that is missing.
    """
    path = Path(folder) / FILE_NAME
    try:
        document = documents.load(path, wanted="capture it again")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"cannot read {path}: {error.strerror}; capture it again") from None
    try:
        record = CaptureRecord.from_json(document)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for trace in record.traces:
        if not (path.parent / trace.file).is_file():
            raise UserError(f"{path} names {trace.file}, which is missing; capture it again")
    return record


def folders(directory: Path | str) -> list[Path]:
    """The folders with a capture at or below `directory`, sorted. Raises UserError if there is none."""
    found = sorted(path.parent for path in Path(directory).rglob(FILE_NAME))
    if not found:
        raise UserError(f"{directory} holds no capture ({FILE_NAME}); make one with `fuseproof profile CASE`")
    return found


def unlike(records: Sequence[CaptureRecord]) -> str | None:
    """Settings that differ although they must match, in words, else None.

    A package that only some records name is not a difference: each framework has its own packages.
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
            conditions.setdefault(what, {}).setdefault(value, []).append(record.implementation.name)
    found = (
        f"{what}: " + ", ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
        for what, values in conditions.items()
        if len(values) > 1
    )
    return "; ".join(found) or None


def _refuse_contradictions(record: CaptureRecord) -> None:
    """Check what types cannot express. Raises ValueError or UserError."""
    parts = parse_group(record.group)
    if parts is None or parts.operator in WORKLOADS:  # another workload is a user's, which nobody here knows
        Case.from_group(record.group)
    calls, counts = len(record.calls), len(record.kernel_counts)
    if counts not in (0, calls):
        raise ValueError(f"{counts} kernel counts for {calls} calls")
    for call in record.calls:
        if call.end_ns < call.start_ns:
            raise ValueError(f"a call ends at {call.end_ns}, before its start {call.start_ns}")
    for trace in record.traces:
        # A record from elsewhere must not point out of its folder.
        if Path(trace.file).name != trace.file or trace.file in ("", ".", ".."):
            raise ValueError(f"trace file {trace.file!r} is not a plain file name")
    for series in record.samples:
        if len(series.time_ns) != len(series.value):
            raise ValueError(f"{series.name}: {len(series.time_ns)} times for {len(series.value)} values")
        if any(before > after for before, after in itertools.pairwise(series.time_ns)):
            raise ValueError(f"{series.name}: the times do not ascend")
