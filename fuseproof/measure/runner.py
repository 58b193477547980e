"""Check, measure, start anew where asked, then profile, with fresh workers for every block.

Every finished piece is kept on disk.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Container, Sequence
from typing import Any, Protocol

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.measure import first_result, palindromes, results
from fuseproof.measure.cell import Cell
from fuseproof.measure.crew import LONG_TIMEOUT, Crew
from fuseproof.measure.progress import Pieces, Progress
from fuseproof.measure.worker_process import WorkerCheated, WorkerDied, WorkerError, WorkerSkip
from fuseproof.runs import statistics
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.records import GRAPHS, Run, without_first_results

# Values with which a result is checked, one after the other.
_CHECK_DRAWS = 2
# What limits the errors of others is checked with more, as long as all results together have so few elements:
# a small tensor's error differs from draw to draw. Of gradients through a batch norm of 9 rows, in 400 draws,
# the larger of two errors was over twice that of two other draws in up to 19 %, of sixteen in up to 0.3 %.
_YARDSTICK_DRAWS, _YARDSTICK_ELEMENTS = 16, 1 << 20

# Rounds of one call; the fastest sets the length of legs.
_CALIBRATION_ROUNDS = 5

# Guesses for the time left until a piece of each kind is done: seconds of a check (torch.compile calls a C++
# compiler), and the length of a leg over its nominal length (slow calls take longer than their leg).
_CHECK_GUESS = {"torch": 7.0, "jax": 2.0, "tensorflow": 1.0}
_LEG_GUESS = 3.0


class Stage(Protocol):
    """Work on a run after its timing, in pieces that are kept on disk like the runner's own.

    PIECE: what progress calls the kind of its pieces. GUESS: seconds of a piece, used until one is done.
    `left` lists the pieces to do; `run` does them.
    """

    PIECE: str
    GUESS: float

    def left(self, directory: RunDirectory) -> Sequence[object]: ...
    def run(self, directory: RunDirectory, progress: Progress) -> None: ...


def run(directory: RunDirectory, progress: Progress, profile: Stage) -> Run:
    """Finish the run in `directory` and write its run file; `profile` runs after the timing.

    However it ends, the run file is written with the finished pieces; KeyboardInterrupt passes through.
    Raises UserError if an implementation's source was edited meanwhile, or a piece is missing at the end.
    """
    missing = ["everything"]
    with directory.locked():
        try:
            _check(directory, progress, profile)
            _measure(directory, progress)
            first_result.run(directory, progress)
            profile.run(directory, progress)
            directory.refuse_changed_sources()
            missing = directory.missing()
        finally:
            directory.restore()
            result = results.write_run_file(directory, complete=not missing)
        if missing:
            raise UserError(
                f"{directory.path} is not complete, it lacks {', '.join(missing[:3])}"
                f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}; finish it with --resume"
            )
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
        directory.remove_caches()  # what an interrupted check compiled would make this one look fast
    for framework in dict.fromkeys(framework for framework, _ in left):
        with Crew(directory, stage="check") as crew:
            crew.spawn(
                {
                    crew.worker_of(each): None
                    for name, case in left
                    if name == framework
                    for each in plan.implementations_of(case, framework)
                }
            )
            crew.settle()
            for case in (case for name, case in left if name == framework):
                with progress.piece(framework, f"checking {case.group} in {framework}"):
                    record = _check_case(
                        crew,
                        case,
                        plan.implementations_of(case, framework),
                        yardsticks={
                            each.yardstick
                            for each in plan.implementations_of(case)
                            if each.yardstick != each.name
                        },
                    )
                    directory.save_check(framework, case, record)


def _check_case(
    crew: Crew, case: Case, implementations: Sequence[Implementation], *, yardsticks: Container[str] = ()
) -> dict[str, Any]:
    """The record of the check of one framework's implementations of a case.

    yardsticks: names of those whose errors limit the errors of others, here or in another framework.
    """
    found: dict[str, dict[str, Any]] = {}
    description: dict[str, Any] = {}
    seed = secrets.randbits(62)
    crew.referee.open_case(case, seed)
    opened: set[str] = set()
    for implementation in implementations:
        name, worker = implementation.name, crew.worker_of(implementation)
        try:
            if implementation.is_foreign:
                crew.mend()
            with crew.awake(worker):
                crew.get(worker)
                description = crew.descriptions[worker]
                if worker not in opened:
                    crew.open_case(worker, case, seed)
                    opened.add(worker)
                draws = _yardstick_draws(case) if name in yardsticks else _CHECK_DRAWS
                found[name] = _check_implementation(crew, implementation, draws)
                if implementation.is_foreign:
                    crew.compare(worker)
        except WorkerSkip as skip:
            found[name] = {"status": "skipped", "message": str(skip)}
        except WorkerError as error:
            found[name] = {"status": "error", "message": str(error)}
            if isinstance(error, WorkerCheated):
                opened.discard(worker)
        except WorkerDied as death:
            found[name] = {"status": "error", "message": str(death)}
            crew.bury(worker)
            opened.discard(worker)
        if implementation.is_foreign and worker in opened and found[name]["status"] != "ran":
            crew.bury(worker)  # what it changed in its process must not fail others
            opened.discard(worker)
    return {"group": case.group, "description": description, "rows": found}


def _yardstick_draws(case: Case) -> int:
    if case.workload.random:  # their limit is that of the distribution
        return _CHECK_DRAWS
    elements = sum(tensor.size for tensor in case.workload.results(case.pass_).values())
    return min(_YARDSTICK_DRAWS, max(_CHECK_DRAWS, _YARDSTICK_ELEMENTS // max(1, elements)))


def _check_implementation(crew: Crew, implementation: Implementation, count: int) -> dict[str, Any]:
    name, worker = implementation.name, crew.worker_of(implementation)
    prepared = crew.prepare(implementation)
    draws = [secrets.randbits(62) for _ in range(count)]
    files = [crew.referee.file() for _ in draws]
    crew.ask(worker, "check", timeout=LONG_TIMEOUT, name=name, draws=draws, files=files)
    errors: dict[str, float] = {}
    for draw, file in zip(draws, files, strict=True):
        for tensor, error in crew.referee.errors(draw, file).items():
            errors[tensor] = max(errors.get(tensor, 0.0), error) if error == error else error
    draw = secrets.randbits(62)
    crew.ask(worker, "arm", name=name, draw=draw, rounds=_CALIBRATION_ROUNDS, calls=1, warm_up=2)
    trial = crew.ask(worker, "time")
    memory = crew.ask(worker, "peak_memory", name=name)["bytes"]
    captures = implementation.compiled is not None and implementation.runtime is None
    graphs = crew.ask(worker, "graphs") if captures else {}
    if implementation.compiled == "kernel" and not any(graphs.values()):
        graphs = {}  # it compiles itself by something else
    call_seconds = min(trial["wall"])
    first_call: float = prepared["first_call_seconds"]
    # What a deployment runtime was given before its first call is part of what compiling costs.
    deployment: dict[str, float] = prepared.get("deployment", {})
    before = deployment.get("export_seconds", 0.0) + deployment.get("load_seconds", 0.0)
    return {
        "status": "ran",
        "errors": {tensor: error if math.isfinite(error) else None for tensor, error in errors.items()},
        "compile_seconds": None
        if implementation.compiled is None
        else before + max(0.0, first_call - call_seconds),
        **deployment,
        "first_call_seconds": first_call,
        "peak_memory_bytes": memory,
        "call_seconds": call_seconds,
        **{name: graphs.get(name) for name in GRAPHS},
    }


def _measure(directory: RunDirectory, progress: Progress) -> None:
    settings = directory.plan.settings
    exact = settings.blocks == settings.max_blocks
    started = time.monotonic()
    total = str(settings.blocks) if exact else f"{settings.blocks} to {settings.max_blocks}"
    for block in range(settings.max_blocks):
        over = 0 < settings.seconds < time.monotonic() - started
        if block >= settings.blocks and (over or _precise(directory)):
            break
        # Each block starts with another case, so that none is always the first of a fresh process.
        cases = directory.plan.cases
        first = block % len(cases)
        left = [case for case in cases[first:] + cases[:first] if directory.cell(block, case) is None]
        if not left:
            continue
        with Crew(directory, stage="block") as crew:
            crew.spawn(
                sorted(
                    {crew.worker_of(each) for case in left for each in results.measurable(directory, case)}
                )
            )
            crew.settle()
            for case in left:
                with progress.piece("block", f"block {block + 1} of {total}: {case.group}"):
                    directory.save_cell(block, case, _measure_case(directory, crew, case, block))
        progress.show(results.write_run_file(directory, complete=False))


def _measure_case(directory: RunDirectory, crew: Crew, case: Case, block: int) -> dict[str, Any]:
    settings, found = directory.plan.settings, directory.checked(case)
    measurable = results.measurable(directory, case)
    # The length of a leg comes from the check, so it is the same in every block.
    seconds = {each.name: found[each.name]["call_seconds"] for each in measurable}
    legs = palindromes.legs(measurable, seconds, settings.leg_seconds)
    limits = results.limits(directory, case)
    return Cell(crew, case, measurable, block=block, limits=limits).measure(legs, settings)


def _pieces_left(
    directory: RunDirectory, checks: Sequence[tuple[str, Case]], profile: Stage
) -> dict[str, Pieces]:
    plan = directory.plan
    left = {
        framework: Pieces(count=sum(name == framework for name, _ in checks), guess=_CHECK_GUESS[framework])
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
    block = Pieces(count=len(cells), guess=guess)
    started = Pieces(count=len(first_result.left(directory)), guess=first_result.GUESS)
    return {
        **left,
        "block": block,
        **({first_result.PIECE: started} if started.count else {}),
        profile.PIECE: profiles,
    }


def _precise(directory: RunDirectory) -> bool:
    """Whether every speedup's 95 % interval is narrow enough, significant or not."""
    run = results.assemble(directory, complete=False)
    run = without_first_results(run.as_asked())  # of which there are as many rounds as there are
    for benchmark in run.benchmarks:
        baseline = run.baseline_of(benchmark)
        if baseline is None or benchmark.is_baseline:
            continue
        low, high = statistics.speedup(baseline, benchmark).ci95
        if low <= 0 or math.log(high / low) / 2 > directory.plan.settings.precision:
            return False
    return True
