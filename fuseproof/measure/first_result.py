"""Seconds from starting a fresh process to its first result on the host, of the cases that are asked for.

Each process runs `first_result_script`, which does what a user's script does. In a round every
implementation has one process, in drawn order, and nothing else runs meanwhile; a round is a block. Before
them comes one round that does not count: it puts libraries into the cache of files and what compilers keep
on disk there, so files are warm, as where somebody edits and runs again. Nothing empties these caches.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fuseproof.cases import Case
from fuseproof.child_process import one_line
from fuseproof.implementations import CUDA_GRAPHS, Implementation
from fuseproof.measure import first_result_script, results
from fuseproof.measure.crew import worker_environment
from fuseproof.measure.progress import Progress
from fuseproof.measure.referee_process import RefereeProcess
from fuseproof.measure.values import Values
from fuseproof.measure.worker_process import WorkerError
from fuseproof.runs import environment
from fuseproof.runs.directory import RunDirectory
from fuseproof.workloads.described import Described
from fuseproof.workloads.tensor import INDEX, STARTED_PASSES, result_dtype, tensor_dtype
from fuseproof.workloads.trees import OUTPUT

# For the progress: the kind of this stage's pieces (a case), and a guess of the seconds of one.
PIECE, GUESS = "first_result", 60.0
ROUNDS: Final = 5  # as many blocks as a verdict needs
_TIMEOUT = 300.0
# Modes that a script has a line for.
_COMPILED: Mapping[str, tuple[str, ...]] = {
    "torch": ("default", "lite", *CUDA_GRAPHS, "max-autotune-no-cudagraphs", "kernel"),
    "jax": ("jit",),
    "tensorflow": ("function", "xla"),
}
_DTYPES = ("float32", "float16", "bfloat16")
_SCRIPT = Path(first_result_script.__file__)


class _Failed(Exception):
    """A process without a first result; the message says why."""


def left(directory: RunDirectory) -> list[Case]:
    """The cases to do."""
    return [case for case in directory.plan.of_first_results if directory.first_result(case) is None]


def run(directory: RunDirectory, progress: Progress) -> None:
    """Measure every case in `left` and save what was found in the run directory."""
    for case in left(directory):
        with progress.piece(PIECE, f"first results of {case.group}"):
            directory.save_first_result(case, _measure_case(directory, case))


def _measure_case(directory: RunDirectory, case: Case) -> dict[str, Any]:
    """The record of a case: of each implementation that passed its check the seconds of each round."""
    implementations = results.measurable(directory, case)
    reasons = {each.name: _reason_against(each, case) for each in implementations}
    rows: dict[str, Any] = {
        name: {"status": "skipped", "message": reason} for name, reason in reasons.items() if reason
    }
    able = [each for each in implementations if each.name not in rows]
    if able:
        with tempfile.TemporaryDirectory(prefix="fuseproof-first-result-") as folder:
            rows |= _rounds(directory, case, able, Path(folder))
    return {"group": case.group, "rows": rows}


def _rounds(
    directory: RunDirectory, case: Case, implementations: Sequence[Implementation], folder: Path
) -> dict[str, Any]:
    seed, draw = secrets.randbits(62), secrets.randbits(62)
    limits = results.limits(directory, case)
    order = np.random.default_rng([directory.plan.settings.seed, directory.plan.cases.index(case)])
    seconds: dict[str, list[float]] = {each.name: [] for each in implementations}
    failed: dict[str, str] = {}
    referee = RefereeProcess()
    try:
        referee.open_case(case, seed)
        tensors = _saved(case, seed, draw, folder)
        for number in range(1 + ROUNDS):
            for index in order.permutation(len(implementations)):
                implementation = implementations[index]
                if implementation.name in failed:
                    continue
                file = referee.file()
                try:
                    took = _first_result(directory, case, implementation, tensors, folder, file)
                    _refuse_wrong(referee.errors(draw, file), limits[implementation.name])
                except (_Failed, WorkerError) as error:
                    failed[implementation.name] = str(error)
                else:
                    seconds[implementation.name] += [took] if number else []
    finally:
        referee.close()
    return {
        each.name: {"status": "error", "message": failed[each.name]}
        if each.name in failed
        else {"status": "timed", "seconds": seconds[each.name]}
        for each in implementations
    }


def _first_result(
    directory: RunDirectory,
    case: Case,
    implementation: Implementation,
    tensors: Mapping[str, tuple[str, str]],
    folder: Path,
    file: str,
) -> float:
    """Seconds from the start of the process to the line that its result is there. Raises _Failed."""
    workload, settings = case.workload, directory.plan.settings
    specification = folder / "specification.json"
    specification.write_text(
        json.dumps(
            {
                "framework": implementation.framework,
                "target": implementation.target,
                "compiled": implementation.compiled,
                "device": settings.device,
                "dtype": case.dtype,
                "tensors": tensors,
                "arguments": dict(workload.arguments),
                "options": dict(workload.options),
                "differentiable": list(workload.differentiable) if case.pass_ in STARTED_PASSES else [],
                "results": list(workload.results(case.pass_)),
                "file": file,
            }
        ),
        encoding="utf-8",
    )
    variables = worker_environment(
        device=settings.device,
        threads=settings.threads,
        caches=directory.caches / "first-result",
        cold=True,
    )
    return start(
        [str(_SCRIPT), str(specification)],
        variables=variables,
        cpus=environment.usable_cpus()[: settings.threads],
        log=directory.log(f"first-result-{implementation.framework}"),
    )


def start(arguments: Sequence[str], *, variables: Mapping[str, str], cpus: Sequence[int], log: Path) -> float:
    """Seconds from starting `python -P ARGUMENTS…` on these CPUs to the line that its result is there.

    Raises _Failed if the process ends otherwise than well, with the end of what it wrote to `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as printed:
        with _on(cpus):
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-P", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=printed,
                env={**os.environ, **variables},
                start_new_session=True,
            )
        watch = threading.Timer(_TIMEOUT, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode(errors="replace").strip()
            seconds = time.perf_counter() - started
            code = process.wait()
        finally:
            watch.cancel()
            process.kill()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it started
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    if code == 0 and line == first_result_script.SAID:
        return seconds
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    how = f"a signal ({-code})" if code < 0 else f"exit code {code}"
    raise _Failed(one_line(f"no first result: {how}{': ' if last else ''}{''.join(last)}"))


@contextlib.contextmanager
def _on(cpus: Sequence[int]) -> Iterator[None]:
    """Within, this thread is on these CPUs, and so is what it starts; elsewhere than on Linux on all."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _reason_against(implementation: Implementation, case: Case) -> str | None:
    """Why a script has no line for it, None if it has one."""
    if isinstance(case.workload, Described):
        return "the time to a first result is measured of built-in operators only"
    if case.dtype not in _DTYPES:
        return f"the time to a first result is not measured in {case.dtype}"
    if implementation.layout != "bhsd":
        return f"a script for tensors in the order {implementation.layout} is not among those measured"
    mode = (implementation.compiled or "").partition("+")[0]
    if mode not in ("", *_COMPILED.get(implementation.framework, ())):
        return f"a script for {mode} is not among those measured"
    if case.pass_ in STARTED_PASSES and [*case.workload.cotangents] != [OUTPUT]:
        return "gradients of several outputs are not among what a script computes"
    return None


def _saved(case: Case, seed: int, draw: int, folder: Path) -> dict[str, tuple[str, str]]:
    """By name the file of each tensor, real numbers as float32, and the dtype that a script makes of it."""
    workload = case.workload
    arrays, cotangents = Values(case, seed).arrays(draw)
    dtypes = {
        name: "index" if each.dtype == INDEX else each.dtype or tensor_dtype(case.dtype)
        for name, each in workload.inputs_by_name.items()
    }
    named = dict(arrays)
    for name, array in cotangents.items():
        named["cotangent"] = array
        dtypes["cotangent"] = workload.cotangents[name].dtype or result_dtype(case.dtype)
    found = {}
    for number, (name, array) in enumerate(named.items()):
        file = folder / f"{number}.npy"
        np.save(file, array if dtypes[name] == "index" else array.astype(np.float32))
        found[name] = (str(file), dtypes[name])
    return found


def _refuse_wrong(errors: Mapping[str, float], limits: Mapping[str, float]) -> None:
    """Raise _Failed for a result that a check would not have passed."""
    for name, error in errors.items():
        if not error <= limits[name]:
            raise _Failed(f"its first result is wrong: {name} has a relative RMS error of {error:.2g}")
