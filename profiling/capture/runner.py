"""Profiles one implementation of a case in a fresh process and saves the record (`record`) and the traces.

The process is a worker like those that measure, so inputs, steps and layouts are the same. It never measures:
a profiler slows the code it watches, and two profilers in one process collide. `capture` starts a process for
each implementation; the profile stage of a run (`stage`) starts one for each framework.
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
from fuseproof.measure.crew import LONG_TIMEOUT, description_of, worker_environment
from fuseproof.measure.reasons import reason_to_skip
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
    """An implementation could not be captured; the message, one line, names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to capture.

    calls:   number of profiled calls; calls without the profiler come first.
    memory:  record allocator events; on CUDA also PyTorch's memory history.
    stacks:  record Python frames, which slows every call.
    samples: sample resident memory, and on CUDA the board's sensors, while the profiler is on.
    energy_seconds: length of the loop whose energy is read with the profiler off, on CUDA; 0 skips it.
    threads: CPU threads of the worker.
    seed:    seed of the inputs.
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
    """Sends one request to the worker that has prepared the implementation."""

    def __call__(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]: ...


def capture(
    case: Case,
    implementation: Implementation,
    *,
    device: str,
    directory: Path,
    options: Options | None = None,
) -> CaptureRecord:
    """Profile an implementation in a fresh process and save the record and its traces.

    They are written to `folder_of(directory, implementation)`, in place of an earlier capture there.
    Raises CaptureError if the implementation cannot run here, fails, crashes or hangs, and UserError if the
    folder cannot be written or holds something else.
    """
    options = options or Options()
    what = f"{implementation.name} of {case.group}"
    if (reason := _reason_not_to(implementation, case, device)) is not None:
        raise CaptureError(f"cannot profile {what}: {reason}")
    folder = folder_of(directory, implementation)
    _make_room(folder)
    with tempfile.TemporaryDirectory(prefix="fuseproof-caches-") as caches:
        worker = WorkerProcess(
            implementation.framework,
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
                workload=description_of(case),
                last_level_cache=1,
            )
            worker.ask("prepare", timeout=options.timeout, implementation=implementation.to_json())
            return profile_prepared(
                worker.ask,
                implementation,
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


def folder_of(directory: Path, implementation: Implementation) -> Path:
    """Capture folder: the implementation's name with unsafe characters replaced."""
    return directory / re.sub(r"[^\w.+-]|^\.+", "_", implementation.name)


def kernels_per_call(
    case: Case, implementation: Implementation, *, device: str = "cpu", options: Options | None = None
) -> int | None:
    """Kernels in one call of an implementation; None if calls differ or the trace does not show calls.

    Profiles in a fresh process and keeps no file. Raises what `capture` raises.
    """
    options = options or Options(calls=3, memory=False, samples=False, energy_seconds=0.0)
    with tempfile.TemporaryDirectory(prefix="fuseproof-capture-") as directory:
        record = capture(case, implementation, device=device, directory=Path(directory), options=options)
    return record.kernels_per_call


def timelines(folder: Path, record: CaptureRecord) -> list[Timeline]:
    """The traces of a record, in its order, with the kernels marked that the record counts."""
    loaded = [readers.load(folder / trace.file, name=record.implementation.name) for trace in record.traces]
    return [kernel_count.mark(timeline, record.kernel_names) for timeline in loaded]


def profile_prepared(
    ask: Ask,
    implementation: Implementation,
    *,
    group: str,
    device: str,
    description: Mapping[str, Any],
    folder: Path,
    options: Options,
    pid: int | None = None,
) -> CaptureRecord:
    """Profile the implementation that the worker behind `ask` has prepared; save the record in `folder`.

    `folder` must exist. With `pid`, the worker's process id, its resident memory is sampled.
    Raises WorkerDied, WorkerError or WorkerSkip.
    """
    name, timeout = implementation.name, options.timeout
    with contextlib.ExitStack() as stack:
        # This process reads the sensors, so that the worker is not slowed.
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
        implementation=implementation,
        device=device,
        device_name=str(description["device"]),
        versions={implementation.framework: str(description["version"]), **environment.package_versions()},
        threads=options.threads,
        stacks=options.stacks,
        seed=options.seed,
        calls=calls,
        kernel_counts=counts,
        kernel_rule=kernel_count.rule(implementation.framework, timeline),
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
    """Make `folder` empty, deleting an earlier capture. Raises UserError if it holds anything else."""
    with writing_to(folder):
        if folder.exists():
            found = {path.name for path in folder.iterdir()}
            if found and not found & {FILE_NAME, _LOG}:
                raise UserError(f"{folder} holds something that is not a capture; choose another folder")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)


def _reason_not_to(implementation: Implementation, case: Case, device: str) -> str | None:
    if device not in DEVICES:
        return f"unknown device {device!r}; there are {', '.join(DEVICES)}"
    # The table lists the TPU only for what it times there, but XLA compiles every CPU implementation for it.
    if device == "tpu" and implementation.framework == "jax" and "cpu" in implementation.devices:
        return reason_to_skip(implementation, case, "cpu")
    return reason_to_skip(implementation, case, device)


def _counts(
    timeline: Timeline, kernel_names: Sequence[str], calls: Sequence[ProfiledCall]
) -> tuple[tuple[int, ...], list[str]]:
    if not timeline.origin_is_unix:
        return (), ["the trace's clock is not Unix time: its kernels cannot be assigned to calls"]
    counts = tuple(
        len(mine) for mine in kernel_count.by_call(kernel_count.mark(timeline, kernel_names), calls)
    )
    if not any(counts):
        return (), ["no kernel of any profiled call is in the trace"]
    if len(set(counts)) > 1:
        return counts, [f"kernels differ from call to call: {', '.join(map(str, counts))}"]
    return counts, []


def _energy(series: Sequence[Series], loop: Mapping[str, Any]) -> Energy | None:
    """The energy counter's increase over the loop; None if the board has no counter."""
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
