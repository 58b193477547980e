"""Check, measure, then profile: fresh workers for every block, every finished piece kept on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import palindromes, results
from fuseproof.measure.cell import Cell
from fuseproof.measure.crew import LONG_TIMEOUT, Crew
from fuseproof.measure.progress import Pieces, Progress
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerSkip
from fuseproof.runs import statistics
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.records import Run

# Rounds of one call, from whose fastest the length of legs is derived.
_CALIBRATION_ROUNDS = 5

# For the time left until a piece of each kind has been timed: seconds of a check (torch.compile calls a C++
# compiler), and the length of a leg over its nominal one (slow calls fill more than their leg).
_CHECK_GUESS = {"torch": 7.0, "jax": 2.0, "tensorflow": 1.0}
_LEG_GUESS = 3.0


class Stage(Protocol):
    """Work on a run after its timing, in pieces that are kept like those of the runner.

    PIECE: the kind of its pieces for the progress. GUESS: seconds of one until one is done.
    """

    PIECE: str
    GUESS: float

    def left(self, directory: RunDirectory) -> Sequence[object]: ...
    def run(self, directory: RunDirectory, progress: Progress) -> None: ...


def run(directory: RunDirectory, progress: Progress, profile: Stage) -> Run:
    """Do what is left of the run in `directory` and write its run file; `profile` comes after the timing.

    However it ends, the run file is written with what is finished; KeyboardInterrupt passes through.
    """
    complete = False
    with directory.locked():
        try:
            _check(directory, progress, profile)
            _measure(directory, progress)
            profile.run(directory, progress)
            complete = True
        finally:
            result = results.write_run_file(directory, complete=complete)
        directory.remove_caches()
    return result


def _check(directory: RunDirectory, progress: Progress, profile: Stage) -> None:
    """Correctness, cold compile time and peak memory of every implementation, before anything is timed."""
    plan = directory.plan
    left = [
        (framework, case)
        for framework in plan.frameworks
        for case in plan.cases
        if plan.implementations_of(case, framework) and directory.check(framework, case) is None
    ]
    progress.begin(_pieces_left(directory, left, profile))
    if left:
        directory.remove_caches()  # what an interrupted check compiled would make the next one look fast
    for framework in dict.fromkeys(framework for framework, _ in left):
        with Crew(directory, stage="check") as crew:
            for case in (case for of, case in left if of == framework):
                with progress.piece(framework, f"checking {case.group} in {framework}"):
                    record = _check_case(crew, case, plan.implementations_of(case, framework))
                    directory.save_check(framework, case, record)


def _check_case(crew: Crew, case: Case, rows: tuple[Implementation, ...]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    description: dict[str, Any] = {}
    opened = False
    for row in rows:
        try:
            crew.get(row.framework)
            description = crew.descriptions[row.framework]
            if not opened:
                crew.open_case(row.framework, case)
                opened = True
            found[row.name] = _check_row(crew, row)
        except WorkerSkip as skip:
            found[row.name] = {"status": "skipped", "message": str(skip)}
        except WorkerError as error:
            found[row.name] = {"status": "error", "message": str(error)}
        except WorkerDied as death:
            found[row.name] = {"status": "error", "message": str(death)}
            crew.bury(row.framework)
            opened = False
    return {"group": case.group, "description": description, "rows": found}


def _check_row(crew: Crew, row: Implementation) -> dict[str, Any]:
    prepared = crew.prepare(row)
    errors = crew.ask(row.framework, "check", timeout=LONG_TIMEOUT, name=row.name)["errors"]
    trial = crew.ask(row.framework, "leg", name=row.name, rounds=_CALIBRATION_ROUNDS, calls=1, warm_up=2)
    memory = crew.ask(row.framework, "peak_memory", name=row.name)["bytes"]
    call_seconds = min(trial["wall"])
    first_call: float = prepared["first_call_seconds"]
    return {
        "status": "ran",
        "errors": errors,
        "compile_seconds": None if row.compiled is None else max(0.0, first_call - call_seconds),
        "peak_memory_bytes": memory,
        "call_seconds": call_seconds,
    }


def _measure(directory: RunDirectory, progress: Progress) -> None:
    settings = directory.plan.settings
    exact = settings.blocks == settings.max_blocks
    total = str(settings.blocks) if exact else f"{settings.blocks} to {settings.max_blocks}"
    for block in range(settings.max_blocks):
        if block >= settings.blocks and _precise(directory):
            break
        # Another case comes first in every block, so none is always measured in a young process.
        cases = directory.plan.cases
        first = block % len(cases)
        left = [case for case in cases[first:] + cases[:first] if directory.cell(block, case) is None]
        if not left:
            continue
        with Crew(directory, stage="block") as crew:
            crew.spawn(
                sorted({row.framework for case in left for row in results.measurable(directory, case)})
            )
            for case in left:
                with progress.piece("block", f"block {block + 1} of {total}: {case.group}"):
                    directory.save_cell(block, case, _measure_case(directory, crew, case, block))
        progress.show(results.write_run_file(directory, complete=False))


def _measure_case(directory: RunDirectory, crew: Crew, case: Case, block: int) -> dict[str, Any]:
    settings, found = directory.plan.settings, directory.checked(case)
    rows = results.measurable(directory, case)
    # The length of a leg comes from the check, so it is the same in every block.
    slowest: dict[str, float] = {}
    for row in rows:
        slowest[row.framework] = max(slowest.get(row.framework, 0.0), found[row.name]["call_seconds"])
    legs = {row.name: palindromes.leg_for(slowest[row.framework], settings.leg_seconds) for row in rows}
    return Cell(crew, case, rows, block=block).measure(legs, settings)


def _pieces_left(
    directory: RunDirectory, checks: Sequence[tuple[str, Case]], profile: Stage
) -> dict[str, Pieces]:
    plan = directory.plan
    left = {
        framework: Pieces(count=sum(of == framework for of, _ in checks), guess=_CHECK_GUESS[framework])
        for framework in plan.frameworks
    }
    cells = [
        case
        for block in range(plan.settings.blocks)
        for case in plan.cases
        if directory.cell(block, case) is None
    ]
    legs = 2 * plan.settings.palindromes * sum(len(plan.implementations_of(case)) for case in cells)
    guess = _LEG_GUESS * plan.settings.leg_seconds * legs / max(1, len(cells))
    profiles = Pieces(count=len(profile.left(directory)), guess=profile.GUESS)
    return {**left, "block": Pieces(count=len(cells), guess=guess), profile.PIECE: profiles}


def _precise(directory: RunDirectory) -> bool:
    """Whether every speedup's 95 % interval is narrow enough; whether it is significant plays no part."""
    run = results.assemble(directory, complete=False)
    for benchmark in run.benchmarks:
        baseline = run.baseline_of(benchmark)
        if baseline is None or benchmark.is_baseline:
            continue
        low, high = statistics.speedup(baseline, benchmark).ci95
        if low <= 0 or math.log(high / low) / 2 > directory.plan.settings.precision:
            return False
    return True
