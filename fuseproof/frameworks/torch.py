"""PyTorch, as a worker drives it."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fuseproof.frameworks import host_memory
from fuseproof.implementations import CUDA_GRAPHS

Inputs = dict[str, torch.Tensor]
Result = tuple[torch.Tensor, dict[str, torch.Tensor]]
Step = Callable[[Inputs, torch.Tensor | None], Result]

_device = torch.device("cpu")


def configure(*, device: str, threads: int) -> None:
    """Choose the device and the number of threads; called once, before any tensor exists.

    Raises NotImplementedError if the device is not there.
    """
    global _device
    if device == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError("PyTorch sees no CUDA GPU here")
    _device = torch.device(device)
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    use_precision("float32")


def use_precision(dtype: str) -> None:
    """Allow TF32 products for a case in `tf32` and for no other: another precision is another case."""
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    torch.backends.cudnn.allow_tf32 = dtype == "tf32"


def description() -> dict[str, Any]:
    """What a run records of this framework: version, device, threads and precision flags."""
    return {
        "version": torch.__version__,
        "device": torch.cuda.get_device_name() if _device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cuda": torch.version.cuda,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def from_numpy(array: NDArray[np.float32], dtype: str) -> torch.Tensor:
    """A new tensor on the device; never an alias of `array`. A matrix keeps its order in memory."""
    if array.ndim == 2 and not array.flags.c_contiguous:
        return from_numpy(array.T, dtype).T
    if _device.type == "cuda":
        # The host would take seconds to round a large array.
        return torch.from_numpy(array).to(_device).to(getattr(torch, dtype))
    return torch.tensor(array, dtype=getattr(torch, dtype))


def to_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    """A copy as float32, which holds every value of the supported dtypes."""
    return np.asarray(tensor.detach().to(device="cpu", dtype=torch.float32, copy=True))


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def copy(tensor: torch.Tensor) -> torch.Tensor:
    """A new tensor of the same values, a leaf as the given one is."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same values."""
    if one.element_size() == 1:  # PyTorch does not compare 8-bit floats
        one, other = one.view(torch.uint8), other.view(torch.uint8)
    return bool(torch.equal(one, other))


def differentiable(inputs: Inputs) -> Inputs:
    """The inputs as leaves that collect gradients, as a training step would hold its parameters."""
    return {name: tensor.requires_grad_() for name, tensor in inputs.items()}


def step(
    function: Callable[..., Any],
    options: Mapping[str, object],
    pass_: str,
    compiled: str | None,
    consumes: Sequence[str] = (),
) -> Step:
    """The work of one call: forward, or forward and the gradients of all inputs.

    Raises NotImplementedError for CUDA graphs without CUDA, where torch.compile would leave them out.
    """
    operator = function if compiled in (None, "kernel") else _compile(function, compiled)

    def forward(inputs: Inputs, cotangent: torch.Tensor | None) -> Result:
        return operator(**inputs, **options), {}

    def forward_backward(inputs: Inputs, cotangent: torch.Tensor | None) -> Result:
        output = operator(**inputs, **options)
        gradients = torch.autograd.grad(output, tuple(inputs.values()), cotangent)
        return output, dict(zip(inputs, gradients, strict=True))

    return forward if pass_ == "forward" else forward_backward


def _compile(function: Callable[..., Any], compiled: str) -> Callable[..., Any]:
    mode, _, shapes = compiled.partition("+")
    if shapes not in ("", "dynamic"):
        raise NotImplementedError(f"torch.compile has no shapes {shapes!r}; write mode or mode+dynamic")
    if mode in CUDA_GRAPHS and _device.type != "cuda":
        raise NotImplementedError(f"CUDA graphs need cuda; without them {mode!r} is {CUDA_GRAPHS[mode]!r}")
    # Otherwise `dynamic` keeps its default, as in a user's one line: the first shape is compiled as static.
    return torch.compile(  # type: ignore[no-any-return]
        function, mode=mode, dynamic=True if shapes else None
    )


def synchronize(result: Result) -> None:
    if _device.type == "cuda":
        torch.cuda.synchronize()


def warm_up_compiler() -> None:
    """Compile something small: the first compilation of a process takes longer, whatever it compiles."""
    torch.compile(lambda x: x + 1)(torch.ones(8, device=_device))


def reset() -> None:
    """Forget compiled code, so that one case's shapes do not make the next one dynamic."""
    torch.compiler.reset()


@contextlib.contextmanager
def forbid_recompilation(step: Step) -> Iterator[None]:
    with torch.compiler.set_stance("fail_on_recompile"):
        yield


@contextlib.contextmanager
def poisoned_memory(like: NDArray[np.float32]) -> Iterator[None]:
    """Make memory that the step allocates but does not write show: NaN on a GPU, huge values on the host."""
    if _device.type == "cuda":
        # The caching allocator hands these blocks out again.
        blocks = [torch.full(like.shape, torch.nan, device=_device) for _ in range(4)]
        del blocks
        yield
    else:
        with host_memory.poisoned():
            yield


def peak_memory(call: Callable[[], Result]) -> int | None:
    """Bytes one call adds at its peak: output, gradients and temporaries."""
    if _device.type != "cuda":
        return host_memory.peak_growth(call)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def batch(call: Callable[[], Result], calls: int) -> tuple[float, float | None]:
    """Seconds that `calls` back-to-back calls and one synchronisation take: on the host, on the device.

    The device's are between two CUDA events, None on the CPU.
    """
    if _device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        started = time.perf_counter()
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        return time.perf_counter() - started, begin.elapsed_time(end) / 1e3
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - started, None


# Names of the kernels that Inductor writes in C++, bare or as its own profiling option calls them.
_INDUCTOR_KERNEL = re.compile(r"(graph_\d+_)?cpp_\w+")
# Operators whose kernel computes nothing: they get memory, or another view of it.
_NO_WORK = re.compile(r"aten::(new_)?empty(_\w+)?|aten::(resize_|resize_as_|set_|_unsafe_view)")
# Events of the caching allocator that a memory history keeps: minutes of small steps, about 100 MB.
_HISTORY = 200_000


@contextlib.contextmanager
def profile(folder: Path, *, memory: bool, stacks: bool) -> Iterator[dict[str, list[Any]]]:
    """Record what runs within: `torch.json.gz` (Kineto) and, on a GPU with `memory`, `torch-memory.pickle`.

    Yields `traces`, `warnings` and `not_seen`, complete at the end. `stacks` records Python frames, which
    slows every call.
    """
    found: dict[str, list[Any]] = {"traces": [], "warnings": [], "not_seen": []}
    activities = [torch.profiler.ProfilerActivity.CPU]
    on_gpu = _device.type == "cuda"
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
