"""PyTorch, as a worker drives it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fuseproof.frameworks import host_memory

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
    return torch.tensor(array, dtype=getattr(torch, dtype), device=_device)


def to_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    """A copy as float32, which holds every value of the supported dtypes."""
    return np.array(tensor.detach().to(device="cpu", dtype=torch.float32))


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def differentiable(inputs: Inputs) -> Inputs:
    """The inputs as leaves that collect gradients, as a training step would hold its parameters."""
    return {name: tensor.requires_grad_() for name, tensor in inputs.items()}


def step(
    function: Callable[..., Any], options: Mapping[str, object], pass_: str, compiled: str | None
) -> Step:
    """The work of one call: forward, or forward and the gradients of all inputs."""
    # One line, as a user has it: `dynamic` is left alone, so the first shape is compiled as static.
    operator = function if compiled in (None, "kernel") else torch.compile(function, mode=compiled)

    def forward(inputs: Inputs, cotangent: torch.Tensor | None) -> Result:
        return operator(**inputs, **options), {}

    def forward_backward(inputs: Inputs, cotangent: torch.Tensor | None) -> Result:
        output = operator(**inputs, **options)
        gradients = torch.autograd.grad(output, tuple(inputs.values()), cotangent)
        return output, dict(zip(inputs, gradients, strict=True))

    return forward if pass_ == "forward" else forward_backward


def synchronize(result: Result) -> None:
    if _device.type == "cuda":
        torch.cuda.synchronize()


def warm_up_compiler() -> None:
    """Pay what the first compilation of a process costs whatever it compiles."""
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
