"""A run whose checks and cells are numbers made up at once, in processes that may be killed at any moment.

Every number is a function of its block and case, so that a run that was killed many times must end with the
same numbers as one that was not.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.measure import runner
from fuseproof.runs import run_file
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Plan

_FORKS = multiprocessing.get_context("forkserver")


def _process(*, target: Callable[..., None], args: tuple[Any, ...]) -> BaseProcess:
    """A process, started. It is forked from one that has imported all this, which takes milliseconds."""
    _FORKS.set_forkserver_preload(["pytest", "support.fake_measuring"])
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)):
        forkserver.ensure_running()  # its own path does not have the tests
    process = _FORKS.Process(target=target, args=args)
    process.start()
    return process


class Quiet:
    """Progress that nobody looks at."""

    def begin(self, left: object) -> None: ...
    def piece(self, kind: str, what: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def show(self, run: object) -> None: ...


def check(directory: RunDirectory, *_: object) -> None:
    """As the runner's stage: every check that is not there yet."""
    for framework in directory.plan.frameworks:
        for case in directory.plan.cases:
            of = directory.plan.implementations_of(case, framework)
            if of and directory.check(framework, case) is None:
                rows = {
                    each.name: {
                        "status": "ran",
                        "errors": {"output": 1e-7},
                        "compile_seconds": None,
                        "peak_memory_bytes": 64,
                        "call_seconds": 1e-3,
                    }
                    for each in of
                }
                directory.save_check(framework, case, {"group": case.group, "description": {}, "rows": rows})


def measure(directory: RunDirectory, *_: object, pause: float = 0.0) -> None:
    """As the runner's stage: every cell that is not there yet."""
    for block in range(directory.plan.settings.blocks):
        for case in directory.plan.cases:
            if directory.cell(block, case) is None:
                time.sleep(pause)
                directory.save_cell(block, case, cell(directory.plan, block, case))


def cell(plan: Plan, block: int, case: Case) -> dict[str, Any]:
    number = plan.cases.index(case)
    legs = {
        each.name: [{"wall": [seconds(block, number, each.name)]}] * 2
        for each in plan.implementations_of(case)
    }
    return {"group": case.group, "legs": legs, "failures": {}}


def seconds(block: int, case: int, name: str) -> float:
    return 1e-3 * (1 + block) + 1e-5 * case + 1e-7 * len(name)


def profile(directory: RunDirectory, *_: object) -> None:
    for framework in directory.plan.frameworks:
        for case in directory.plan.cases:
            of = directory.plan.implementations_of(case, framework)
            if of and directory.profile(framework, case) is None:
                rows = {each.name: {"kernels": 1, "notes": []} for each in of}
                directory.save_profile(framework, case, {"group": case.group, "rows": rows})


def run(directory: RunDirectory, *, pause: float = 0.0, measure: Callable[..., None] = measure) -> Any:
    """`runner.run` with made-up numbers. pause: seconds before each cell."""

    def paused(directory: RunDirectory, *_: object) -> None:
        measure(directory, pause=pause)

    with mock.patch.object(runner, "_check", check), mock.patch.object(runner, "_measure", paused):
        return runner.run(directory, Quiet(), SimpleNamespace(run=profile))  # type: ignore[arg-type]


def start(plan: Plan, path: Path, pause: float) -> BaseProcess:
    """A process that starts the run, or resumes it if it was started."""
    return _process(target=_start, args=(plan.to_json(), path, pause))


def _start(plan: dict[str, Any], path: Path, pause: float) -> None:
    if (path / "run.json").exists() and run_file.load(path).complete:
        return  # it was killed between the last of its work and its end
    if (path / "plan.json").exists():
        directory = RunDirectory.open_unfinished(path)
    else:
        directory = RunDirectory.create(Plan.from_json(plan), path)
    run(directory, pause=pause)


def race(plans: tuple[Plan, Plan], paths: list[Path]) -> list[dict[str, str | None]]:
    """For each path two processes create a run there at one instant; what each says, None for the winner."""
    barrier, answers = _FORKS.Barrier(2), _FORKS.SimpleQueue()
    processes = [_process(target=_race, args=(plan.to_json(), paths, barrier, answers)) for plan in plans]
    found: list[dict[str, str | None]] = [{} for _ in paths]
    for _ in range(2 * len(paths)):
        index, suite, message = answers.get()
        found[index][suite] = message
    for process in processes:
        process.join()
    return found


def _race(plan: dict[str, Any], paths: list[Path], barrier: Any, answers: Any) -> None:
    mine = Plan.from_json(plan)
    with mock.patch("fuseproof.implementations.sources.hashes", return_value={}):
        for index, path in enumerate(paths):
            barrier.wait()
            directory, message = None, None
            try:
                directory = RunDirectory.create(mine, path)
            except UserError as error:
                message = str(error)
            answers.put((index, mine.suite, message))
            barrier.wait()
            del directory


def size_limited(plan: Plan, path: Path, limit: int) -> BaseProcess:
    """A process that runs where no file may grow above `limit` bytes; exits with 2 for a UserError."""
    return _process(target=_size_limited, args=(plan.to_json(), path, limit))


def _size_limited(plan: dict[str, Any], path: Path, limit: int) -> None:
    directory = RunDirectory.create(Plan.from_json(plan), path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(directory)
    except UserError as error:
        # The parent reads it; nothing that is written to disk would fit.
        os._exit(2 if "make room and go on" in str(error) else 3)
