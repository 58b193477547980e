"""The child process that compiles for a TPU without having one; `tpu.programs` starts it.

JAX_PLATFORMS=cpu and TPU_SKIP_MDS_QUERY=1 must be set before this module is imported: otherwise JAX looks for
a TPU, and libtpu for the cloud's metadata server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fuseproof.cases import Case
from fuseproof.child_process import serve
from fuseproof.errors import UserError
from fuseproof.frameworks import jax as framework
from fuseproof.frameworks.calling import Signature
from fuseproof.fusion.programs import hlo, operations
from fuseproof.implementations import Implementation, resolve_function
from fuseproof.measure.opening import planned
from fuseproof.profiling.ahead_of_time.tpu.results import Figures, WithoutFusion
from fuseproof.profiling.readers import xla_schedule
from fuseproof.profiling.readers.xla_schedule import dumps
from fuseproof.workloads.tensor import INDEX, Tensor

# How each operator's tensors lie on a mesh of chips with axes x and y, by axis of the operator's own layout,
# as in tensor-parallel models: matmul and SwiGLU sum over y, attention gathers keys and values over y, the
# vocabulary is split over y.
_SHARDING: Mapping[str, Mapping[str, tuple[str | None, ...]]] = {
    "attention": dict.fromkeys(("q", "k", "v", "output"), (None, "x", "y", None)),
    "matmul": {"a": ("x", "y"), "b": ("y", None), "bias": (None,), "output": ("x", "y")},
    "layer_norm": {
        **dict.fromkeys(("x", "residual", "output"), ("x", "y")),
        **dict.fromkeys(("weight", "bias"), ("y",)),
    },
    "rms_norm": {**dict.fromkeys(("x", "residual", "output"), ("x", "y")), "weight": ("y",)},
    "softmax": dict.fromkeys(("x", "output"), ("x", "y")),
    "cross_entropy": {"logits": ("x", "y"), "targets": ("x",), "output": ("x",)},
    "rotary": {
        **dict.fromkeys(("q", "k", "output_0", "output_1"), (None, "x", "y", None)),
        **dict.fromkeys(("cos", "sin"), ("y", None)),
    },
    "swiglu": {
        **dict.fromkeys(("x", "output"), ("x", None)),
        **dict.fromkeys(("gate", "up"), (None, "y")),
        "down": ("y", None),
    },
    "embedding": {"table": ("y", None), "indices": ("x",), "output": ("x", None)},
}
# The TPU compiler's passes that fuse; their names stand in the files of its pass pipeline.
_FUSION_PASSES = "tpu_fusion,tpu_multi_output_fusion"
# Moves of data, a start and an end for each where something is computed meanwhile.
_MOVES = ("copy", "copy-start", "copy-done", "slice-start", "slice-done")
_KERNEL = "tpu_custom_call"  # what a Pallas kernel becomes
# Figures that are counted over a program's text, where a loop's body stands once.
_OF_ONE_ITERATION = (
    *("flops", "transcendentals", "bytes_accessed", "optimal_seconds"),
    *("launched_instructions", "computing_instructions", "estimated_cycles"),
)
_LOOP = (
    "it has a loop or branch, which is counted as if it ran once: no FLOPs, bytes moved, seconds, cycles or "
    "instructions"
)
_SWAP = {"bhsd": (0, 1, 2, 3), "bshd": (0, 2, 1, 3)}


def compile_request(request: dict[str, Any]) -> dict[str, Any]:
    """The JSON of `Figures` of one implementation of one case for one topology."""
    implementation = Implementation.from_json(request["implementation"])
    case = planned(request["case"], request["workload"])
    case.refuse_absent_inputs(implementation.consumes)
    mesh = _mesh(request["topology"], request["mesh"])
    directory = Path(request["directory"])
    donates = bool(implementation.consumes) and implementation.framework == "jax"
    with jax.sharding.set_mesh(mesh):  # tells Pallas which TPU it is lowered for
        function, arguments, out_shardings = _function(implementation, case, mesh, request.get("stablehlo"))
        started = time.perf_counter()
        lowered = jax.jit(
            function,
            keep_unused=True,
            out_shardings=out_shardings,
            donate_argnums=2 if donates else (),
        ).lower(*arguments)
        lowered_at = time.perf_counter()
        compiled = lowered.compile(
            compiler_options={"xla_dump_to": str(directory), "xla_dump_hlo_as_text": True}
        )
        done = time.perf_counter()
    if donates and not compiled.memory_analysis().alias_size_in_bytes:
        names = ", ".join(implementation.consumes)
        raise NotImplementedError(f"no result has the shape of {names}, so its memory cannot be used again")
    text = compiled.as_text()
    (directory / "optimized.hlo.txt").write_text(text, encoding="utf-8")
    figures = Figures(
        device_kind=mesh.devices.flat[0].device_kind,
        versions={name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")},
        measured_here={"lower_seconds": lowered_at - started, "compile_seconds": done - lowered_at},
        without_fusion=_without_fusion(lowered) if request.get("without_fusion") else None,
        **_describe(compiled, hlo.parse(text, source="the compiled module"), directory),
    )
    return figures.to_json()


def _without_fusion(lowered: Any) -> WithoutFusion:
    """The same program, compiled with nothing fused."""
    try:
        compiled = lowered.compile(compiler_options={"xla_disable_hlo_passes": _FUSION_PASSES})
    except jax.errors.JaxRuntimeError as error:  # it may not fit, or need a fusion to be lowered at all
        return WithoutFusion(reason=f"it does not compile: {' '.join(str(error).split())[:200]}")
    module = hlo.parse(compiled.as_text(), source="the module compiled without fusion")
    if module.fusions:
        return WithoutFusion(reason=f"{len(module.fusions)} fusions are left with the fusion passes off")
    memory = compiled.memory_analysis()
    looped = operations.has_loop(module)
    return WithoutFusion(
        computing_instructions=None if looped else _computing(module),
        bytes_accessed=None if looped else _count(compiled.cost_analysis(), "bytes accessed"),
        temporary_bytes=memory.temp_size_in_bytes,
        peak_bytes=memory.peak_memory_in_bytes,
    )


def _computing(module: hlo.Module) -> int:
    """Instructions that run code of their own and do more than move data: what a GPU calls kernels."""
    return sum(instruction.opcode not in _MOVES for instruction in module.launched)


def _mesh(topology: str, shape: list[int]) -> Mesh:
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    return Mesh(np.array(devices[: math.prod(shape)]).reshape(shape), ("x", "y"))


def _function(
    implementation: Implementation, case: Case, mesh: Mesh, stablehlo: str | None
) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
    operator = case.workload
    single = mesh.size == 1

    def spec(name: str, tensor: Tensor) -> jax.ShapeDtypeStruct:
        shape = tensor.shape
        # A single number, such as a mean, is on every chip.
        axes = (None,) * len(shape) if single or not shape else _SHARDING[operator.name][name]
        order = _SWAP[implementation.layout] if len(shape) == 4 else tuple(range(len(shape)))
        for extent, axis in zip(shape, axes, strict=True):
            if axis is not None and extent % mesh.shape[axis]:
                raise NotImplementedError(f"{name}: {extent} cannot be split over {mesh.shape[axis]} chips")
        partition = PartitionSpec(*(axes[axis] for axis in order))
        return jax.ShapeDtypeStruct(
            [shape[axis] for axis in order],
            tensor.dtype.replace(INDEX, "int32") or case.dtype,
            sharding=NamedSharding(mesh, partition),
        )

    if not single and operator.name not in _SHARDING:
        raise NotImplementedError(f"nobody has said how {operator.name} is split over several chips")
    inputs = {name: spec(name, tensor) for name, tensor in operator.inputs_by_name.items()}
    outputs = {name: spec(name, tensor) for name, tensor in operator.outputs_by_name.items()}
    backward = case.pass_ != "forward"
    cotangents = {name: outputs[name] for name in operator.cotangents} if backward else {}
    # A gradient lies where its input lies.
    found = outputs | {f"grad_{name}": inputs[name] for name in operator.differentiable if backward}
    if stablehlo is not None:
        given = (*inputs.values(), *cotangents.values())
        return _imported(Path(stablehlo).read_bytes(), given, list(found.values()))
    function = resolve_function(implementation.target)
    step = framework.step(function, Signature.of(operator), case.pass_, None)

    def computed(given: dict[str, Any], cotangents: dict[str, Any]) -> Any:
        in_order = {name: given[name] for name in inputs}  # JAX sorts the keys of what it traces
        return step.unpack(step.bind(in_order, cotangents)())

    results = None if single else {name: each.sharding for name, each in found.items()}
    if not implementation.consumes:
        return computed, (inputs, cotangents), results

    def donating(kept: dict[str, Any], cotangents: dict[str, Any], consumed: dict[str, Any]) -> Any:
        return computed(kept | consumed, cotangents)

    kept = {name: spec for name, spec in inputs.items() if name not in implementation.consumes}
    return donating, (kept, cotangents, {name: inputs[name] for name in implementation.consumes}), results


def _imported(
    module: bytes, arguments: tuple[jax.ShapeDtypeStruct, ...], results: Sequence[jax.ShapeDtypeStruct]
) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
    """A StableHLO module as a JAX function: put into the frame `jax.export` makes of the types."""

    def same_types(*_: Any) -> list[Any]:
        return [jnp.zeros(result.shape, result.dtype) for result in results]

    plain = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments]
    frame = export.export(jax.jit(same_types, keep_unused=True), platforms=["tpu"])(*plain)
    imported = dataclasses.replace(frame, fun_name="imported", mlir_module_serialized=module)
    return imported.call, arguments, None


def _describe(compiled: Any, module: hlo.Module, directory: Path) -> dict[str, Any]:
    """The fields of `Figures` that the program and the compiler's files hold."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    optimal = cost.get("optimal_seconds", -1.0)
    cycles = [i.estimated_cycles for i in module.launched if i.estimated_cycles is not None]
    kernels = sum(i.custom_call_target == _KERNEL for i in module.custom_calls)
    document: dict[str, Any] = {
        "flops": _count(cost, "flops"),
        "transcendentals": _count(cost, "transcendentals"),
        "bytes_accessed": _count(cost, "bytes accessed"),
        "optimal_seconds": optimal if optimal > 0 else None,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "donated_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "peak_bytes": memory.peak_memory_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "fusions": len(module.fusions),
        "fused_instructions": sum(len(module.members(fusion)) for fusion in module.fusions),
        "launched_instructions": len(module.launched),
        "computing_instructions": _computing(module),
        "custom_calls": dict(_counted(i.custom_call_target or "" for i in module.custom_calls)),
        "collectives": dict(module.collectives),
        "kernels": kernels,
        # The compiler does not look into a hand-written kernel; a sum without it would flatter.
        "estimated_cycles": sum(cycles) if cycles and not kernels else None,
    }
    warnings = []
    if operations.has_loop(module):
        document |= dict.fromkeys(_OF_ONE_ITERATION)
        warnings.append(_LOOP)
    try:
        lives = dumps.parse(_dump(directory, "buffer-assignment.txt"), _dump(directory, "live-range.txt"))
    except UserError as error:
        document |= dict.fromkeys(("vmem_bytes", "schedule", "memory_plan"))
        warnings.append(str(error))
    else:
        document |= xla_schedule.describe(module, lives)
        if lives.peak_bytes != memory.peak_memory_in_bytes:
            warnings.append(_difference(lives, memory.peak_memory_in_bytes))
    return {**document, "warning": "; ".join(warnings)} if warnings else document


def _difference(lives: dumps.MemorySchedule, figure: int) -> str:
    both = f"the schedule's peak memory is {lives.peak_bytes} bytes, the compiler's own figure {figure}"
    if lives.peak_bytes < figure <= lives.unshared_peak_bytes:
        # Seen with loops and asynchronous collectives, which write in place.
        return f"{both}, which counts bytes that values share more than once"
    return f"{both}: do not rely on the schedule's memory"


def _count(cost: dict[str, float], key: str) -> int | None:
    return int(cost[key]) if cost.get(key, -1) >= 0 else None


def _counted(names: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _dump(directory: Path, ending: str) -> str:
    found = sorted(directory.glob(f"*after_optimizations-{ending}"))
    if len(found) != 1:
        raise UserError(f"XLA wrote {len(found)} files *{ending} instead of one; no schedule")
    return found[0].read_text(encoding="utf-8")


def main() -> None:
    framework.configure(device="cpu", threads=1)  # the matmul precision of a case's float32
    with contextlib.suppress(KeyboardInterrupt):
        serve(compile_request)


if __name__ == "__main__":
    main()
