"""The last stage of a run: profiles every timed implementation, to count its kernels.

Each framework gets one process, which has timed nothing, and each case of an implementation from outside one
of its own. An implementation that cannot be profiled is a note
in the run file; the run is complete without it. The compressed traces stay in the run directory.
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
from fuseproof.measure.worker_process import WorkerCheated, WorkerDied, WorkerError, WorkerSkip
from fuseproof.profiling import capture
from fuseproof.runs.directory import RunDirectory

# For the progress: the kind of this stage's pieces (a case in one framework), and a guess of its seconds.
PIECE = "profile"
GUESS = 1.0
# Threads and seed come from the run's settings.
_OPTIONS = capture.Options(calls=3, samples=False, energy_seconds=0.0, timeout=SHORT_TIMEOUT)


def left(directory: RunDirectory) -> list[tuple[str, Case]]:
    """(framework, case) pairs that are not profiled yet; empty if the run has no profile stage."""
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
    """Profile every pair in `left` and save the results in the run directory."""
    todo = left(directory)
    with Crew(directory, stage="profile") as crew:
        crew.spawn(dict.fromkeys(framework for framework, _ in todo))  # they load while others work
        for framework, case in todo:
            failed = _failed_while_measured(directory, case)
            implementations = [
                implementation
                for implementation in results.measurable(directory, case)
                if implementation.framework == framework
                and implementation.name not in failed
                and implementation.runtime is None  # a framework's profiler does not see into those
            ]
            with progress.piece(PIECE, f"profiling {case.group} in {framework}"):
                found = _profile_case(directory, crew, case, implementations)
                directory.save_profile(framework, case, {"group": case.group, "rows": found})


def _failed_while_measured(directory: RunDirectory, case: Case) -> set[str]:
    """Names of implementations that failed while measured: they would hang or crash again."""
    cells = (directory.cell(block, case) for block in range(directory.plan.settings.max_blocks))
    return {name for cell in cells if cell is not None for name in cell["failures"]}


def _profile_case(
    directory: RunDirectory, crew: Crew, case: Case, implementations: Sequence[Implementation]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    opened: set[str] = set()
    settings = directory.plan.settings
    options = dataclasses.replace(_OPTIONS, threads=settings.threads, seed=settings.seed)
    for implementation in implementations:
        folder = capture.folder_of(directory.captures(case), implementation)
        name = crew.worker_of(implementation)
        try:
            worker = crew.get(name)
            if name not in opened:
                crew.open_case(name, case, settings.seed)
                opened.add(name)
            crew.prepare(implementation)
            shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted attempt
            folder.mkdir(parents=True, exist_ok=True)
            record = capture.profile_prepared(
                worker.ask,
                implementation,
                group=case.group,
                device=settings.device,
                description=crew.descriptions[name],
                folder=folder,
                options=options,
            )
        except (WorkerError, WorkerSkip, WorkerDied, UserError, OSError) as error:
            found[implementation.name] = {"kernels": None, "notes": [str(error)]}
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, WorkerDied | WorkerCheated):
                crew.bury(name)
                opened.discard(name)
        else:
            found[implementation.name] = {"kernels": record.kernels_per_call, "notes": list(record.warnings)}
        if implementation.is_foreign:
            crew.bury(name)
            opened.discard(name)
    return found
