"""Compile implementations for a TPU that you do not have, with the real TPU compiler (libtpu).

Each target has a child process that compiles, `tpu.compiler_process`; one more lowers TensorFlow,
`tpu.tensorflow_lowering`. `tpu.results` says what the figures mean.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from fuseproof import implementations, suites
from fuseproof.cases import Case
from fuseproof.child_process import Child
from fuseproof.errors import UserError, require_known
from fuseproof.files import make_directory, write_json
from fuseproof.implementations import Implementation
from fuseproof.measure import planning, reasons
from fuseproof.measure.crew import description_of
from fuseproof.profiling.ahead_of_time.request import Request
from fuseproof.profiling.ahead_of_time.tpu.results import FAILED, OK, SKIPPED, Figures, Result
from fuseproof.profiling.ahead_of_time.tpu.targets import MESHES, TARGETS
from fuseproof.profiling.ahead_of_time.tpu.text import render_text
from fuseproof.profiling.readers import xla_schedule
from fuseproof.workloads.operators import OPERATORS, result_dtype
from fuseproof.workloads.tensor import MODULE_PASSES

TIMEOUT = 600.0  # seconds for one program

# One case of each operator and pass, small enough that all three targets compile within two minutes.
DEFAULT_CASES = tuple(
    f"{case}-bfloat16-{pass_}]"
    for case in (
        "attention[b1_h12_s1024_d64_causal",
        "matmul[1024x768x3072_bias_gelu_tanh",
        "layer_norm[1024x768_residual",
    )
    for pass_ in ("forward", "forward_backward")
)

TAKES = frozenset({"cases", "only", "extra", "workloads", "topology", "schedule", "without_fusion"})

_ENVIRONMENT = {
    # JAX must not look for a TPU here, nor libtpu for the cloud's metadata server.
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu lets one process at a time use a TPU; compiling uses none.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # Without these it complains on every start, and writes its logs to /tmp/tpu_logs.
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "",
}


def require() -> None:
    """Raises UserError, with the command to install it, if the TPU compiler is not installed."""
    for package in ("jax", "libtpu"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"compiling for a TPU needs {package}, which is not installed; pip install 'fuseproof[tpu]'"
            )


def answer(request: Request) -> list[Result]:
    """The results of `compile_all` for what the user asks for. Raises UserError."""
    table, workloads = implementations.everything(request.extra, request.workloads)
    require_known("implementation", request.only, [planning.ALL, *(each.name for each in table)])
    chosen = planning.wanted(table, request.only, usual=suites.USUAL)
    own = [group for each in workloads if request.workloads for group in planning.groups_of(each)]
    groups = request.cases or own or DEFAULT_CASES
    cases = planning.named_cases(groups, workloads, table)
    require_known("operator", request.operators, [case.workload.name for case in cases])
    return compile_all(
        request.targets,
        [case for case in cases if not request.operators or case.workload.name in request.operators],
        [each for each in table if (each.workload, each.name) in chosen],
        topology=request.topology,
        without_fusion=request.without_fusion,
        output=request.output,
        progress=request.progress,
    )


def compile_all(
    targets: Sequence[str],
    cases: Sequence[Case],
    among: Sequence[Implementation],
    *,
    topology: str = "1x1",
    without_fusion: bool = False,
    output: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """A result for each target, case and implementation of its operator, in that order.

    `without_fusion` adds the figures of the same program compiled with the compiler's fusion passes off. The
    compiler's files (HLO before and after, buffer assignment, live ranges) are kept under `output` if given.
    Raises UserError for an unknown target or topology, and if libtpu is not installed.
    """
    require_known("TPU target", targets, TARGETS)
    require_known("topology", [topology], MESHES)
    require()
    with contextlib.ExitStack() as stack:
        if output is not None:
            make_directory(output)
        directory = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuseproof-tpu-")))
        session = _Session(
            cases=cases,
            among=among,
            topology=topology,
            without_fusion=without_fusion,
            directory=directory,
            progress=progress,
        )
        session.lowering = stack.enter_context(
            Child("fuseproof.profiling.ahead_of_time.tpu.tensorflow_lowering", _ENVIRONMENT)
        )
        # XLA compiles on one core; the targets share the others.
        workers = min(len(targets), len(os.sched_getaffinity(0)))
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        futures = [pool.submit(session.compile_for, target) for target in targets]
        try:
            return [result for future in futures for result in future.result()]
        except BaseException:
            session.stopping.set()
            raise


@dataclass(kw_only=True)
class _Session:
    """What the targets of one call share: what to compile, and TensorFlow's modules, lowered once."""

    cases: Sequence[Case]
    among: Sequence[Implementation]
    topology: str
    without_fusion: bool
    directory: Path
    progress: Callable[[str], None]
    lowering: Child = field(init=False)
    lowered: dict[Path, dict[str, Any]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    stopping: Event = field(default_factory=Event)

    def compile_for(self, target: str) -> list[Result]:
        results: list[Result] = []
        with Child("fuseproof.profiling.ahead_of_time.tpu.compiler_process", _ENVIRONMENT) as compiler:
            for case in self.cases:
                for each in (each for each in self.among if each.workload == case.workload.name):
                    if self.stopping.is_set():
                        return results
                    self.progress(f"{each.name} of {case.group} for {target}")
                    results.append(self._compile(compiler, target, case, each))
        return results

    def _compile(self, compiler: Child, target: str, case: Case, implementation: Implementation) -> Result:
        answer = self._ask(compiler, target, case, implementation)
        status, reason = _outcome(answer)
        result = Result(
            target=target,
            topology=self.topology,
            chips=math.prod(MESHES[self.topology]),
            case=case.group,
            implementation=implementation.name,
            status=status,
            reason=reason,
            figures=Figures.from_json(answer["ok"]) if status == OK else None,
        )
        if status == OK:  # for `fuseproof timeline`, beside the compiler's files
            file = self._place(target, case, implementation) / xla_schedule.RESULT_FILE
            write_json(file, result.to_json(), indent=1)
        return result

    def _ask(
        self, compiler: Child, target: str, case: Case, implementation: Implementation
    ) -> dict[str, Any]:
        if (reason := _reason_to_skip(implementation, case, self.topology)) is not None:
            return {"skipped": reason}
        request: dict[str, Any] = {
            "implementation": implementation.to_json(),
            "case": case.group,
            "workload": description_of(case),
        }
        if implementation.framework == "tensorflow":
            file, answer = self._lower(request)
            if "ok" not in answer:
                return answer
            request["stablehlo"] = str(file)
        place = self._place(target, case, implementation)
        place.mkdir(parents=True, exist_ok=True)
        request |= {
            "topology": TARGETS[target].sixteen if self.topology == "4x4" else TARGETS[target].four,
            "mesh": list(MESHES[self.topology]),
            "directory": str(place),
            "without_fusion": self.without_fusion,
        }
        return compiler.ask(request, timeout=TIMEOUT)

    def _place(self, target: str, case: Case, implementation: Implementation) -> Path:
        return self.directory / f"{target}-{self.topology}" / case.group / implementation.name

    def _lower(self, request: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        name = f"{request['case']}-{request['implementation']['name']}.stablehlo"
        file = self.directory / name
        with self.lock:
            if file not in self.lowered:
                self.directory.mkdir(parents=True, exist_ok=True)
                self.lowered[file] = self.lowering.ask({**request, "file": str(file)}, timeout=TIMEOUT)
        return file, self.lowered[file]


def _compiled_twin(implementation: Implementation) -> str | None:
    """Built-in implementation that compiles to the same program, or None.

    Ahead of time an eager function and a graph are the program of their compiled twin. A user's
    implementations are always compiled: only the user knows how they differ.
    """
    if implementation not in implementations.IMPLEMENTATIONS:
        return None
    if implementation.compiled not in (None, "function"):
        return None
    same = ("workload", "framework", "target", "layout", "consumes")
    return next(
        (
            other.name
            for other in implementations.IMPLEMENTATIONS
            if other.compiled in ("jit", "xla")
            and all(getattr(other, name) == getattr(implementation, name) for name in same)
        ),
        None,
    )


def _reason_to_skip(implementation: Implementation, case: Case, topology: str) -> str | None:
    if implementation.framework == "torch":
        return "PyTorch reaches TPUs through torch_xla, which Fuseproof does not drive"
    if (reason := reasons.reason_without_framework(implementation.framework)) is not None:
        return reason
    if (twin := _compiled_twin(implementation)) is not None:
        return f"ahead of time this is the program of {twin}"
    if case.pass_ in MODULE_PASSES:
        return "a module: compile a function over its parameters"
    if topology != "1x1" and case.workload.name not in OPERATORS:
        return "nobody has said how a workload of yours is split over several chips; --topology 1x1"
    if case.pass_ not in implementation.passes:
        return f"has no {case.pass_} pass"
    if case.dtype != result_dtype(case.dtype):
        return f"{case.dtype} is for NVIDIA's tensor cores"
    if implementation.framework == "tensorflow" and topology != "1x1":
        return "TensorFlow's StableHLO does not say how tensors are sharded; one chip only"
    return None


def _outcome(answer: Mapping[str, Any]) -> tuple[str, str | None]:
    """Status and reason."""
    if "ok" in answer:
        return OK, None
    if "skipped" in answer:
        return SKIPPED, answer["skipped"]
    if "libtpu_lockfile" in answer["error"]:
        return FAILED, "another process is using libtpu; wait until it ends, or remove /tmp/libtpu_lockfile"
    return FAILED, answer["error"]


def render(results: Sequence[Result], request: Request) -> str:
    """What `fuseproof compile` prints of the results of `answer`."""
    return render_text(results, schedule=request.schedule)
