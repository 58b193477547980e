"""The workers of one stage of a run, one for each framework: started when needed, replaced when they die."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerProcess, WorkerSkip
from fuseproof.runs import environment
from fuseproof.runs.directory import RunDirectory

# A cold compilation of one small operator takes seconds; autotuning and large references take minutes.
LONG_TIMEOUT = 900.0
SHORT_TIMEOUT = 300.0


class Crew:
    """At most one living worker for each framework. Methods raise what WorkerProcess raises."""

    def __init__(self, directory: RunDirectory, *, stage: str) -> None:
        self._directory = directory
        self._stage = stage
        self._workers: dict[str, WorkerProcess] = {}
        self._warm: set[str] = set()  # frameworks whose compiler was used before
        self.descriptions: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        for framework in list(self._workers):
            self.bury(framework)

    def spawn(self, frameworks: Iterable[str]) -> None:
        """Start workers without waiting for them, so that they load their frameworks together."""
        settings = self._directory.plan.settings
        for framework in frameworks:
            self._workers[framework] = WorkerProcess(
                framework,
                device=settings.device,
                threads=settings.threads,
                cpus=environment.usable_cpus()[: settings.threads],
                environment=worker_environment(
                    device=settings.device,
                    threads=settings.threads,
                    caches=self._directory.caches,
                    cold=self._stage == "check",
                ),
                log=self._directory.log(f"{self._stage}-{framework}"),
            )

    def get(self, framework: str) -> WorkerProcess:
        """The living worker, ready. One that does not get ready is buried; the next call starts another."""
        if framework not in self._workers:
            self.spawn([framework])
        if framework not in self.descriptions:
            try:
                self.descriptions[framework] = self._workers[framework].wait_ready()
            except (WorkerDied, WorkerError, WorkerSkip):
                self.bury(framework)
                raise
        return self._workers[framework]

    def ask(
        self, framework: str, do: str, *, timeout: float = SHORT_TIMEOUT, **arguments: Any
    ) -> dict[str, Any]:
        """The answer of the living worker to a request; a worker that dies of it is buried."""
        try:
            return self._workers[framework].ask(do, timeout=timeout, **arguments)
        except WorkerDied:
            self.bury(framework)
            raise

    def open_case(self, framework: str, case: Case) -> None:
        self.ask(
            framework,
            "open_case",
            group=case.group,
            seed=self._directory.plan.settings.seed,
            last_level_cache=self._directory.environment["cpu"]["last_level_cache_bytes"],
        )

    def prepare(self, implementation: Implementation) -> dict[str, Any]:
        """Compile it for the open case, after a first use of the compiler, which is not timed."""
        framework = implementation.framework
        if implementation.compiled is not None and framework not in self._warm:
            self.ask(framework, "warm_up_compiler", timeout=LONG_TIMEOUT)
            self._warm.add(framework)
        return self.ask(framework, "prepare", timeout=LONG_TIMEOUT, implementation=implementation.to_json())

    def bury(self, framework: str) -> None:
        """End the worker; the next `get` of the framework starts a successor."""
        self.descriptions.pop(framework, None)
        self._warm.discard(framework)
        worker = self._workers.pop(framework, None)
        if worker is not None:
            worker.close()


def worker_environment(*, device: str, threads: int, caches: Path, cold: bool) -> dict[str, str]:
    """Environment variables of a worker: the same threads for every library, compilers' caches in the run."""
    count = str(threads)
    variables = {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torchinductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "FUSEPROOF_TUNING_CACHE": str(caches / "fuseproof"),  # the configs that Triton kernels were tuned to
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
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
