"""`fuseproof fusion`: what compilers made of implementations, each framework in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fuseproof import implementations
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.files import make_directory, write_json
from fuseproof.fusion import account
from fuseproof.fusion.account import Account, Pair
from fuseproof.fusion.programs.operations import Operation
from fuseproof.implementations import Implementation
from fuseproof.measure import planning, results
from fuseproof.measure.crew import LONG_TIMEOUT, SHORT_TIMEOUT, worker_environment
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerProcess, WorkerSkip
from fuseproof.profiling import capture
from fuseproof.runs import environment
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Settings
from fuseproof.runs.records import NULL_SUFFIX

DEFAULT_ROOT = Path(".fuseproof/fusion")
_PROFILE = capture.Options(calls=3, memory=False, samples=False, energy_seconds=0.0)
_MODULE = "fuseproof.fusion.account.worker"

# One case with the implementations to account for.
_Work = tuple[Case, tuple[Implementation, ...]]


def run(
    groups: Sequence[str],
    *,
    of_run: Path | None = None,
    only: Sequence[str] = (),
    extra: Sequence[str] = (),
    device: str = "cpu",
    threads: int | None = None,
    output: Path | None = None,
    as_json: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[str, int]:
    """The text to print and the exit code: 0, or 1 if an implementation failed. Raises UserError.

    groups: cases by name. of_run: a run directory, whose cases (of them `groups`), implementations and
    settings are taken, and where the account is kept for its report. extra: further rows, as in
    `implementations.table`.
    """
    if of_run is None:
        if not groups:
            raise UserError("name a case, such as layer_norm[512x768-float32-forward], or a run with --run")
        settings = Settings(device=device, threads=threads or len(environment.usable_cpus()))
        table = implementations.table(extra)
        work = [_work(Case.from_group(group), table, only) for group in dict.fromkeys(groups)]
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = output or DEFAULT_ROOT / stamp
        make_directory(folder)
        accounts = _make(work, table, settings, folder, progress)
    else:
        directory = _open(of_run)
        if extra or output:
            raise UserError("--run takes its implementations from the run and keeps the account there")
        settings, folder = directory.plan.settings, directory.path
        directory.refuse_another_machine(
            "accounted for here"
        )  # what is compiled now must be what was measured
        with directory.locked():  # or it would disturb what is being timed
            work = _work_of_run(directory, groups, only)
            accounts = _make(work, directory.plan.implementations, settings, folder, progress)
    if as_json:
        text = json.dumps(_document(accounts, settings), indent=1, allow_nan=False) + "\n"
    else:
        text = account.render_text(accounts) + f"\naccount: {folder / account.FILE}\n"
        if of_run is not None:
            text += f"report: fuseproof report {folder}\n"
    return text, 1 if any(each.status == "failed" for each in accounts) else 0


def _open(path: Path) -> RunDirectory:
    if not (path / "plan.json").is_file():
        raise UserError(f"{path} is not a run directory: it holds no plan.json")
    try:
        return RunDirectory(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path / 'plan.json'} is damaged ({error}); start a new run") from None


def _work(case: Case, table: Sequence[Implementation], only: Sequence[str]) -> _Work:
    rows = [row for row in table if row.operator == case.operator.name]
    compiled = tuple(row for row in rows if row.compiled is not None)
    for name in only:
        if name not in {row.name for row in rows}:
            known = ", ".join(row.name for row in compiled)
            raise UserError(f"unknown implementation {name!r} of {case.operator.name}; there are {known}")
        if name not in {row.name for row in compiled}:
            known = ", ".join(row.name for row in compiled)
            raise UserError(f"{name} of {case.operator.name} is not compiled: nothing is fused; try {known}")
    return case, tuple(row for row in compiled if not only or row.name in only)


def _work_of_run(directory: RunDirectory, groups: Sequence[str], only: Sequence[str]) -> list[_Work]:
    """What the run measured: no twins, and nothing that its check found wrong."""
    cases = {case.group: case for case in directory.plan.cases}
    for group in groups:
        if group not in cases:
            raise UserError(f"the run has no case {group!r}; it has {', '.join(cases)}")
    rows = [row for row in directory.plan.implementations if not row.name.endswith(NULL_SUFFIX)]
    work = []
    for case in cases.values():
        if not groups or case.group in groups:
            _, chosen = _work(case, rows, only)
            sound = results.measurable(directory, case)
            work.append((case, tuple(row for row in chosen if row in sound)))
    if not any(chosen for _, chosen in work):
        raise UserError(f"{directory.path} has measured nothing compiled of these; finish it with --resume")
    return work


def _make(
    work: Sequence[_Work],
    table: Sequence[Implementation],
    settings: Settings,
    folder: Path,
    progress: Callable[[str], None],
) -> list[Account]:
    """Every account of the work, in its order; `fusion.json` is written after each framework."""
    found: dict[tuple[str, str], Account] = {}
    order = [(case.group, row.name) for case, rows in work for row in rows]
    for framework in dict.fromkeys(row.framework for _, rows in work for row in rows):
        mine = [(case, tuple(r for r in rows if r.framework == framework)) for case, rows in work]
        for each in _of_framework(framework, mine, table, settings, folder, progress):
            found[each.case, each.implementation] = each
        finished = [found[key] for key in order if key in found]
        write_json(folder / account.FILE, _document(finished, settings), indent=1)
    return [found[key] for key in order]


def _document(accounts: Sequence[Account], settings: Settings) -> dict[str, Any]:
    cpu = environment.cpu()
    machine = {
        "device": settings.device,
        "threads": settings.threads,
        "cpu": cpu["model"],
        "cores": cpu["cores"],
        "gpu": [gpu["name"] for gpu in environment.gpus()] if settings.device != "cpu" else [],
        "packages": environment.package_versions(),
    }
    return account.document(accounts, machine)


def _of_framework(
    framework: str,
    work: Sequence[_Work],
    table: Sequence[Implementation],
    settings: Settings,
    folder: Path,
    progress: Callable[[str], None],
) -> Iterator[Account]:
    with tempfile.TemporaryDirectory(prefix="fuseproof-fusion-") as temporary:
        session = _Session(framework, settings, folder, Path(temporary))
        try:
            for case, rows in work:
                for row in rows:
                    progress(f"{row.name} of {case.group}")
                    yield session.account(case, row, _eager(row, table))
        finally:
            session.close()


class _Session:
    """One worker at a time; a new one takes the place of one that died."""

    def __init__(self, framework: str, settings: Settings, folder: Path, temporary: Path) -> None:
        self._framework, self._settings = framework, settings
        self._folder, self._temporary = folder, temporary
        self._worker: WorkerProcess | None = None
        self._description: dict[str, Any] = {}
        self._case: Case | None = None
        self._counts: dict[tuple[Case, str], int] = {}  # kernels, by implementation

    def account(self, case: Case, row: Implementation, eager: Implementation) -> Account:
        place = Path("fusion") / _file_name(case.group) / _file_name(row.name)
        bare = Account(
            case=case.group,
            implementation=row.name,
            framework=row.framework,
            compared_with=eager.name,
        )
        if (reason := planning.reason_to_skip(row, case, self._settings.device)) is not None:
            return dataclasses.replace(bare, status="skipped", reason=reason)
        try:
            answer = self._ask(case, row, eager, place)
            unknown: dict[str, str] = answer["unknown"]
            kernels = Pair(
                eager=self._kernels_of_eager(case, eager, unknown),
                compiled=self._kernels(case, row, "kernels_compiled", unknown),
            )
        except WorkerSkip as skip:
            return dataclasses.replace(bare, status="skipped", reason=str(skip))
        except (WorkerError, UserError) as error:
            return dataclasses.replace(bare, status="failed", reason=str(error))
        except WorkerDied as death:
            self.close()
            return dataclasses.replace(bare, status="failed", reason=str(death))
        return dataclasses.replace(
            bare,
            kernels=kernels,
            peak_memory_bytes=Pair(**answer["peak_memory_bytes"]),
            before=_operations(answer["before"]),
            after=_operations(answer["after"]),
            artifacts={label: str(place / name) for label, name in answer["artifacts"].items()},
            unknown=unknown,
        )

    def _ask(self, case: Case, row: Implementation, eager: Implementation, place: Path) -> dict[str, Any]:
        if self._worker is None:
            self._worker = self._start()
            try:
                self._description = self._worker.wait_ready()
            except (WorkerDied, WorkerError, WorkerSkip):
                self.close()
                raise
        if case != self._case:
            self._case = None
            self._worker.ask(
                "open_case",
                timeout=SHORT_TIMEOUT,
                group=dataclasses.replace(case, cache="warm").group,  # one set of inputs is enough
                seed=self._settings.seed,
                last_level_cache=1,
            )
            self._case = case
        return self._worker.ask(
            "account",
            timeout=LONG_TIMEOUT,
            implementation=row.to_json(),
            eager=eager.to_json(),
            folder=str((self._folder / place).resolve()),
        )

    def _kernels_of_eager(self, case: Case, eager: Implementation, unknown: dict[str, str]) -> int | None:
        """As `_kernels`. What cannot be profiled costs this figure alone: some functions compile at every
        call when they are not compiled as a whole, JAX's loops over a function defined inside them for one.
        """
        try:
            return self._kernels(case, eager, "kernels_eager", unknown)
        except WorkerError as error:
            unknown["kernels_eager"] = str(error)
            return None

    def _kernels(self, case: Case, row: Implementation, figure: str, unknown: dict[str, str]) -> int | None:
        """Kernels of one call of a prepared implementation, by the framework's profiler."""
        assert self._worker is not None  # it has just answered
        if (case, row.name) in self._counts:
            return self._counts[case, row.name]
        with tempfile.TemporaryDirectory(dir=self._temporary) as folder:
            record = capture.profile_prepared(
                self._worker.ask,
                row,
                group=case.group,
                device=self._settings.device,
                description=self._description,
                folder=Path(folder),
                options=_PROFILE,
            )
        if record.kernels_per_call is None:
            unknown[figure] = "; ".join(record.warnings) or "the profiler does not tell"
            return None
        self._counts[case, row.name] = record.kernels_per_call
        return record.kernels_per_call

    def _start(self) -> WorkerProcess:
        device, threads = self._settings.device, self._settings.threads
        caches = self._temporary / "caches"
        variables = worker_environment(device=device, threads=threads, caches=caches, cold=False)
        variables |= {
            # Without it Inductor's C++ kernels do not show in the profiler.
            "TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE": "1",
            "FUSEPROOF_CACHES": str(caches),
        }
        if device == "cuda":
            # XLA writes its PTX among what it dumps.
            given = os.environ.get("XLA_FLAGS", "")
            variables["XLA_FLAGS"] = f"{given} --xla_dump_to={caches / 'xla'}".strip()
        return WorkerProcess(
            self._framework,
            device=device,
            threads=threads,
            cpus=environment.usable_cpus()[:threads],
            environment=variables,
            log=self._folder / "logs" / f"fusion-{self._framework}.log",
            module=_MODULE,
        )

    def close(self) -> None:
        worker, self._worker, self._case = self._worker, None, None
        if worker is not None:
            worker.close()


def _eager(row: Implementation, table: Sequence[Implementation]) -> Implementation:
    """What a compiled implementation is compared with: the same function, not compiled.

    A hand-written kernel compiles itself; its baseline stands in.
    """
    if row.compiled == "kernel":
        return next(r for r in table if (r.operator, r.name) == (row.operator, row.baseline))
    twin = dataclasses.replace(row, compiled=None, name=f"{row.name} (not compiled)")
    same = ("operator", "framework", "target", "layout", "compiled")
    return next(
        (r for r in table if all(getattr(r, name) == getattr(twin, name) for name in same)),
        twin,
    )


def _operations(found: Sequence[dict[str, Any]] | None) -> tuple[Operation, ...] | None:
    return None if found is None else tuple(Operation.from_json(each) for each in found)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.\-\[\]]", "_", name)
