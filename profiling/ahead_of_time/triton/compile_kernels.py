"""Compile Triton kernels for GPUs that you do not have; the hand-written ones are compared with their budget.

Triton's own compiler and NVIDIA's assembler compile every launch in the kernels' `compile_list` modules, or
every launch that a user's function makes (`recorded_launches`):
registers, spills and shared memory are those of the real machine code, occupancy is arithmetic on them
(`occupancy`), instructions are counted in the machine code, a loop's body once. None of it is a
measurement of speed.

Child processes, `compiler_process`, compile: one for each core.
"""

from __future__ import annotations

import importlib.util
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeVar

from fuseproof import implementations
from fuseproof.child_process import Child
from fuseproof.errors import UserError, require_known
from fuseproof.files import make_directory
from fuseproof.implementations import Implementation
from fuseproof.measure import planning
from fuseproof.measure.crew import description_of
from fuseproof.profiling.ahead_of_time.request import Request
from fuseproof.profiling.ahead_of_time.triton import comparison
from fuseproof.profiling.ahead_of_time.triton.occupancy import MULTIPROCESSORS, WARP, occupancy
from fuseproof.profiling.ahead_of_time.triton.results import FAILED, OK, SKIPPED, Result, Usage
from fuseproof.profiling.ahead_of_time.triton.text import render_text
from fuseproof.runs.plan import Settings
from fuseproof.workloads.operators import OPERATORS

T = TypeVar("T")

TIMEOUT = 300.0  # seconds for one launch
_LONGEST_NAME = 150

# The function that lists the launches of each operator's kernels, as `module:function`. The modules are named
# and not imported: they import PyTorch, which only the compiling processes do.
COMPILE_LISTS: Mapping[str, str] = {
    "attention": "fuseproof.kernels.triton.ops.attention.compile_list:launches",
    "matmul": "fuseproof.kernels.triton.ops.matmul.compile_list:launches",
    "layer_norm": "fuseproof.kernels.triton.ops.norms.compile_list:layer_norm_launches",
    "rms_norm": "fuseproof.kernels.triton.ops.norms.compile_list:rms_norm_launches",
    "cross_entropy": "fuseproof.kernels.triton.ops.cross_entropy.compile_list:launches",
    "rotary": "fuseproof.kernels.triton.ops.rotary.compile_list:launches",
    "softmax": "fuseproof.kernels.triton.ops.softmax.compile_list:launches",
    "swiglu": "fuseproof.kernels.triton.ops.swiglu.compile_list:launches",
}

TARGETS: Mapping[str, int] = {f"sm_{capability}": capability for capability in MULTIPROCESSORS}
TAKES = frozenset({"dtypes", "launches", "update_budget", "quiet", "cases", "only", "extra", "workloads"})

_ENVIRONMENT = {
    "TRITON_INTERPRET": "0",  # an interpreted kernel has no registers
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One launch to compile for one target.

    of: the implementation and the case that launch it, as plain data; None for a hand-written kernel.
    """

    operator: str
    dtype: str
    label: str
    target: str
    of: Mapping[str, Any] | None = None


def operators() -> list[str]:
    """The operators that have a hand-written kernel."""
    return [name for name in OPERATORS if name in COMPILE_LISTS]


def answer(request: Request) -> list[Result]:
    """A result for each target and launch, in that order.

    With `update_budget` the budget file is rewritten for what was compiled; nothing is then over budget.
    Raises UserError for bad input and where Triton is not installed.
    """
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"compiling Triton kernels needs {package}, which is not installed; "
                "pip install 'fuseproof[gpu]'"
            )
    own = not (request.workloads or request.extra)
    if own and (request.cases or request.only):
        raise UserError(
            "--case and --only choose among your own kernels: add --workloads or --implementations"
        )
    if not own and request.update_budget:
        raise UserError("--update-budget is for the project's own kernels; leave it out for yours")
    if own:
        require_known("operator", request.operators, operators())
    if request.output is not None:
        make_directory(request.output)
    with _Compilers() as compilers:
        asked = _questions(request) if own else _users_questions(request)
        jobs, version, results = _list(compilers, request, asked)
        if not jobs and not results:
            raise UserError(
                "nothing to compile: no launch matches; run without --dtype and --launch to see all"
                if own or asked
                else "nothing to compile: none is a function of PyTorch that could launch a Triton kernel"
            )
        results += compilers.map(lambda child, job: _compile(child, job, request), jobs, request.progress)
    order = {target: index for index, target in enumerate(request.targets)}
    results = [replace(result, triton=version) for result in results]
    results.sort(key=lambda result: order[result.target])
    if not own:
        return results
    # Labels begin with the operator's name. Where all launches of an operator were compiled, each of its rows
    # in the budget must have one.
    failed = any(result.status == FAILED for result in results)
    complete = () if request.launches or failed else tuple(request.operators or [""])
    if request.update_budget:
        comparison.update(results, version, complete=complete)
    else:
        results = comparison.compare(results, version, complete=complete)
    return results


def render(results: Sequence[Result], request: Request) -> str:
    """What `fuseproof compile` prints of the results of `answer`."""
    return render_text(results, request)


class _Compilers:
    """A compiling process for each core; each takes the next job when it has finished one."""

    def __init__(self) -> None:
        self._count = len(os.sched_getaffinity(0))
        self._free: SimpleQueue[Child] = SimpleQueue()
        self._children = [
            Child("fuseproof.profiling.ahead_of_time.triton.compiler_process", _ENVIRONMENT)
            for _ in range(self._count)
        ]
        for child in self._children:
            self._free.put(child)

    def __enter__(self) -> _Compilers:
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children:
            child.__exit__()

    def map(
        self,
        work: Callable[[Child, Job], T],
        jobs: Sequence[Job],
        progress: Callable[[str], None],
    ) -> list[T]:
        """`work` on every job, in the order of `jobs`. An interrupt stops after the running jobs."""

        def run(index: int, job: Job) -> T:
            child = self._free.get()
            try:
                progress(f"{job.label} for {job.target} ({index + 1} of {len(jobs)})")
                return work(child, job)
            finally:
                self._free.put(child)

        with ThreadPoolExecutor(self._count) as pool:
            futures = [pool.submit(run, index, job) for index, job in enumerate(jobs)]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _questions(request: Request) -> list[Job]:
    """Which launches the hand-written kernels have."""
    return [
        Job(operator=name, dtype="", label=f"the launches of {name}", target=target)
        for target in request.targets
        for name in request.operators or operators()
    ]


def _users_questions(request: Request) -> list[Job]:
    """Which launches each of the user's implementations makes in each case. Raises UserError."""
    table, workloads = implementations.everything(request.extra, request.workloads)
    if not (request.cases or workloads):
        raise UserError(
            "name the cases to compile for with --case, such as 'layer_norm[4096x768-float16-forward]'"
        )
    plan = planning.make(
        planning.suite_of(workloads),
        [each for each in table if each.is_foreign and each.framework == "torch" and _may_launch(each)],
        planning.Selection(
            only=request.only, operators=request.operators, dtypes=request.dtypes, cases=request.cases
        ),
        Settings(device="cuda", share_process=True),
        workloads=workloads,
    )
    return [
        Job(
            operator=case.workload.name,
            dtype=case.dtype,
            label=f"{case.group} {each.name}",
            target=target,
            of={"case": case.group, "workload": description_of(case), "implementation": each.to_json()},
        )
        for target in request.targets
        for case in plan.cases
        for each in plan.implementations_of(case)
        if plan.asked(case, each.name)
    ]


def _may_launch(implementation: Implementation) -> bool:
    """Whether it is called as it is: what torch.compile makes of a function it compiles itself."""
    return implementation.compiled in (None, "kernel")


def _list(
    compilers: _Compilers, request: Request, questions: Sequence[Job]
) -> tuple[list[Job], str, list[Result]]:
    """The jobs, Triton's version, and a result for each question whose launches cannot be listed."""

    def ask(child: Child, job: Job) -> dict[str, Any]:
        question = {"do": "list", "operator": job.operator, "capability": TARGETS[job.target], "of": job.of}
        return child.ask({**question, "dtypes": list(request.dtypes)}, timeout=TIMEOUT)

    jobs, failed, version = [], [], ""
    for question, reply in zip(questions, compilers.map(ask, questions, request.progress), strict=True):
        if "ok" not in reply:
            skipped = reply.get("skipped")
            status = FAILED if skipped is None or request.only else SKIPPED
            failed.append(_result(question, status=status, reason=skipped or reply["error"]))
            continue
        version = reply["ok"]["triton"]
        jobs += [
            Job(operator=question.operator, dtype=dtype, label=label, target=question.target, of=question.of)
            for dtype, labels in reply["ok"]["labels"].items()
            for label in labels
            if not request.launches or any(text in label for text in request.launches)
        ]
    return jobs, version, failed


def _compile(child: Child, job: Job, request: Request) -> Result:
    """The result of one job, not yet compared with the budget."""
    capability = TARGETS[job.target]
    place = None if request.output is None else request.output / job.target / _file_name(job.label)
    reply = child.ask(
        {
            "do": "compile",
            "operator": job.operator,
            "dtype": job.dtype,
            "label": job.label,
            "capability": capability,
            "of": job.of,
            "instructions": not request.quiet,
            "output": None if place is None else str(place),
        },
        timeout=TIMEOUT,
    )
    if "ok" not in reply:
        return _failed(job, reply.get("error") or reply["skipped"])
    used = reply["ok"]
    shared = used["static_shared_bytes"] + used["dynamic_shared_bytes"]
    if used["registers"] * used["num_warps"] * WARP > MULTIPROCESSORS[capability].registers:
        return _failed(job, f"{used['num_warps']} warps of {used['registers']} registers do not fit")
    held = occupancy(
        capability,
        warps=used["num_warps"],
        registers=used["registers"],
        shared_bytes=shared,
        tensor_memory=used["tensor_memory"],
    )
    if held.blocks == 0:
        return _failed(
            job, f"no block fits a multiprocessor: {', '.join(held.limiters)} (shared: {shared} bytes)"
        )
    return _result(job, status=OK, usage=Usage.from_json(used | {"occupancy": asdict(held)}))


def _failed(job: Job, reason: str) -> Result:
    return _result(job, status=FAILED, reason=reason)


def _result(job: Job, **fields: Any) -> Result:
    return Result(target=job.target, operator=job.operator, dtype=job.dtype, launch=job.label, **fields)


def _file_name(label: str) -> str:
    name = label.replace("/", "-").replace("[", "-").rstrip("]")
    # A file's name has 255 bytes, and the label of a tuned launch its whole config.
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{zlib.crc32(label.encode()):08x}"
