"""Capture: one implementation of a case under its framework's profiler, in a process of its own.

The process is a worker like those that measure, so inputs, steps and layouts are the same, but never one of
them: a profiler slows what it watches, and two in one process collide. Each implementation gets a fresh one;
a run's own profile stage profiles all of a framework's in one. What comes of it: `capture_record`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.files import writing_to
from fuseproof.implementations import Implementation
from fuseproof.measure.crew import LONG_TIMEOUT, worker_environment
from fuseproof.measure.planning import reason_to_skip
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerProcess, WorkerSkip
from fuseproof.profiling import kernel_count, readers
from fuseproof.profiling.capture import nvml
from fuseproof.profiling.capture.record import (
    FILE_NAME,
    CaptureRecord,
    Energy,
    ProfiledCall,
    Series,
    Trace,
)
from fuseproof.profiling.capture.sampling import Sampler, at, resident_memory
from fuseproof.profiling.timeline.model import Timeline
from fuseproof.runs import environment

DEVICES: Final = ("cpu", "cuda", "tpu")
_LOG: Final = "worker.log"


class CaptureError(UserError):
    """An implementation could not be captured: the message, one line, says which and why."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to capture.

    calls:   profiled calls, after others without the profiler.
    memory:  allocator events; on CUDA PyTorch's memory history too.
    stacks:  Python frames in the trace: slows every call.
    samples: resident memory, and on CUDA the board's sensors, while the profiler is on.
    energy_seconds: length of the loop whose energy is read, the profiler off, on CUDA; 0 for none.
    timeout: seconds after which a step of the capture counts as hung.
    """

    calls: int = 5
    memory: bool = True
    stacks: bool = False
    samples: bool = True
    energy_seconds: float = 1.0
    threads: int = 1
    seed: int = 0
    timeout: float = LONG_TIMEOUT

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise UserError(f"cannot profile {self.calls} calls; ask for 1 or more")


class Ask(Protocol):
    """One request to the worker that has prepared the implementation."""

    def __call__(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]: ...


def capture(
    case: Case, row: Implementation, *, device: str, directory: Path, options: Options | None = None
) -> CaptureRecord:
    """Profile `row` in a fresh process; the record and its traces lie in `folder_of(directory, row)`.

    An earlier capture there is replaced. Raises CaptureError if the implementation cannot run here, fails,
    crashes or hangs.
    """
    options = options or Options()
    what = f"{row.name} of {case.group}"
    if (reason := _reason_not_to(row, case, device)) is not None:
        raise CaptureError(f"cannot profile {what}: {reason}")
    folder = folder_of(directory, row)
    _make_room(folder)
    with tempfile.TemporaryDirectory(prefix="fuseproof-caches-") as caches:
        worker = WorkerProcess(
            row.framework,
            device=device,
            threads=options.threads,
            cpus=environment.usable_cpus()[: options.threads],
            environment=worker_environment(
                device=device, threads=options.threads, caches=Path(caches), cold=True
            ),
            log=folder / _LOG,
        )
        try:
            description = worker.wait_ready()
            worker.ask(
                "open_case",
                timeout=options.timeout,
                group=dataclasses.replace(case, cache="warm").group,  # one set of inputs is enough
                seed=options.seed,
                last_level_cache=1,
            )
            worker.ask("prepare", timeout=options.timeout, implementation=row.to_json())
            return profile_prepared(
                worker.ask,
                row,
                group=case.group,
                device=device,
                description=description,
                folder=folder,
                options=options,
                pid=worker.pid,
            )
        except (WorkerDied, WorkerError, WorkerSkip) as error:
            raise CaptureError(f"cannot profile {what}: {error}") from None
        finally:
            worker.close()


def folder_of(directory: Path, row: Implementation) -> Path:
    """Where the capture of `row` lies: its name, with what a user's name may have and a folder's must not."""
    return directory / re.sub(r"[^\w.+-]|^\.+", "_", row.name)


def kernels_per_call(
    case: Case, row: Implementation, *, device: str = "cpu", options: Options | None = None
) -> int | None:
    """Kernels that one call of `row` runs; None if the calls differ or the trace cannot tell.

    Profiles in a fresh process and keeps nothing. Raises CaptureError as `capture` does.
    """
    options = options or Options(calls=3, memory=False, samples=False, energy_seconds=0.0)
    with tempfile.TemporaryDirectory(prefix="fuseproof-capture-") as directory:
        record = capture(case, row, device=device, directory=Path(directory), options=options)
    return record.kernels_per_call


def timelines(folder: Path, record: CaptureRecord) -> list[Timeline]:
    """The traces of a record, in its order, kernels marked by the rule by which they were counted."""
    loaded = [readers.load(folder / trace.file, name=record.row.name) for trace in record.traces]
    return [kernel_count.mark(timeline, record.kernel_names) for timeline in loaded]


def profile_prepared(
    ask: Ask,
    row: Implementation,
    *,
    group: str,
    device: str,
    description: Mapping[str, Any],
    folder: Path,
    options: Options,
    pid: int | None = None,
) -> CaptureRecord:
    """Profile what the worker behind `ask` has prepared, into `folder`, which exists; the record is saved.

    `pid` is the worker's, for its resident memory. Raises what a worker raises.
    """
    name, timeout = row.name, options.timeout
    with contextlib.ExitStack() as stack:
        # The sensors are read from here: the worker has enough to carry.
        board = stack.enter_context(nvml.probes()) if device == "cuda" and options.samples else []
        own = [resident_memory(pid)] if options.samples and pid is not None else []
        with Sampler([*board, *own]) as sampler:
            found = ask(
                "profile",
                timeout=timeout,
                name=name,
                folder=str(folder.resolve()),
                calls=options.calls,
                memory=options.memory,
                stacks=options.stacks,
            )
        energy = None
        if board and options.energy_seconds:
            with Sampler(board) as over_loop:
                loop = ask("repeat", timeout=timeout, name=name, seconds=options.energy_seconds)
            energy = _energy(over_loop.series(), loop)
    calls = tuple(ProfiledCall(start_ns=start, end_ns=end) for start, end in found["calls"])
    kept = tuple(Trace(**trace) for trace in found["traces"])
    timeline = readers.load(folder / kept[0].file, name=name)
    judged = kernel_count.names_to_judge(timeline)
    kernel_names = ask("kernel_names", timeout=timeout, names=judged)["names"] if judged else []
    counts, warnings = _counts(timeline, kernel_names, calls)
    record = CaptureRecord(
        group=group,
        row=row,
        device=device,
        device_name=str(description["device"]),
        versions={row.framework: str(description["version"]), **environment.package_versions()},
        threads=options.threads,
        stacks=options.stacks,
        seed=options.seed,
        calls=calls,
        kernel_counts=counts,
        kernel_rule=kernel_count.rule(row.framework, timeline),
        kernel_names=tuple(kernel_names),
        profiler_on_seconds=tuple(found["on_seconds"]),
        profiler_off_seconds=tuple(found["off_seconds"]),
        traces=kept,
        samples=sampler.series(),
        energy=energy,
        dropped_events=timeline.dropped_events,
        warnings=(*found["warnings"], *timeline.warnings, *warnings),
        not_seen=tuple(found["not_seen"]),
    )
    record.save(folder)
    return record


def _make_room(folder: Path) -> None:
    """An empty folder, where there was none or a capture, finished or not. Raises UserError otherwise."""
    with writing_to(folder):
        if folder.exists():
            found = {path.name for path in folder.iterdir()}
            if found and not found & {FILE_NAME, _LOG}:
                raise UserError(f"{folder} holds something that is no capture; choose another folder")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)


def _reason_not_to(row: Implementation, case: Case, device: str) -> str | None:
    if device not in DEVICES:
        return f"unknown device {device!r}; there are {', '.join(DEVICES)}"
    # What XLA compiles for the CPU it compiles for the TPU too; only the table does not time it there.
    if device == "tpu" and row.framework == "jax" and "cpu" in row.devices:
        return reason_to_skip(row, case, "cpu")
    return reason_to_skip(row, case, device)


def _counts(
    timeline: Timeline, kernel_names: Sequence[str], calls: Sequence[ProfiledCall]
) -> tuple[tuple[int, ...], list[str]]:
    if not timeline.origin_is_unix:
        return (), ["the trace's clock is not Unix time: its kernels cannot be told apart by call"]
    counts = tuple(
        len(mine) for mine in kernel_count.by_call(kernel_count.mark(timeline, kernel_names), calls)
    )
    if not any(counts):
        return (), ["no kernel of any profiled call is in the trace"]
    if len(set(counts)) > 1:
        return counts, [f"kernels differ from call to call: {', '.join(map(str, counts))}"]
    return counts, []


def _energy(series: Sequence[Series], loop: Mapping[str, Any]) -> Energy | None:
    """What the counter gained from start to end of the loop; None if the board has no counter."""
    for each in series:
        if each.name == nvml.ENERGY:
            before, after = at(each, loop["start_ns"]), at(each, loop["end_ns"])
            if before is not None and after is not None and after >= before:
                return Energy(
                    device=each.device,
                    joules=after - before,
                    seconds=(loop["end_ns"] - loop["start_ns"]) / 1e9,
                    calls=loop["calls"],
                )
    return None
