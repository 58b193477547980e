"""What the hand-written Triton kernels use on a GPU that need not be there, and whether it fits their budget.

Every launch that the kernels' `variants` list is compiled by Triton's own compiler and NVIDIA's assembler:
registers, spills and shared memory are those of the real machine code, occupancy is arithmetic on them
(`occupancy`), instructions are counted in the machine code, a loop's body once. None of it is a
measurement of speed.

Compilation happens in child processes, `profiling.triton_compiler`, one for each core.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from threading import Event
from typing import Any

from fuseproof.child_process import Child
from fuseproof.errors import UserError
from fuseproof.files import make_directory
from fuseproof.profiling.ahead_of_time.request import Request, known
from fuseproof.profiling.ahead_of_time.triton import budget as triton_budget
from fuseproof.profiling.ahead_of_time.triton.occupancy import MULTIPROCESSORS, WARP, occupancy
from fuseproof.workloads.operators import OPERATORS

TIMEOUT = 300.0  # seconds for one launch

# The modules that list the launches of each operator's kernels. Named, not imported: they import PyTorch, and
# only the compiling processes do that.
COMPILE_LISTS: Mapping[str, str] = {
    "attention": "fuseproof.kernels.triton.ops.attention.api",
    "matmul": "fuseproof.kernels.triton.ops.matmul.api",
    "layer_norm": "fuseproof.kernels.triton.ops.norms.layer_norm",
    "rms_norm": "fuseproof.kernels.triton.ops.norms.rms_norm",
}

TARGETS: Mapping[str, int] = {f"sm_{capability}": capability for capability in MULTIPROCESSORS}
TAKES = frozenset({"dtypes", "launches", "update_budget", "quiet"})

_UPDATE = "fuseproof compile --target {} --update-budget"
_ENVIRONMENT = {
    "TRITON_INTERPRET": "0",  # what is interpreted has no registers
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One launch to compile for one target."""

    operator: str
    dtype: str
    label: str
    target: str


def operators() -> list[str]:
    """The operators that have a hand-written kernel."""
    return [name for name in OPERATORS if name in COMPILE_LISTS]


def answer(request: Request) -> list[dict[str, Any]]:
    """One plain-data result for each target and launch, in that order.

    `status` is `ok`, `over budget` or `failed`, the last two with a `reason` in one line. With
    `update_budget` the budget file is rewritten for what was compiled; nothing is then over budget. Raises
    UserError for bad input and where Triton is not installed.
    """
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"compiling Triton kernels needs {package}, which is not installed; "
                "pip install 'fuseproof[gpu]'"
            )
    known("operator", request.operators, operators())
    if request.output is not None:
        make_directory(request.output)
    with _Compilers() as compilers:
        jobs, version, results = _list(compilers, request)
        if not jobs and not results:
            raise UserError(
                "nothing to compile: no launch matches; run without --dtype and --launch to see all"
            )
        results += compilers.map(lambda child, job: _compile(child, job, request), jobs, request.progress)
    order = {target: index for index, target in enumerate(request.targets)}
    results.sort(key=lambda result: order[result["target"]])
    failed = any(result["status"] == "failed" for result in results)
    # Labels begin with the operator's name: these prefixes are those of the rows that must all be there.
    whole = () if request.launches or failed else tuple(request.operators or [""])
    return _judge(results, version, whole=whole, update=request.update_budget)


class _Compilers:
    """A compiling process for each core, which takes the next job when it is done with one."""

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
        work: Callable[[Child, Job], dict[str, Any]],
        jobs: Sequence[Job],
        progress: Callable[[str], None],
    ) -> list[dict[str, Any]]:
        """`work` on every job, in the order of `jobs`. An interrupt stops after the jobs under way."""
        stopping = Event()

        def run(index: int, job: Job) -> dict[str, Any]:
            if stopping.is_set():
                return {}
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
                stopping.set()
                raise


def _list(compilers: _Compilers, request: Request) -> tuple[list[Job], str, list[dict[str, Any]]]:
    """What there is to compile, Triton's version, and a failed result for each operator that cannot say."""
    questions = [
        Job(operator=name, dtype="", label=f"the launches of {name}", target=target)
        for target in request.targets
        for name in request.operators or operators()
    ]

    def ask(child: Child, job: Job) -> dict[str, Any]:
        question = {"do": "list", "operator": job.operator, "capability": TARGETS[job.target]}
        return child.ask({**question, "dtypes": list(request.dtypes)}, timeout=TIMEOUT)

    jobs, failed, version = [], [], ""
    for question, reply in zip(questions, compilers.map(ask, questions, request.progress), strict=True):
        if "ok" not in reply:
            failed.append(_failed(question, reply["error"]))
            continue
        version = reply["ok"]["triton"]
        jobs += [
            Job(operator=question.operator, dtype=dtype, label=label, target=question.target)
            for dtype, labels in reply["ok"]["labels"].items()
            for label in labels
            if not request.launches or any(text in label for text in request.launches)
        ]
    return jobs, version, failed


def _compile(child: Child, job: Job, request: Request) -> dict[str, Any]:
    capability = TARGETS[job.target]
    place = None if request.output is None else request.output / job.target / _file_name(job.label)
    reply = child.ask(
        {
            "do": "compile",
            "operator": job.operator,
            "dtype": job.dtype,
            "label": job.label,
            "capability": capability,
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
    del used["label"], used["capability"]
    return {**_head(job), "status": "ok", **used, "shared_bytes": shared, "occupancy": asdict(held)}


def _head(job: Job) -> dict[str, Any]:
    return {"target": job.target, "operator": job.operator, "dtype": job.dtype, "launch": job.label}


def _failed(job: Job, reason: str) -> dict[str, Any]:
    return {**_head(job), "status": "failed", "reason": reason}


def _file_name(label: str) -> str:
    return label.replace("/", "-").replace("[", "-").rstrip("]")


def _judge(
    results: list[dict[str, Any]], version: str, *, whole: tuple[str, ...], update: bool
) -> list[dict[str, Any]]:
    """The results with what the budget says; or the budget with what the results say."""
    budget = triton_budget.load(triton_budget.FILE)
    minor = triton_budget.minor(version)
    for result in results:
        result["triton"] = version
    if update:
        _update(budget, results, minor, whole=whole)
        return results
    unknown = []
    for (target, dtype), own in _sections(results).items():
        unknown += _compare(own, budget.get((minor, target, dtype)), minor, target, whole=whole)
    return results + unknown


def _sections(results: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The results by target and dtype, as the budget has them."""
    sections: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        sections.setdefault((result["target"], result["dtype"]), []).append(result)
    return sections


def _compare(
    results: Sequence[dict[str, Any]],
    rows: triton_budget.Rows | None,
    minor: str,
    target: str,
    *,
    whole: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Mark what is over budget or has none.

    Returns a result for each row of the budget whose label begins with one of `whole` and that no launch has.
    """
    remedy = _UPDATE.format(target)
    if rows is None:
        dtype = results[0]["dtype"]
        rows = {}
        missing = f"there is no budget for {dtype} on {target} with triton {minor}; pin it with `{remedy}`"
    else:
        missing = f"not in the budget; pin it with `{remedy}`"
    for result in results:
        if result["status"] != "ok":
            continue
        row = rows.get(result["launch"])
        result["budget"] = None if row is None else asdict(row)
        worse = [missing] if row is None else row.exceeded_by(_row_of(result))
        if worse:
            result |= {"status": "over budget", "reason": ", ".join(worse)}
    unknown = sorted(label for label in rows if label.startswith(whole))
    found = {result["launch"] for result in results}
    return [
        {
            "target": target,
            "operator": "",
            "dtype": results[0]["dtype"],
            "launch": label,
            "status": "over budget",
            "reason": f"in the budget, but no launch has this label; remove it with `{remedy}`",
        }
        for label in unknown
        if label not in found
    ]


def _update(
    budget: triton_budget.Budget, results: Sequence[dict[str, Any]], minor: str, *, whole: tuple[str, ...]
) -> None:
    if any(result["status"] == "failed" for result in results):
        return  # half a budget would hide what failed
    for (target, dtype), own in _sections(results).items():
        rows = {result["launch"]: _row_of(result) for result in own}
        old = budget.get((minor, target, dtype), {})
        kept = {label: row for label, row in old.items() if not label.startswith(whole)}
        budget[minor, target, dtype] = {**kept, **rows}
    triton_budget.save(triton_budget.FILE, budget)


def _row_of(result: Mapping[str, Any]) -> triton_budget.Row:
    return triton_budget.Row(
        registers=result["registers"],
        spill_bytes=result["spill_bytes"],
        shared_bytes=result["shared_bytes"],
        occupancy_warps=result["occupancy"]["warps"],
    )


def render(results: Sequence[Mapping[str, Any]], request: Request) -> str:
    """A table for each target, unless quiet; then what failed or is over budget, and one line of summary."""
    lines: list[str] = []
    if not request.quiet:
        for target in request.targets:
            lines += _table([r for r in results if r["target"] == target and "registers" in r], target)
    lines += _what_is_wrong(results)
    compiled = sum("registers" in result for result in results)
    spilled = sum(result.get("spill_bytes", 0) > 0 for result in results)
    failed = sum(result["status"] == "failed" for result in results)
    over = sum(result["status"] == "over budget" for result in results)
    version = next((result["triton"] for result in results if result.get("triton")), "")
    if request.update_budget:
        budget = (
            "the budget is left as it was, because of what failed"
            if failed
            else f"wrote {triton_budget.FILE}"
        )
    else:
        budget = f"{over} over budget"
    lines.append(
        f"{compiled} launches compiled with triton {version} for {', '.join(request.targets)}; "
        f"{spilled} spill registers, {failed} failed; {budget}"
    )
    return "\n".join(lines) + "\n"


def _what_is_wrong(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each launch that failed or is over budget; one line where many have one reason."""
    concerned: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        if result["status"] != "ok":
            key = (result["status"].upper(), result["target"], result["reason"])
            concerned.setdefault(key, []).append(result["launch"])
    return [
        f"{status}: {target} {names[0] if len(names) == 1 else f'{len(names)} launches'}: {reason}"
        for (status, target, reason), names in concerned.items()
    ]


def _table(results: Sequence[Mapping[str, Any]], target: str) -> list[str]:
    if not results:
        return []
    source = results[0]["instruction_source"]
    width = max(len(result["launch"]) for result in results)
    lines = [
        f"{target}: registers and spilled bytes per thread; warps and bytes of shared memory per block;",
        f"theoretical occupancy, its limiter; instructions in {source}, loop bodies once; 128-bit/all",
        f"{'':{width}} {'regs':>4} {'spill':>5} {'warps':>5} {'static':>6} {'dynamic':>7} {'occ.':>5}  "
        f"{'limiter':23} {'tensor cores':14} {'TMA':>4} {'async':>5} {'ld 128':>9} {'st 128':>9}",
    ]
    for result in results:
        held, counts = result["occupancy"], result["instructions"]
        cores = " ".join(f"{counts[kind]} {kind}" for kind in ("wgmma", "tcgen05", "mma") if counts[kind])
        lines.append(
            f"{result['launch']:{width}} {result['registers']:>4} {result['spill_bytes']:>5} "
            f"{result['num_warps']:>5} {result['static_shared_bytes']:>6} "
            f"{result['dynamic_shared_bytes']:>7} {held['share']:>5.0%}  "
            f"{', '.join(held['limiters']):23} {cores or '-':14} "
            f"{counts['tma']:>4} {counts['cp_async']:>5} {counts['load_128']:>4}/{counts['load']:<4} "
            f"{counts['store_128']:>4}/{counts['store']:<4}"
        )
    return [*lines, ""]
