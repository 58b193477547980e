"""The last stage of a run: every timed implementation under its framework's profiler, to count its kernels.

One process for each framework, none of those that timed. What cannot be profiled is a note in the run file
and takes nothing from the run. The traces of the few calls stay in the run directory, compressed.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from typing import Any

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.measure import results
from fuseproof.measure.crew import SHORT_TIMEOUT, Crew
from fuseproof.measure.progress import Progress
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerSkip
from fuseproof.profiling import capture
from fuseproof.runs.directory import RunDirectory

# The kind of its pieces for the progress, and a guess of the seconds of one: a case of one framework.
PIECE = "profile"
GUESS = 1.0
# Threads and seed are those of the run.
_OPTIONS = capture.Options(calls=3, samples=False, energy_seconds=0.0, timeout=SHORT_TIMEOUT)


def left(directory: RunDirectory) -> list[tuple[str, Case]]:
    """What is not profiled yet: framework and case; nothing if the run is to have no profiles."""
    plan = directory.plan
    if not plan.settings.profile:
        return []
    return [
        (framework, case)
        for framework in plan.frameworks
        for case in plan.cases
        if plan.implementations_of(case, framework) and directory.profile(framework, case) is None
    ]


def run(directory: RunDirectory, progress: Progress) -> None:
    """Profile what is left."""
    todo = left(directory)
    with Crew(directory, stage="profile") as crew:
        crew.spawn(dict.fromkeys(framework for framework, _ in todo))  # they load while others work
        for framework, case in todo:
            failed = _failed_while_measured(directory, case)
            rows = [
                row
                for row in results.measurable(directory, case)
                if row.framework == framework and row.name not in failed
            ]
            with progress.piece(PIECE, f"profiling {case.group} in {framework}"):
                found = _profile_case(directory, crew, case, rows)
                directory.save_profile(framework, case, {"group": case.group, "rows": found})


def _failed_while_measured(directory: RunDirectory, case: Case) -> set[str]:
    """What hung or crashed then would do it again."""
    cells = (directory.cell(block, case) for block in range(directory.plan.settings.max_blocks))
    return {name for cell in cells if cell is not None for name in cell["failures"]}


def _profile_case(
    directory: RunDirectory, crew: Crew, case: Case, rows: Sequence[Implementation]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    opened = False
    settings = directory.plan.settings
    options = dataclasses.replace(_OPTIONS, threads=settings.threads, seed=settings.seed)
    for row in rows:
        folder = capture.folder_of(directory.captures(case), row)
        try:
            worker = crew.get(row.framework)
            if not opened:
                crew.open_case(row.framework, case)
                opened = True
            crew.prepare(row)
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was stopped half way
            folder.mkdir(parents=True, exist_ok=True)
            record = capture.profile_prepared(
                worker.ask,
                row,
                group=case.group,
                device=settings.device,
                description=crew.descriptions[row.framework],
                folder=folder,
                options=options,
            )
        except (WorkerError, WorkerSkip, WorkerDied, UserError, OSError) as error:
            found[row.name] = {"kernels": None, "notes": [str(error)]}
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, WorkerDied):
                crew.bury(row.framework)
                opened = False
        else:
            found[row.name] = {"kernels": record.kernels_per_call, "notes": list(record.warnings)}
    return found
