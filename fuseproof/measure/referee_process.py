"""The runner's side of the referee, and the folder through which results reach it."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fuseproof.cases import Case
from fuseproof.child_process import Process, ProcessDied
from fuseproof.measure.worker_process import WorkerError
from fuseproof.workloads.described import Described

_TIMEOUT = 900.0
# Memory that is a file system: results of a GPU are hundreds of MiB.
_SHARED_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 1 << 30  # a container may have 64 MiB of it
_PREFIX = "fuseproof-results-"


class RefereeProcess:
    """One referee, started when it is first needed.

    Methods raise WorkerError for results that are wrong, or over which it dies twice.
    """

    def __init__(self) -> None:
        self._process: Process | None = None
        self._opened: Mapping[str, object] = {}
        _remove_left_behind()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_room()))
        self._numbers = itertools.count()

    def file(self) -> str:
        """A new path for a result, which a worker writes and `errors` deletes."""
        return str(self._folder / f"{next(self._numbers)}.bin")

    def open_case(self, case: Case, seed: int) -> None:
        """The case and the seed of its `Values`."""
        described = case.workload.to_json() if isinstance(case.workload, Described) else None
        self._opened = {"do": "open_case", "group": case.group, "seed": seed, "workload": described}
        self._ask(self._opened)

    def errors(self, draw: int, file: str, *, steps: int = 1) -> dict[str, float]:
        """Relative RMS error of each tensor in a file for the values of a draw; NaN if not finite.

        steps: of training, that led to the result.
        """
        found = self._ask({"do": "compare", "draw": draw, "file": file, "steps": steps})["errors"]
        return {name: math.nan if error is None else error for name, error in found.items()}

    def close(self) -> None:
        """End the process and remove the folder."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, request: Mapping[str, object]) -> dict[str, dict[str, float | None]]:
        try:
            return self._ask_once(request)
        except ProcessDied:  # code from outside may have killed it
            self._end()
        try:
            self._ask_once(self._opened)
            return self._ask_once(request)
        except ProcessDied as death:
            self._end()
            raise WorkerError(f"its result could not be compared: {death}") from None

    def _ask_once(self, request: Mapping[str, object]) -> dict[str, dict[str, float | None]]:
        if self._process is None:
            # One thread for its products: the threads of a second library would spin while others are timed.
            threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
            # A framework is loaded there only where an implementation is the reference.
            self._process = Process(
                "fuseproof.measure.referee",
                name="the referee",
                environment={**threads, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
                detached=True,
            )
        self._process.send(request)
        answer = self._process.receive(_TIMEOUT)
        if "ok" not in answer:
            raise WorkerError(str(answer.get("error") or answer.get("skipped")))
        return answer["ok"]  # type: ignore[no-any-return]

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def _room() -> Path | None:
    """Memory if there is enough, else the system's folder for temporary files."""
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return None
    return _SHARED_MEMORY if free >= _ROOM_BYTES and os.access(_SHARED_MEMORY, os.W_OK) else None


def _remove_left_behind() -> None:
    """Remove the results of runs that were killed: memory that nobody would give back."""
    for folder in _SHARED_MEMORY.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
