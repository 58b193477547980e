"""JAX, as a worker drives it."""

from __future__ import annotations

import contextlib
import functools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fuseproof.frameworks import (
    Batch,
    Bound,
    Step,
    calling,
    has_own_methods,
    host_memory,
    host_view,
    jax_module,
    jax_parts,
    xla_profile,
)
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.runtimes import jax_export
from fuseproof.workloads import trees
from fuseproof.workloads.modules import State

Inputs = dict[str, Any]
# Bound before any other code is loaded, which may replace what these names stand for elsewhere.
_clock = time.perf_counter
_block = jax.block_until_ready

INDEX = "int32"

_device: Any = None

# What JAX reports whenever it traces, lowers or compiles anything, in eager code too.
_COMPILE_EVENTS = "/jax/core/compile/"
_compilations = 0


def configure(*, device: str, threads: int) -> None:
    """Choose the device; called once, before any array exists.

    The CPU client takes its threads from the process's CPU affinity, which the worker has set.
    Raises NotImplementedError if the device is not there.
    """
    global _device
    try:
        _device = jax.devices({"cuda": "gpu"}.get(device, device))[0]
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # without the platform's plugin JAX asserts, and says nothing
        reason = (str(error).splitlines() or ["this installation of JAX has no such platform"])[0]
        raise NotImplementedError(f"JAX sees no {device} here ({reason})") from None
    use_precision("float32")
    jax.monitoring.register_event_duration_secs_listener(_count_compilations)


def use_precision(dtype: str) -> None:
    """Allow TF32 products for a case in `tf32` and for no other, on a GPU or TPU too."""
    precision = "tensorfloat32" if dtype == "tf32" else "highest"
    jax.config.update("jax_default_matmul_precision", precision)


def _count_compilations(event: str, duration: float, **_: Any) -> None:
    global _compilations
    _compilations += event.startswith(_COMPILE_EVENTS)


def description() -> dict[str, Any]:
    """What a run records of this framework: version, device, threads and precision flags."""
    return {
        "version": jax.__version__,
        "device": _device.device_kind,
        "threads": len(os.sched_getaffinity(0)) if _device.platform == "cpu" else None,
        "float32_matmul_precision": str(jax.config.jax_default_matmul_precision),
    }


def state() -> dict[str, Any]:
    """Settings of JAX in this process that change what other calls compute, or how fast."""
    # The dictionary of all options, contexts of the current thread left out.
    return {f"jax {name}": value for name, value in jax.config.values.items()}


def watched() -> dict[Any, tuple[str, ...]]:
    """Modules and classes whose functions others call: replaced, they would falsify their numbers.

    Each with the names of those that the framework itself replaces in time.
    """
    places = (jax, jnp, jax.lax, jax.nn, jnp.linalg, jax.monitoring, jax.tree_util, _array_type())
    return dict.fromkeys(places, ())


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after arrays were allowed to be float64, in this process for good."""
    jax.config.update("jax_enable_x64", True)
    return function


def from_numpy(array: NDArray[Any], dtype: str) -> Any:
    """A new array on the device; never an alias of `array`."""
    return jax.device_put(jnp.array(array, dtype=dtype, copy=True), _device)


def to_numpy(array: Any, dtype: Any = np.float32) -> NDArray[Any]:
    """A copy as float32, which holds every value of the supported floating dtypes; None: as it is."""
    own = np.array(array)
    return own if dtype is None else own.astype(dtype)


def dtype_name(array: Any) -> str:
    return str(array.dtype)


def is_plain(array: Any) -> bool:
    """Whether it is an array on the device, of no class that could compute it later."""
    if type(array) is not _array_type() or has_own_methods(array):
        return False
    platforms = {each.platform for each in array.devices()}
    return not array.is_deleted() and platforms == {_device.platform}


@functools.cache
def _array_type() -> Any:
    return type(jnp.ones(1))


def copy(array: Any) -> Any:
    return jnp.array(array, copy=True)


def pool(values: NDArray[Any]) -> Any:
    """One-dimensional values in their storage dtype, from which `refill` takes windows."""
    return values if _device.platform == "cpu" else jax.device_put(values, _device)


def refill(array: Any, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """Give the array the window of `pool` at `offset`; on the CPU in its own memory, unseen by JAX.

    On another device XLA is given the old array's memory for the new one.
    shape: of the operator's input; axes: the order in which the array has its axes.
    """
    if _device.platform == "cpu":
        host_view.fill(_view(array), host_view.window(pool, offset, shape, axes))
        return array
    return _overwrite(array, pool, offset, shape, axes)


@functools.partial(jax.jit, static_argnums=(3, 4), donate_argnums=0)
def _overwrite(array: Any, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    size = int(np.prod(shape))
    return jax.lax.dynamic_slice(pool, (offset,), (size,)).reshape(shape).transpose(axes)


def holds(array: Any, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether the array still has what `refill` gave it, bit by bit."""
    own = _view(array) if _device.platform == "cpu" else np.asarray(array)
    return host_view.equal(own, host_view.window(np.asarray(pool), offset, shape, axes))


def _view(array: Any) -> NDArray[Any]:
    return host_view.at(array.unsafe_buffer_pointer(), array.shape, array.dtype)


def differentiable(inputs: Inputs, names: Sequence[str]) -> Inputs:
    return inputs


def step(
    function: Callable[..., Any],
    signature: Signature,
    pass_: str,
    compiled: str | None,
    consumes: Sequence[str] = (),
) -> Step:
    """The work of one call: forward, or forward and the gradients of the differentiable inputs.

    `jit` donates the inputs that the step consumes; its first call raises NotImplementedError if XLA cannot
    use the donated memory.
    """
    if compiled == "export":
        return jax_export.exported(step(function, signature, pass_, "jit"))
    operator = calling.positional(function, signature)
    names = signature.tensors
    chosen = [names.index(name) for name in signature.differentiable]
    starts = len(signature.cotangents)

    def forward_backward(cotangent: Any, *tensors: Any) -> Any:
        output, pullback = jax.vjp(operator, *tensors)
        return output, pullback(cotangent)

    def forward_backward_of_some(*given: Any) -> Any:
        tensors = list(given[starts:])

        def of(*leaves: Any) -> Any:
            for place, leaf in zip(chosen, leaves, strict=True):
                tensors[place] = leaf
            output = operator(*tensors)
            return signature.started(output), output

        _, pullback, output = jax.vjp(of, *(tensors[place] for place in chosen), has_aux=True)
        return output, pullback(list(given[:starts]))

    forward = pass_ == "forward"
    plain = signature.is_plain and signature.differentiable == names
    both = forward_backward if plain else forward_backward_of_some
    called: Callable[..., Any] = operator if forward else both
    if compiled is not None:
        if compiled != "jit":
            raise NotImplementedError(f"JAX has no compile mode {compiled!r}; use 'jit'")
        first = 0 if forward else starts
        donated = tuple(first + names.index(name) for name in consumes)
        called = jax.jit(called, donate_argnums=donated)

    def bind(inputs: Inputs, cotangents: Inputs) -> Bound:
        if compiled is None and forward:  # nothing hides how the function is called
            arguments = signature.filled(inputs)
            taken = calling.by_position(function, list(arguments))
            return calling.bound(function, taken, arguments, signature.options)
        return functools.partial(
            called, *(() if forward else cotangents.values()), *(inputs[name] for name in names)
        )

    unpack = trees.results if forward else lambda raw: signature.named(*raw)
    if compiled is None or not consumes:
        return Step(bind=bind, unpack=unpack)
    warnings.filterwarnings("error", message="Some donated buffers were not usable", category=UserWarning)
    return Step(bind=lambda *given: _saying_what_is_unusable(bind(*given), consumes), unpack=unpack)


def _saying_what_is_unusable(call: Bound, consumes: Sequence[str]) -> Bound:
    """The call; XLA's warning, which only compiling gives, becomes the reason for a skip."""

    def donate(*tensors: Any) -> Any:
        try:
            return call.func(*tensors)  # type: ignore[attr-defined]
        except UserWarning:
            names = ", ".join(consumes)
            raise NotImplementedError(
                f"no result has the shape of {names}, so its memory cannot be used again"
            ) from None

    donate.lower = call.func.lower  # type: ignore[attr-defined]
    return functools.partial(donate, *call.args)  # type: ignore[attr-defined]


def module(
    target: Any, fields: Mapping[str, object], dtype: str, example: Callable[[], Mapping[str, Any]]
) -> Any:
    """The module that a target is or makes, on the device; its real numbers in this dtype."""
    return jax_parts.make(target, fields, dtype, _device, example)


def initial_state(module: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Parameters and buffers of a new module, by name."""
    return jax_module.initial_state(module)


def module_step(module: Any, signature: Signature, state: State, pass_: str, compiled: str | None) -> Step:
    """The work of one call of a module: inference, or a training step.

    Raises PlainError for a module whose parameters or buffers are not those of the reference, and
    NotImplementedError for a training step without Optax.
    """
    return jax_module.step(module, signature, state, pass_, compiled)


def witness(indices: NDArray[np.int64]) -> Callable[[Any], Any]:
    """A function that takes these elements, counted in C order, out of an array."""
    if _device.platform == "cpu":
        return functools.partial(_taken, indices)
    return functools.partial(_gather, places=jax.device_put(indices.astype(np.int32), _device))


def _taken(indices: NDArray[np.int64], array: Any) -> Any:
    return np.asarray(array).reshape(-1)[indices]


@jax.jit  # type: ignore[untyped-decorator]
def _gather(array: Any, places: Any) -> Any:
    return array.reshape(-1)[places]


def synchronize(raw: Any) -> None:
    _block(raw)


def warm_up_compiler() -> None:
    """Compile something small: the first compilation of a process takes longer, whatever it compiles."""
    jax.jit(lambda x: x + 1)(jnp.ones(8)).block_until_ready()


def reset() -> None:
    """Forget compiled code, so that memory does not grow from case to case."""
    jax.clear_caches()


def compilations() -> int:
    """How often JAX has traced, lowered or compiled anything in this process, in eager code too."""
    return _compilations


def graphs() -> dict[str, int]:
    """Nothing: a function that JAX cannot trace as a whole fails."""
    return {}


@contextlib.contextmanager
def poisoned_memory(shape: tuple[int, ...]) -> Iterator[None]:
    """Make memory that the step allocates but does not write show: huge values on the host.

    XLA gives no access to its device allocator's free blocks, and its programs cannot leave one unwritten.
    """
    with host_memory.poisoned() if _device.platform == "cpu" else contextlib.nullcontext():
        yield


def peak_memory(call: Bound) -> int | None:
    """Bytes one call adds at its peak: output, gradients and temporaries. None where that is unknown."""
    # On a GPU the peak of the allocator cannot be reset, so the peak of one call is unknown.
    return host_memory.peak_growth(lambda: _block(call())) if _device.platform == "cpu" else None


def batch(calls: Iterable[Bound]) -> Batch:
    """Time back-to-back calls and one synchronisation on the host; JAX has no clock on the device."""
    clock = _clock  # whoever replaces it meanwhile replaces it for nobody
    started = clock()
    for call in calls:
        # A device runs its programs in order, so the last result comes last. A list of all would give each
        # call memory that no cache holds: up to twice the time.
        raw = call()
    _block(raw)
    return Batch(host=clock() - started, device=None, last=raw)


def single(call: Bound) -> tuple[float, float, Any]:
    """Seconds until one call returns, and until its results are there; and what it returned."""
    clock = _clock
    started = clock()
    raw = call()
    returned = clock()
    _block(raw)
    return returned - started, clock() - started, raw


@contextlib.contextmanager
def profile(folder: Path, *, memory: bool, stacks: bool) -> Iterator[dict[str, list[Any]]]:
    """Record what runs within as `jax.xplane.pb.gz`. Live capture on a TPU is not verified on hardware.

    Yields `traces`, `warnings` and `not_seen`, complete at the end. `stacks` records Python frames, which
    slows every call. XLA's allocator events are part of the trace whether or not `memory` is asked for.
    """
    found: dict[str, list[Any]] = {"traces": [], "warnings": [], "not_seen": []}
    if _device.platform == "cpu":
        found["not_seen"] += [
            "allocations: JAX takes host memory from malloc, which records nothing",
            "what happens inside an XLA kernel: calls into oneDNN and YNNPACK, and their threads",
        ]
    if not stacks:
        found["not_seen"].append("Python between the programs: record with stacks")
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = int(stacks)
    jax.profiler.start_trace(str(folder), profiler_options=options)
    try:
        yield found
    finally:
        jax.profiler.stop_trace()
    found["traces"].append(xla_profile.keep_xplane(folder, "jax.xplane.pb.gz"))


def kernel_names(names: Iterable[str]) -> list[str]:
    """Empty: all work is XLA's, whose events carry their own mark."""
    return []
