"""What implementations would cost on a TPU that need not be there, from the real TPU compiler (libtpu).

Every figure is the compiler's estimate, marked so (`"estimate": true`), but for `measured_here`. Traps:

- FLOPs and bytes are of the optimised program: work that a fusion repeats, as v6e does with attention's
  q kᵀ, counts again.
- What is counted over a program's text has a loop's body once. A program with a loop or branch has no FLOPs,
  bytes moved, seconds, cycles or instructions; `warning` says so.
- A Pallas kernel counts nothing but what its author writes into its CostEstimate.
- `temporary_bytes` are those in HBM. Temporaries may also lie in VMEM (128 MiB on v5e and v6e, 64 on v5p): 0
  does not mean that there are none. `peak_bytes`, the compiler's own figure, is arguments and results plus
  the fuller of the two.
- `estimated_cycles` are the sum over fusions and copies. A hand-written kernel has no
  estimate, so a program with one has none either.

Compilation happens in a child process, `profiling.tpu_compiler`, one for each target; TensorFlow is lowered
in another, `profiling.tensorflow_lowering`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from fuseproof import implementations, suites
from fuseproof.cases import Case
from fuseproof.child_process import Child
from fuseproof.errors import UserError
from fuseproof.files import make_directory, write_json
from fuseproof.implementations import Implementation
from fuseproof.measure import planning
from fuseproof.profiling.ahead_of_time.request import Request, known
from fuseproof.profiling.readers import xla_plan
from fuseproof.workloads.operators import result_dtype

LABEL = "estimated by the compiler, not measured"
TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A TPU: libtpu's names of its smallest topologies of 4 and of 16 chips."""

    four: str
    sixteen: str


TARGETS: Mapping[str, Target] = {
    "tpu-v5e": Target(four="v5e:2x2", sixteen="v5e:4x4"),
    "tpu-v5p": Target(four="v5p:2x2x1", sixteen="v5p:2x2x4"),
    "tpu-v6e": Target(four="v6e:2x2", sixteen="v6e:4x4"),
}
# Chips as a mesh (x, y): how the operators' tensors are laid out on it is in `tpu_compiler`.
MESHES: Mapping[str, tuple[int, int]] = {"1x1": (1, 1), "2x2": (2, 2), "4x4": (4, 4)}

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

TAKES = frozenset({"cases", "only", "extra", "topology", "schedule", "without_fusion"})

_ENVIRONMENT = {
    # JAX must not look for a TPU here, nor libtpu for the cloud's metadata server.
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu keeps all but one process out, to share a TPU out; here there is none to share.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # Or it complains on every start, and writes its logs to /tmp/tpu_logs.
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
    """Raises UserError, with the command to install it, if the TPU compiler is not here."""
    for package in ("jax", "libtpu"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"compiling for a TPU needs {package}, which is not installed; pip install 'fuseproof[tpu]'"
            )


def answer(request: Request) -> list[dict[str, Any]]:
    """As `compile_all`, for the cases, operators and implementations the user asked for. Raises UserError."""
    table = implementations.table(request.extra)
    known("implementation", request.only, [planning.ALL, *(row.name for row in table)])
    chosen = planning.wanted(table, request.only, usual=suites.USUAL)
    cases = [Case.from_group(group) for group in request.cases or DEFAULT_CASES]
    known("operator", request.operators, [case.operator.name for case in cases])
    return compile_all(
        request.targets,
        [case for case in cases if not request.operators or case.operator.name in request.operators],
        [row for row in table if (row.operator, row.name) in chosen],
        topology=request.topology,
        without_fusion=request.without_fusion,
        output=request.output,
        progress=request.progress,
    )


def compile_all(
    targets: Sequence[str],
    cases: Sequence[Case],
    rows: Sequence[Implementation],
    *,
    topology: str = "1x1",
    without_fusion: bool = False,
    output: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """One plain-data result for each target, case and implementation, in that order.

    `status` is `ok`, `skipped` or `failed`, the last two with a `reason` in one line. `without_fusion` adds
    the figures of the same program compiled with the compiler's fusion passes off. The compiler's files
    (HLO before and after, buffer assignment, live ranges) are kept under `output` if given. Raises UserError
    for an unknown target or topology, and if libtpu is not installed.
    """
    for target in targets:
        if target not in TARGETS:
            raise UserError(f"unknown TPU target {target!r}; there are {', '.join(TARGETS)}")
    if topology not in MESHES:
        raise UserError(f"unknown topology {topology!r}; there are {', '.join(MESHES)}")
    require()
    with contextlib.ExitStack() as stack:
        if output is not None:
            make_directory(output)
        directory = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuseproof-tpu-")))
        session = _Session(
            cases=cases,
            rows=rows,
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
    """What the targets of one call share: the work, and the TensorFlow modules lowered once for all."""

    cases: Sequence[Case]
    rows: Sequence[Implementation]
    topology: str
    without_fusion: bool
    directory: Path
    progress: Callable[[str], None]
    lowering: Child = field(init=False)
    lowered: dict[Path, dict[str, Any]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    stopping: Event = field(default_factory=Event)

    def compile_for(self, target: str) -> list[dict[str, Any]]:
        columns, rows = MESHES[self.topology]
        results: list[dict[str, Any]] = []
        with Child("fuseproof.profiling.ahead_of_time.tpu.compiler_process", _ENVIRONMENT) as compiler:
            for case in self.cases:
                for row in (row for row in self.rows if row.operator == case.operator.name):
                    if self.stopping.is_set():
                        return results
                    self.progress(f"{row.name} of {case.group} for {target}")
                    result = {
                        "target": target,
                        "topology": self.topology,
                        "chips": columns * rows,
                        "case": case.group,
                        "implementation": row.name,
                        "estimate": True,
                        "label": LABEL,
                        **_outcome(self._ask(compiler, target, case, row)),
                    }
                    results.append(result)
                    if result["status"] == "ok":  # for `fuseproof timeline`, beside the compiler's files
                        file = self._place(target, case, row) / xla_plan.RESULT_FILE
                        write_json(file, result, indent=1)
        return results

    def _ask(self, compiler: Child, target: str, case: Case, row: Implementation) -> dict[str, Any]:
        if (reason := _reason_to_skip(row, case, self.topology)) is not None:
            return {"skipped": reason}
        request: dict[str, Any] = {"implementation": asdict(row), "case": case.group}
        if row.framework == "tensorflow":
            file, answer = self._lower(request)
            if "ok" not in answer:
                return answer
            request["stablehlo"] = str(file)
        place = self._place(target, case, row)
        place.mkdir(parents=True, exist_ok=True)
        request |= {
            "topology": TARGETS[target].sixteen if self.topology == "4x4" else TARGETS[target].four,
            "mesh": list(MESHES[self.topology]),
            "directory": str(place),
            "without_fusion": self.without_fusion,
        }
        return compiler.ask(request, timeout=TIMEOUT)

    def _place(self, target: str, case: Case, row: Implementation) -> Path:
        return self.directory / f"{target}-{self.topology}" / case.group / row.name

    def _lower(self, request: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        name = f"{request['case']}-{request['implementation']['name']}.stablehlo"
        file = self.directory / name
        with self.lock:
            if file not in self.lowered:
                self.directory.mkdir(parents=True, exist_ok=True)
                self.lowered[file] = self.lowering.ask({**request, "file": str(file)}, timeout=TIMEOUT)
        return file, self.lowered[file]


def _twin_of(row: Implementation) -> str | None:
    """The row of ours that is the same program ahead of time: its compiled twin, of an eager one or a graph.

    A user's rows are never left out: what differs between them is theirs to say.
    """
    if row not in implementations.IMPLEMENTATIONS or row.compiled not in (None, "function"):
        return None
    same = ("operator", "framework", "target", "layout", "consumes")
    return next(
        (
            other.name
            for other in implementations.IMPLEMENTATIONS
            if other.compiled in ("jit", "xla") and all(getattr(other, n) == getattr(row, n) for n in same)
        ),
        None,
    )


def _reason_to_skip(row: Implementation, case: Case, topology: str) -> str | None:
    if row.framework == "torch":
        return "PyTorch reaches TPUs through torch_xla, which Fuseproof does not drive"
    if importlib.util.find_spec(row.framework) is None:
        return f"{row.framework} is not installed; pip install 'fuseproof[{row.framework}]'"
    if (twin := _twin_of(row)) is not None:
        return f"ahead of time this is the program of {twin}"
    if case.pass_ not in row.passes:
        return f"has no {case.pass_} pass"
    if case.dtype != result_dtype(case.dtype):
        return f"{case.dtype} is for NVIDIA's tensor cores"
    if row.framework == "tensorflow" and topology != "1x1":
        return "TensorFlow's StableHLO says nothing of how tensors are sharded; one chip only"
    return None


def _outcome(answer: Mapping[str, Any]) -> dict[str, Any]:
    if "ok" in answer:
        return {"status": "ok", **answer["ok"]}
    if "skipped" in answer:
        return {"status": "skipped", "reason": answer["skipped"]}
    reason: str = answer["error"]
    if "libtpu_lockfile" in reason:
        reason = "another process is using libtpu; wait until it ends, or remove /tmp/libtpu_lockfile"
    return {"status": "failed", "reason": reason}


def render(results: Sequence[Mapping[str, Any]], request: Request) -> str:
    """`render_text`, with the schedule if the user asked for it."""
    return render_text(results, schedule=request.schedule)


def render_text(results: Sequence[Mapping[str, Any]], *, schedule: bool = False) -> str:
    """A table for each target and case, and with `schedule` what runs when and how much memory is live."""
    lines: list[str] = []
    versions: Mapping[str, str] = next((r["versions"] for r in results if r["status"] == "ok"), {})
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines.append(f"All figures are {LABEL}{f' ({named})' if named else ''}.")
    lines.append(
        "FLOPs and bytes are of the optimised program, what a fusion repeats counted again; Pallas counts "
        "what its author states."
    )
    seen: tuple[str, str] | None = None
    for result in results:
        if result["status"] != "ok":
            continue
        if seen != (result["target"], result["case"]):
            seen = (result["target"], result["case"])
            chips = f", {result['chips']} chips" if result["chips"] > 1 else ""
            lines.append(f"\n{result['case']} on {result['target']} ({result['device_kind']}{chips})")
            lines.append(
                f"  {'':22}{'GFLOP':>9} {'MB moved':>9} {'temp MB':>9} {'VMEM MB':>9} {'peak MB':>9} "
                f"{'fusions':>8} {'kernels':>8} {'kcycles':>9}"
            )
        lines.append(
            f"  {result['implementation']:22}{_scaled(result['flops'], 1e9):>9} "
            f"{_scaled(result['bytes_accessed'], 1e6):>9} {_scaled(result['temporary_bytes'], 1e6):>9} "
            f"{_scaled(result['vmem_bytes'], 1e6):>9} {_scaled(result['peak_bytes'], 1e6):>9} "
            f"{result['fusions']:>8} {result['kernels']:>8} "
            f"{_scaled(result['estimated_cycles'], 1e3):>9}"
        )
        if apart := result.get("without_fusion"):
            lines.append(f"  {'':22}{_without_fusion(result, apart)}")
        if result["collectives"]:
            counted = ", ".join(f"{count} {kind}" for kind, count in sorted(result["collectives"].items()))
            lines.append(f"  {'':22}collectives: {counted}")
        if result.get("warning"):
            lines.append(f"  {'':22}WARNING: {result['warning']}")
        if schedule and result["schedule"]:
            lines += _schedule_lines(result["schedule"])
    lines += _not_compiled(results)
    return "\n".join(lines) + "\n"


def _without_fusion(result: Mapping[str, Any], apart: Mapping[str, Any]) -> str:
    if "reason" in apart:
        return f"without fusion: {apart['reason']}"
    return (
        f"without fusion: {_scaled(apart['computing_instructions'])} computing instructions instead of "
        f"{_scaled(result['computing_instructions'])}, {_scaled(apart['bytes_accessed'], 1e6)} MB moved, "
        f"{_scaled(apart['temporary_bytes'], 1e6)} temp MB, {_scaled(apart['peak_bytes'], 1e6)} peak MB"
    )


def _schedule_lines(schedule: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"    {'step':>4} {'live HBM MB':>12} {'live VMEM MB':>13} {'kcycles':>9}  instruction"]
    for step, row in enumerate(schedule):
        if row["opcode"] in ("parameter", "get-tuple-element", "bitcast", "tuple", "constant"):
            continue
        fused = f" ({row['fused']} fused)" if row["fused"] else ""
        hbm, vmem = (_scaled(row[f"{space}_live_bytes"], 1e6) for space in ("hbm", "vmem"))
        lines.append(
            f"    {step:>4} {hbm:>12} {vmem:>13} "
            f"{_scaled(row['estimated_cycles'], 1e3):>9}  {row['instruction']}{fused}"
        )
    return lines


def _not_compiled(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each reason once, with what it concerns."""
    concerned: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result["status"] == "skipped":
            concerned.setdefault(("not compiled", result["reason"]), []).append(result["implementation"])
        elif result["status"] == "failed":
            name = f"{result['implementation']} of {result['case']} on {result['target']}"
            concerned.setdefault(("FAILED", result["reason"]), []).append(name)
    lines = [
        f"{kind}: {', '.join(dict.fromkeys(names))}: {reason}" for (kind, reason), names in concerned.items()
    ]
    return ["", *lines] if lines else []


def _scaled(value: float | None, unit: float | None = None) -> str:
    """In units, or a count as it is; `-` where there is no figure."""
    if value is None:
        return "-"
    return str(value) if unit is None else f"{value / unit:,.1f}"
