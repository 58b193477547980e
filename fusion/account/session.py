"""Making accounts: each framework compiles in its own process, which also reads the programs.

Kernels are counted by the caller (`CountKernels`): counting needs a profiler, which is above this package.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.fusion import account
from fuseproof.fusion.account import Account, Pair
from fuseproof.fusion.account.selection import Work
from fuseproof.fusion.programs.operations import Operation
from fuseproof.implementations import Implementation
from fuseproof.measure import reasons
from fuseproof.measure.crew import LONG_TIMEOUT, SHORT_TIMEOUT, description_of, worker_environment
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerProcess, WorkerSkip
from fuseproof.runs import environment
from fuseproof.runs.plan import Settings

_MODULE = "fuseproof.fusion.account.worker"


class CountKernels(Protocol):
    """Counts the kernels of one call of an implementation that a worker has prepared.

    ask:         the worker's, as `WorkerProcess.ask`.
    description: what the worker said of itself.
    folder:      an empty one, for traces.

    Gives the count, or None and the reason. Raises WorkerError where a profiled call fails.
    """

    def __call__(
        self,
        ask: Callable[..., dict[str, Any]],
        implementation: Implementation,
        *,
        group: str,
        device: str,
        description: dict[str, Any],
        folder: Path,
    ) -> tuple[int | None, str]: ...


def make(
    work: Sequence[Work],
    table: Sequence[Implementation],
    settings: Settings,
    folder: Path,
    *,
    count_kernels: CountKernels,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Account]:
    """Every account of the work, in its order. `fusion.json` in `folder` is written after each framework.

    table: all implementations, among which the eager counterparts are looked up.
    """
    found: dict[tuple[str, str], Account] = {}
    order = [(each.case.group, one.name) for each in work for one in each.implementations]
    for framework in dict.fromkeys(one.framework for each in work for one in each.implementations):
        with tempfile.TemporaryDirectory(prefix="fuseproof-fusion-") as temporary:
            session = _Session(framework, settings, folder, Path(temporary), count_kernels)
            for made in _of_framework(session, framework, work, table, progress):
                found[made.case, made.implementation] = made
        finished = [found[key] for key in order if key in found]
        write_json(folder / account.FILE, document(finished, settings), indent=1)
    return [found[key] for key in order]


def document(accounts: Sequence[Account], settings: Settings) -> dict[str, Any]:
    """What `fusion.json` holds, with the machine that the accounts were made on."""
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
    session: _Session,
    framework: str,
    work: Sequence[Work],
    table: Sequence[Implementation],
    progress: Callable[[str], None],
) -> Iterator[Account]:
    try:
        for each in work:
            for implementation in each.implementations:
                if implementation.framework == framework:
                    progress(f"{implementation.name} of {each.case.group}")
                    yield session.account(each.case, implementation, _eager(implementation, table))
    finally:
        session.close()


class _Session:
    """The worker of one framework; a new one takes the place of one that died."""

    def __init__(
        self, framework: str, settings: Settings, folder: Path, temporary: Path, count_kernels: CountKernels
    ) -> None:
        self._framework, self._settings = framework, settings
        self._folder, self._temporary = folder, temporary
        self._count_kernels = count_kernels
        self._worker: WorkerProcess | None = None
        self._description: dict[str, Any] = {}
        self._case: Case | None = None
        self._counts: dict[tuple[Case, str], int] = {}  # kernels, by implementation

    def account(self, case: Case, implementation: Implementation, eager: Implementation) -> Account:
        place = Path("fusion") / _file_name(case.group) / _file_name(implementation.name)
        bare = Account(
            case=case.group,
            implementation=implementation.name,
            framework=implementation.framework,
            compared_with=eager.name,
        )
        if (reason := reasons.reason_to_skip(implementation, case, self._settings.device)) is not None:
            return dataclasses.replace(bare, status="skipped", reason=reason)
        try:
            answer = self._ask(case, implementation, eager, place)
            unknown: dict[str, str] = answer["unknown"]
            kernels = Pair(
                eager=self._kernels_of_eager(case, eager, unknown),
                compiled=self._kernels(case, implementation, "kernels_compiled", unknown),
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

    def _ask(
        self, case: Case, implementation: Implementation, eager: Implementation, place: Path
    ) -> dict[str, Any]:
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
                workload=description_of(case),
                last_level_cache=1,
            )
            self._case = case
        return self._worker.ask(
            "account",
            timeout=LONG_TIMEOUT,
            implementation=implementation.to_json(),
            eager=eager.to_json(),
            folder=str((self._folder / place).resolve()),
        )

    def _kernels_of_eager(self, case: Case, eager: Implementation, unknown: dict[str, str]) -> int | None:
        """As `_kernels`, but an error of the profiled call leaves only this figure unknown.

        Some functions compile at every call when they are not compiled as a whole, such as JAX's loops over a
        function that is defined inside them.
        """
        try:
            return self._kernels(case, eager, "kernels_eager", unknown)
        except WorkerError as error:
            unknown["kernels_eager"] = str(error)
            return None

    def _kernels(
        self, case: Case, implementation: Implementation, figure: str, unknown: dict[str, str]
    ) -> int | None:
        """Kernels of one call of a prepared implementation; if None, the reason is in `unknown[figure]`."""
        assert self._worker is not None  # it has just answered
        key = case, implementation.name
        if key in self._counts:
            return self._counts[key]
        with tempfile.TemporaryDirectory(dir=self._temporary) as folder:
            count, reason = self._count_kernels(
                self._worker.ask,
                implementation,
                group=case.group,
                device=self._settings.device,
                description=self._description,
                folder=Path(folder),
            )
        if count is None:
            unknown[figure] = reason
        else:
            self._counts[key] = count
        return count

    def _start(self) -> WorkerProcess:
        device, threads = self._settings.device, self._settings.threads
        caches = self._temporary / "caches"
        variables = worker_environment(device=device, threads=threads, caches=caches, cold=False)
        variables |= {
            # Without it Inductor's C++ kernels do not show in the profiler.
            "TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE": "1",
            "FUSEPROOF_COMPILER_OUTPUT": str(caches),
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


def _eager(implementation: Implementation, table: Sequence[Implementation]) -> Implementation:
    """What a compiled implementation is compared with: the same function, not compiled.

    A hand-written kernel has no such function; it is compared with its baseline.
    """
    if implementation.compiled == "kernel":
        baseline = (implementation.workload, implementation.baseline)
        return next(each for each in table if (each.workload, each.name) == baseline)
    twin = dataclasses.replace(implementation, compiled=None, name=f"{implementation.name} (not compiled)")
    same = ("workload", "framework", "target", "layout", "compiled")
    return next(
        (each for each in table if all(getattr(each, name) == getattr(twin, name) for name in same)),
        twin,
    )


def _operations(found: Sequence[dict[str, Any]] | None) -> tuple[Operation, ...] | None:
    return None if found is None else tuple(Operation.from_json(each) for each in found)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.\-\[\]]", "_", name)
