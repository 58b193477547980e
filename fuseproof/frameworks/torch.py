"""PyTorch, as a worker drives it."""

from __future__ import annotations

import builtins
import contextlib
import functools
import math
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fuseproof.frameworks import (
    Batch,
    Bound,
    Step,
    WrongResultError,
    calling,
    has_own_methods,
    host_memory,
    host_view,
    torch_graphs,
    torch_module,
    torch_profile,
)
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.runtimes import in_torch
from fuseproof.implementations import CUDA_GRAPHS
from fuseproof.workloads import trees
from fuseproof.workloads.modules import State

Inputs = dict[str, torch.Tensor]
# Bound before any other code is loaded, which may replace what these names stand for elsewhere.
_clock = time.perf_counter
_synchronize = torch.cuda.synchronize
_gradients, _take = torch.autograd.grad, torch.take

INDEX = "int64"

_device = torch.device("cpu")

# Work that is left on the device when the calls' own stream has ended: as a share of the batch, and at least
# as many seconds as an answer of the driver takes.
_LEFT_SHARE, _LEFT_SECONDS = 0.02, 50e-6


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


def state() -> dict[str, Any]:
    """Settings of PyTorch in this process that change what other calls compute, or how fast."""
    found: dict[str, Any] = {
        "torch threads": torch.get_num_threads(),
        "torch inter-op threads": torch.get_num_interop_threads(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "TF32 in products": torch.backends.cuda.matmul.allow_tf32,
        "TF32 in convolutions": torch.backends.cudnn.allow_tf32,
        "float16 sums in products": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "bfloat16 sums in products": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "cuDNN": torch.backends.cudnn.enabled,
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "cuDNN deterministic": torch.backends.cudnn.deterministic,
        "oneDNN": torch.backends.mkldnn.enabled,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "fill uninitialised memory": torch.utils.deterministic.fill_uninitialized_memory,
        "flash attention": torch.backends.cuda.flash_sdp_enabled(),
        "efficient attention": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "plain attention": torch.backends.cuda.math_sdp_enabled(),
        "autocast": torch.is_autocast_enabled(_device.type),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
    }
    if _device.type == "cuda":
        found |= {
            "CUDA device": torch.cuda.current_device(),
            "CUDA stream": torch.cuda.current_stream().cuda_stream,
            "allocator": torch.cuda.memory.get_allocator_backend(),
        }
    return found


def watched() -> dict[Any, tuple[str, ...]]:
    """Modules and classes whose functions others call: replaced, they would falsify their numbers.

    Each with the names of those that the framework itself replaces in time.
    """
    places = (
        torch.Tensor, torch._C._TensorBase, torch.nn.functional, torch.autograd, torch.cuda,
        torch.cuda.Event, torch.cuda.Stream, torch.compiler,
    )  # fmt: skip
    # The first torch.compile imports Dynamo, which wraps these.
    wrapped = {torch: ("manual_seed",), torch.nn.Module: ("__init__", "__setstate__")}
    return {**dict.fromkeys(places, ()), **wrapped}


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for float64 tensors: of a module a copy whose parameters and buffers are float64."""
    return deepcopy(function).double() if isinstance(function, torch.nn.Module) else function


def from_numpy(array: NDArray[Any], dtype: str) -> torch.Tensor:
    """A new tensor on the device; never an alias of `array`. A matrix keeps its order in memory."""
    if array.ndim == 2 and not array.flags.c_contiguous:
        return from_numpy(array.T, dtype).T
    if _device.type == "cuda":
        # The host would take seconds to round a large array.
        return torch.from_numpy(array).to(_device).to(getattr(torch, dtype))
    return torch.tensor(array, dtype=getattr(torch, dtype))


def to_numpy(tensor: torch.Tensor, dtype: Any = np.float32) -> NDArray[Any]:
    """A copy as float32, which holds every value of the supported floating dtypes; None: as it is."""
    own = tensor.dtype if dtype is None else torch.float32
    return np.asarray(tensor.detach().to(device="cpu", dtype=own, copy=True))


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def is_plain(tensor: Any) -> bool:
    """Whether it is a dense tensor on the device, of no class that could compute it later."""
    return (
        type(tensor) is torch.Tensor
        and tensor.device.type == _device.type
        and tensor.layout is torch.strided
        and not has_own_methods(tensor)
    )


def copy(tensor: torch.Tensor) -> torch.Tensor:
    """A new tensor of the same values, a leaf as the given one is."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def pool(values: NDArray[Any]) -> Any:
    """One-dimensional values in their storage dtype, from which `refill` takes windows."""
    if _device.type != "cuda":
        return values
    if values.dtype == np.float32:
        return torch.from_numpy(values).to(_device)
    # PyTorch takes no ml_dtypes: the bytes pass, and `refill` reads them in the tensor's dtype.
    return torch.from_numpy(values.view(np.uint8)).to(_device)


def refill(
    tensor: torch.Tensor, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]
) -> torch.Tensor:
    """Give the tensor the window of `pool` at `offset`, in its own memory and past its version counter.

    shape: of the operator's input; axes: the order in which the tensor has its axes.
    """
    if _device.type != "cuda":
        host_view.fill(_view(tensor, pool), host_view.window(pool, offset, shape, axes))
    else:
        tensor.data.copy_(_window(tensor, pool, offset, shape, axes))
    return tensor


def holds(
    tensor: torch.Tensor, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]
) -> bool:
    """Whether the tensor still has what `refill` gave it, bit by bit."""
    if _device.type != "cuda":
        return host_view.equal(_view(tensor, pool), host_view.window(pool, offset, shape, axes))
    expected = _window(tensor, pool, offset, shape, axes)
    if tensor.element_size() == 1:  # PyTorch does not compare 8-bit floats
        return bool(torch.equal(tensor.detach().view(torch.uint8), expected.view(torch.uint8)))
    return bool(torch.equal(tensor.detach(), expected))


def _view(tensor: torch.Tensor, pool: NDArray[Any]) -> NDArray[Any]:
    item = tensor.element_size()
    strides = [item * stride for stride in tensor.stride()]
    return host_view.at(tensor.data_ptr(), tensor.shape, pool.dtype, strides)


def _window(
    tensor: torch.Tensor, pool: torch.Tensor, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]
) -> torch.Tensor:
    values = pool if pool.dtype == tensor.dtype else pool.view(tensor.dtype)
    return values[offset : offset + math.prod(shape)].view(shape).permute(axes)


def differentiable(inputs: Inputs, names: Sequence[str]) -> Inputs:
    """The inputs, those of `names` as leaves that collect gradients, as parameters do."""
    return {name: tensor.requires_grad_() if name in names else tensor for name, tensor in inputs.items()}


def step(
    function: Callable[..., Any],
    signature: Signature,
    pass_: str,
    compiled: str | None,
    consumes: Sequence[str] = (),
) -> Step:
    """The work of one call: forward, or forward and the gradients of the differentiable inputs.

    Raises NotImplementedError for CUDA graphs without CUDA, where torch.compile would leave them out.
    """
    taken = calling.by_position(function, list(signature.arguments))
    if compiled in in_torch.MODES:
        return in_torch.step(function, taken, signature, compiled)
    operator = function if compiled in (None, "kernel") else _compile(function, compiled)
    both = _forward_backward if signature.cotangents == (trees.OUTPUT,) else _forward_backward_of_some

    def bind(inputs: Inputs, cotangents: Inputs) -> Bound:
        return calling.bound(operator, taken, signature.filled(inputs), signature.options)

    def bind_both(inputs: Inputs, cotangents: Inputs) -> Bound:
        leaves = tuple(inputs[name] for name in signature.differentiable)
        return functools.partial(both, bind(inputs, cotangents), leaves, *cotangents.values(), **of)

    of = {} if both is _forward_backward else {"started": signature.started}
    if pass_ == "forward":
        return Step(bind=bind, unpack=trees.results)
    return Step(bind=bind_both, unpack=lambda raw: signature.named(*raw))


def _forward_backward(
    forward: Bound, leaves: tuple[torch.Tensor, ...], cotangent: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    output = forward()
    return output, _gradients(output, leaves, cotangent)


def _forward_backward_of_some(
    forward: Bound,
    leaves: tuple[torch.Tensor, ...],
    *cotangents: torch.Tensor,
    started: Callable[[Any], list[Any]],
) -> tuple[Any, tuple[torch.Tensor, ...]]:
    output = forward()
    return output, _gradients(started(output), leaves, cotangents)


def _compile(function: Callable[..., Any], compiled: str) -> Callable[..., Any]:
    mode, _, shapes = compiled.partition("+")
    if shapes not in ("", "dynamic"):
        raise NotImplementedError(f"torch.compile has no shapes {shapes!r}; write mode or mode+dynamic")
    if mode in CUDA_GRAPHS and _device.type != "cuda":
        raise NotImplementedError(f"CUDA graphs need cuda; without them {mode!r} is {CUDA_GRAPHS[mode]!r}")
    # Otherwise `dynamic` keeps its default, as in a user's one line: the first shape is compiled as static.
    return torch.compile(  # type: ignore[no-any-return]
        calling.own_copy(function), mode=mode, dynamic=True if shapes else None
    )


def module(
    target: Any, fields: Mapping[str, object], dtype: str, example: Callable[[], Mapping[str, Any]]
) -> torch.nn.Module:
    """The module that a target is or makes, on the device; its parameters in this dtype."""
    return torch_module.make(target, fields, dtype, _device)


def initial_state(module: torch.nn.Module) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Parameters and buffers of a new module, by name."""
    return torch_module.initial_state(module)


def module_step(
    module: torch.nn.Module, signature: Signature, state: State, pass_: str, compiled: str | None
) -> Step:
    """The work of one call of a module: inference, or a training step.

    Raises PlainError for a module whose parameters or buffers are not those of the reference.
    """
    if compiled in in_torch.MODES:
        return torch_module.deployed_step(module, signature, state, compiled)
    call = module if compiled in (None, "kernel") else _compile(module, compiled)
    return torch_module.step(module, signature, state, pass_, call)


def witness(indices: NDArray[np.int64]) -> Callable[[torch.Tensor], Any]:
    """A function that takes these elements, counted in C order, out of a tensor on the calls' stream."""
    places = torch.from_numpy(indices).to(_device)
    return functools.partial(_taken, places)


def _taken(places: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return _take(tensor.detach(), places)


def synchronize(raw: Any) -> None:
    if _device.type == "cuda":
        _synchronize()


def warm_up_compiler() -> None:
    """Compile something small: the first compilation of a process takes longer, whatever it compiles."""
    # Of globals of its own, into which PyTorch puts what it compiled, and takes it out again some time later.
    function = types.FunctionType((lambda x: x + 1).__code__, {"__builtins__": builtins})
    torch.compile(function)(torch.ones(8, device=_device))


def reset() -> None:
    """Forget compiled code, so that one case's shapes do not make the next one dynamic."""
    torch.compiler.reset()


def compilations() -> int:
    """Frames that torch.compile has compiled in this process, those compiled again included."""
    # Looked up and not imported, which takes a second: if it is not loaded, nothing was compiled.
    utilities = sys.modules.get("torch._dynamo.utils")
    return 0 if utilities is None else int(utilities.counters["frames"]["total"])


def graphs() -> dict[str, int]:
    """What torch.compile made of what it was given, by `torch_graphs.totals`."""
    return torch_graphs.totals()


@contextlib.contextmanager
def poisoned_memory(shape: tuple[int, ...]) -> Iterator[None]:
    """Make memory that the step allocates but does not write show: NaN on a GPU, huge values on the host."""
    if _device.type == "cuda":
        # The caching allocator hands these blocks out again.
        blocks = [torch.full(shape, torch.nan, device=_device) for _ in range(4)]
        del blocks
        yield
    else:
        with host_memory.poisoned():
            yield


def peak_memory(call: Bound) -> int | None:
    """Bytes one call adds at its peak: output, gradients and temporaries."""
    if _device.type != "cuda":
        return host_memory.peak_growth(call)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def batch(calls: Iterable[Bound]) -> Batch:
    """Time back-to-back calls and one synchronisation: on the host, and on a GPU between two events.

    Raises WrongResultError if the GPU still works for
    the calls after their stream has ended.
    """
    if _device.type == "cuda":
        return _batch_on_gpu(calls)
    clock = _clock  # whoever replaces it meanwhile replaces it for nobody
    each = iter(calls)
    started = clock()
    call = next(each)
    for following in each:
        call()  # results are discarded at once, as in a user's loop; only the last are kept
        call = following
    raw = call()
    return Batch(host=clock() - started, device=None, last=raw)


def _batch_on_gpu(calls: Iterable[Bound]) -> Batch:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    clock, synchronize = _clock, _synchronize
    each = iter(calls)
    synchronize()
    started = clock()
    begin.record()
    call = next(each)
    for following in each:
        call()  # as on the CPU
        call = following
    raw = call()
    end.record()
    end.synchronize()
    ended = clock()
    synchronize()
    host = clock() - started
    if (left := started + host - ended) > max(_LEFT_SECONDS, _LEFT_SHARE * host):
        raise WrongResultError(
            f"the GPU worked for {1e6 * left:.0f} µs after the stream of the calls had ended: work on "
            "another stream was not waited for"
        )
    return Batch(host=host, device=begin.elapsed_time(end) / 1e3, last=raw)


def single(call: Bound) -> tuple[float, float, Any]:
    """Seconds until one call returns, and until its results are there; and what it returned."""
    synchronize(None)
    clock = _clock
    started = clock()
    raw = call()
    returned = clock()
    synchronize(raw)
    return returned - started, clock() - started, raw


def profile(folder: Path, *, memory: bool, stacks: bool) -> AbstractContextManager[dict[str, list[Any]]]:
    """Record what runs within, by `torch_profile.record`."""
    return torch_profile.record(folder, on_gpu=_device.type == "cuda", memory=memory, stacks=stacks)


def kernel_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that are operators which work on the CPU themselves."""
    return torch_profile.kernel_names(names)
