"""The workers of one stage of a run, and their referee: started when needed, replaced when they die.

The implementations that come with Fuseproof share a worker for each framework, and those of a deployment
runtime that has threads of its own share one for it. One from outside has a worker of its own. Such workers
stand still while others are timed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import contention
from fuseproof.measure.contention import Account
from fuseproof.measure.evidence import Ceilings
from fuseproof.measure.process_state import Scheduling, scheduling
from fuseproof.measure.referee_process import RefereeProcess
from fuseproof.measure.worker_process import (
    WorkerCheated,
    WorkerDied,
    WorkerError,
    WorkerProcess,
    WorkerSkip,
)
from fuseproof.runs import environment
from fuseproof.runs.directory import RunDirectory
from fuseproof.workloads.described import Described

# A cold compilation of one small operator takes seconds; autotuning and large references take minutes.
LONG_TIMEOUT = 900.0
SHORT_TIMEOUT = 300.0


class Crew:
    """At most one living worker of each name. Methods raise what WorkerProcess raises.

    The name of a worker is that of its framework, for one implementation alone followed by a colon and its
    name.
    """

    def __init__(self, directory: RunDirectory, *, stage: str) -> None:
        self._directory = directory
        self._stage = stage
        self._workers: dict[str, WorkerProcess] = {}
        self._warm: set[str] = set()  # workers whose compiler was used before
        self._others = contention.Others()
        self._ceilings: dict[str, Ceilings] = {}  # by dtype
        # Process and how it is scheduled, by worker; the runner under no name.
        self._scheduled: dict[str, tuple[int, Scheduling]] = {}
        self._note_scheduling("", os.getpid())
        self.descriptions: dict[str, dict[str, Any]] = {}
        self.referee = RefereeProcess()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in list(self._workers):
            self.bury(worker)
        self.referee.close()

    def worker_of(self, implementation: Implementation) -> str:
        """The name of the worker that runs it."""
        if implementation.is_foreign and not self._directory.plan.settings.share_process:
            return f"{implementation.framework}:{implementation.workload} {implementation.name}"
        if implementation.runtime is not None and implementation.runtime.apart:
            return f"{implementation.framework}:{implementation.compiled}"
        return implementation.framework

    def spawn(self, workers: Iterable[str]) -> None:
        """Start workers without waiting for them, so that they load their frameworks together."""
        settings = self._directory.plan.settings
        for worker in workers:
            name = re.sub(r"[^A-Za-z0-9.+-]", "_", worker)
            caches = self._directory.caches
            self._workers[worker] = WorkerProcess(
                framework_of(worker),
                device=settings.device,
                threads=settings.threads,
                cpus=environment.usable_cpus()[: settings.threads],
                environment=worker_environment(
                    device=settings.device,
                    threads=settings.threads,
                    caches=caches / name if is_alone(worker) else caches,
                    cold=self._stage == "check",
                ),
                log=self._directory.log(f"{self._stage}-{name}"),
            )

    def settle(self) -> None:
        """Wait until all that were spawned have loaded their framework: that would disturb a timing.

        One that cannot is buried, and fails again where it is needed.
        """
        for worker in list(self._workers):
            with contextlib.suppress(WorkerDied, WorkerError, WorkerSkip), self.awake(worker):
                self.get(worker)

    def get(self, worker: str) -> WorkerProcess:
        """The living worker, ready. One that does not get ready is buried; the next call starts another."""
        if worker not in self._workers:
            self.spawn([worker])
        if worker not in self.descriptions:
            try:
                self.descriptions[worker] = self._workers[worker].wait_ready()
                self._note_scheduling(worker, self._workers[worker].pid)
            except (WorkerDied, WorkerError, WorkerSkip):
                self.bury(worker)
                raise
        return self._workers[worker]

    def ask(
        self, worker: str, do: str, *, timeout: float = SHORT_TIMEOUT, **arguments: Any
    ) -> dict[str, Any]:
        """The answer of the living worker to a request; a worker that dies of it is buried."""
        try:
            return self._workers[worker].ask(do, timeout=timeout, **arguments)
        except (WorkerDied, WorkerCheated):
            self.bury(worker)
            raise

    def account(self, worker: str) -> Account:
        """What the kernel says of a worker's and the runner's waiting until now."""
        return Account.of(self._workers[worker].pid)

    def waited(self, worker: str, since: Account, seconds: float) -> float:
        """Seconds since then, `seconds` ago, in which others had the CPU that the two waited for."""
        process = self._workers[worker]
        now = Account.of(process.pid)
        if contention.is_worth_a_look(since, now):
            now = Account.of(process.pid, process.descendants())
        self._others.note(since, now, seconds)
        if not self._others.are_there:
            return 0.0
        return contention.waited(since, now, seconds, self._directory.plan.settings.threads)

    @contextlib.contextmanager
    def awake(self, worker: str) -> Iterator[None]:
        """Within, the worker may run; afterwards it stands still, if code from outside is loaded in it.

        Raises WorkerCheated if it has said something that nobody asked for.
        """
        try:
            yield
        except BaseException:
            with contextlib.suppress(WorkerCheated):
                self._stop(worker)
            raise
        self._stop(worker)

    def _stop(self, worker: str) -> None:
        if not is_alone(worker) or worker not in self._workers:
            return
        try:
            self._workers[worker].strays()  # finds what it has started, to be stopped with it
        except WorkerCheated:
            self.bury(worker)
            raise
        self._workers[worker].pause()

    def mend(self) -> None:
        """Set right what someone did to the folder of the run before code from outside runs again."""
        if self._directory.disturbed():
            self._directory.restore()

    def compare(self, worker: str) -> None:
        """Raise WorkerError if code from outside in the worker changed its process, or `refuse_harm` does."""
        if self.ask(worker, "compare_state").get("compared", 0) < 1:
            raise WorkerError("its process compared nothing with how it was before")
        self.refuse_harm(worker)

    def refuse_harm(self, worker: str) -> None:
        """Raise WorkerError if code in the worker has changed what is not its own: files of the run, or how
        another worker or the runner is scheduled. What can be is set back.
        """
        if not is_alone(worker):
            return
        if disturbed := self._directory.disturbed():
            self._directory.restore()
            raise WorkerError(f"changed files of the run: {', '.join(disturbed[:3])}")
        harmed = []
        if stopped := [name for name, each in self._workers.items() if name != worker and each.release()]:
            raise WorkerError(f"stopped the process of {', '.join(stopped)}")
        for name, (process, before) in self._scheduled.items():
            if name != worker and (now := scheduling(process)) not in (before, None):
                harmed.append(name or "the runner")
                _reschedule(process, before)
                if scheduling(process) != before:
                    self._scheduled[name] = (process, now)
        if harmed:
            raise WorkerError(f"changed the CPU affinity or the priority of {', '.join(harmed)}")

    def open_case(self, worker: str, case: Case, seed: int) -> None:
        """`seed`: of the case's `Values`; the referee needs the same."""
        self.ask(
            worker,
            "open_case",
            group=case.group,
            seed=seed,
            workload=description_of(case),
            last_level_cache=self._directory.environment["cpu"]["last_level_cache_bytes"],
        )

    def prepare(self, implementation: Implementation) -> dict[str, Any]:
        """Compile it for the open case, after a first use of the compiler, which is not timed."""
        worker = self.worker_of(implementation)
        apart = implementation.runtime is not None and implementation.runtime.apart
        if implementation.compiled is not None and not apart and worker not in self._warm:
            self.ask(worker, "warm_up_compiler", timeout=LONG_TIMEOUT)
            self._warm.add(worker)
        beside = [
            each.target
            for each in self._directory.plan.implementations
            if (each.workload, each.name) == (implementation.workload, implementation.yardstick)
            and not each.is_foreign
        ]
        return self.ask(
            worker,
            "prepare",
            timeout=LONG_TIMEOUT,
            implementation=implementation.to_json(),
            beside=beside[0] if beside else "",
        )

    def ceilings(self, dtype: str, *, again: bool = False) -> Ceilings:
        """The best that the living workers without code from outside reached with copies and products.

        again: have them try once more.
        """
        if again or dtype not in self._ceilings:
            best = self._ceilings.get(dtype, Ceilings())
            for worker in [name for name in self._workers if not is_alone(name)]:
                with contextlib.suppress(WorkerDied, WorkerError, WorkerSkip):
                    best = best.or_more(Ceilings(**self.ask(worker, "ceilings", dtype=dtype)))
            if best == Ceilings():  # no such worker is alive now
                return best
            self._ceilings[dtype] = best
        return self._ceilings[dtype]

    def _note_scheduling(self, worker: str, process: int) -> None:
        if (found := scheduling(process)) is not None:
            self._scheduled[worker] = process, found

    def bury(self, worker: str) -> None:
        """End the worker; the next `get` of it starts a successor."""
        self.descriptions.pop(worker, None)
        self._scheduled.pop(worker, None)
        self._warm.discard(worker)
        process = self._workers.pop(worker, None)
        if process is not None:
            process.close()


def _reschedule(process: int, to: Scheduling) -> None:
    """Set back what others changed, as far as the system allows."""
    with contextlib.suppress(OSError):
        for thread in map(int, os.listdir(f"/proc/{process}/task")):  # noqa: PTH208
            os.sched_setaffinity(thread, to[0] if thread == process else to[1])
            os.sched_setscheduler(thread, to[3], os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, thread, to[2])


def description_of(case: Case) -> dict[str, Any] | None:
    """What a process needs beside the case's name to open it: the description of a workload from outside."""
    return case.workload.to_json() if isinstance(case.workload, Described) else None


def is_alone(worker: str) -> bool:
    """Whether the worker runs one implementation from outside, or one runtime, and stands still meanwhile."""
    return ":" in worker


def framework_of(worker: str) -> str:
    """The framework that a worker loads."""
    return worker.partition(":")[0]


def worker_environment(*, device: str, threads: int, caches: Path, cold: bool) -> dict[str, str]:
    """Environment variables of a worker: the same threads for every library, compilers' caches in the run."""
    count = str(threads)
    variables = {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torchinductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "FUSEPROOF_TUNING_CACHE": str(caches / "fuseproof"),  # the configs that Triton kernels were tuned to
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Two frameworks share the device, so neither may take all its memory at the start.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        # Devices in NVML's order, so that the board that is sampled is the one that computes.
        "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        "JAX_PLATFORMS": device,
    }
    if device != "cuda":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    if not cold:
        # Everything is compiled already: idle compile processes would only disturb the timing.
        variables["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return variables
