"""PyTorch's profiler as a worker uses it, and which of the names it records are kernels."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any

import torch

# Names of the kernels that Inductor writes in C++, bare or as its own profiling option calls them.
_INDUCTOR_KERNEL = re.compile(r"(graph_\d+_)?cpp_\w+")
# Operators whose kernel computes nothing: they get memory, or another view of it.
_NO_WORK = re.compile(r"aten::(new_)?empty(_\w+)?|aten::(resize_|resize_as_|set_|_unsafe_view)")
# Events of the caching allocator that a memory history keeps: minutes of small steps, about 100 MB.
_HISTORY = 200_000


@contextlib.contextmanager
def record(folder: Path, *, on_gpu: bool, memory: bool, stacks: bool) -> Iterator[dict[str, list[Any]]]:
    """Record what runs within: `torch.json.gz` (Kineto) and, on a GPU with `memory`, `torch-memory.pickle`.

    Yields `traces`, `warnings` and `not_seen`, complete at the end. `stacks` records Python frames, which
    slows every call.
    """
    found: dict[str, list[Any]] = {"traces": [], "warnings": [], "not_seen": []}
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        torch.cuda.synchronize()
    else:
        found["not_seen"] += [
            "what happens inside an operator: calls into oneDNN and MKL, and the threads of OpenMP",
        ]
    if not stacks:
        found["not_seen"].append("Python between the operators: record with stacks")
    history = memory and on_gpu
    if history:
        torch.cuda.memory._record_memory_history(
            context="alloc" if stacks else None, stacks="python", max_entries=_HISTORY
        )
    try:
        with (
            _named_inductor_kernels(found["warnings"]),
            torch.profiler.profile(
                activities=activities, profile_memory=memory, record_shapes=True, with_stack=stacks
            ) as profiler,
        ):
            yield found
            if on_gpu:
                torch.cuda.synchronize()
        if history:
            torch.cuda.memory._dump_snapshot(str(folder / "torch-memory.pickle"))
    finally:
        if history:
            torch.cuda.memory._record_memory_history(enabled=None)
    profiler.export_chrome_trace(str(folder / "torch.json.gz"))
    found["traces"].append({"file": "torch.json.gz", "kind": "kineto"})
    if history:
        found["traces"].append({"file": "torch-memory.pickle", "kind": "torch-memory"})


def kernel_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that are operators which work on the CPU themselves, by PyTorch's own dispatcher.

    Left out are operators composed of others, which follow below them, those that only make a view or fetch
    memory, those that return no tensor, and names of anything else, such as a node of autograd.
    """
    return [name for name in names if _INDUCTOR_KERNEL.fullmatch(name) or _is_work(name)]


def _is_work(name: str) -> bool:
    namespace, separator, operator = name.partition("::")
    if not separator or not operator.isidentifier() or _NO_WORK.fullmatch(name):
        return False
    packet = getattr(getattr(torch.ops, namespace), operator, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return False
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    functional = [each for each in overloads if not _has_out(each)]
    return any(_writes(each) and _has_own_kernel(each) for each in functional or overloads)


def _has_out(overload: Any) -> bool:
    return any(
        argument.kwarg_only and argument.alias_info is not None and argument.alias_info.is_write
        for argument in overload._schema.arguments
    )


def _writes(overload: Any) -> bool:
    return any(
        "Tensor" in str(result.type) and (result.alias_info is None or result.alias_info.is_write)
        for result in overload._schema.returns
    )


def _has_own_kernel(overload: Any) -> bool:
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    try:
        return not overload.has_kernel_for_dispatch_key(composite)
    except RuntimeError:  # TorchScript has overloads that the dispatcher does not know
        return False


@contextlib.contextmanager
def _named_inductor_kernels(warnings: list[Any]) -> Iterator[None]:
    """Within, the trace has a range for every call of a C++ kernel that Inductor wrote, named as the kernel.

    The profiler sees these kernels only if they were compiled with TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE,
    but that would compile other code than was checked and timed. The module that Inductor loaded calls each
    kernel by a global name, which is replaced here by a function that records the range.
    """
    # Looked up and not imported, which takes a second: if it is not loaded, nothing was compiled.
    cache = sys.modules.get("torch._inductor.codecache")
    modules = [] if cache is None else getattr(cache.PyCodeCache, "modules", None)
    if modules is None:
        warnings.append("this PyTorch hides Inductor's loaded modules: its C++ kernels are not counted")
    replaced: list[tuple[ModuleType, str, Any]] = []
    for module in modules or []:
        for name, kernel in list(vars(module).items()):
            if isinstance(kernel, BuiltinFunctionType) and _INDUCTOR_KERNEL.fullmatch(name):
                replaced.append((module, name, kernel))
                setattr(module, name, _ranged(name, kernel))
    try:
        yield
    finally:
        for module, name, kernel in replaced:
            setattr(module, name, kernel)


def _ranged(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with torch.profiler.record_function(name):
            return kernel(*arguments)

    return call
