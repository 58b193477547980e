"""JAX, as a worker drives it."""

from __future__ import annotations

import contextlib
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

from fuseproof.frameworks import host_memory, xla_profile

Inputs = dict[str, Any]
Result = tuple[Any, dict[str, Any]]
Step = Callable[[Inputs, Any], Result]

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


def from_numpy(array: NDArray[np.float32], dtype: str) -> Any:
    """A new array on the device; never an alias of `array`."""
    return jax.device_put(jnp.array(array, dtype=dtype, copy=True), _device)


def to_numpy(array: Any) -> NDArray[np.float32]:
    """A copy as float32, which holds every value of the supported dtypes."""
    return np.array(array).astype(np.float32)


def dtype_name(array: Any) -> str:
    return str(array.dtype)


def copy(array: Any) -> Any:
    return jnp.array(array, copy=True)


def same(one: Any, other: Any) -> bool:
    """Whether two arrays have the same values."""
    return bool(jnp.array_equal(one, other))


def differentiable(inputs: Inputs) -> Inputs:
    return inputs


def step(
    function: Callable[..., Any],
    options: Mapping[str, object],
    pass_: str,
    compiled: str | None,
    consumes: Sequence[str] = (),
) -> Step:
    """The work of one call: forward, or forward and the gradients of all inputs.

    `jit` donates the inputs that the step consumes.
    """

    def forward(inputs: Inputs, cotangent: Any) -> Result:
        return function(**inputs, **options), {}

    def forward_backward(inputs: Inputs, cotangent: Any) -> Result:
        output, pullback = jax.vjp(lambda named: function(**named, **options), inputs)
        (gradients,) = pullback(cotangent)
        return output, gradients

    chosen = forward if pass_ == "forward" else forward_backward
    if compiled is None:
        return chosen
    if compiled != "jit":
        raise NotImplementedError(f"JAX has no compile mode {compiled!r}; use 'jit'")
    return _donating(chosen, consumes) if consumes else jax.jit(chosen)


def _donating(function: Step, consumes: Sequence[str]) -> Step:
    """The compiled step. Its first call raises NotImplementedError if XLA cannot use the donated memory."""

    def by_name(cotangent: Any, **inputs: Any) -> Result:
        return function(inputs, cotangent)

    compiled = jax.jit(by_name, donate_argnames=tuple(consumes))
    warnings.filterwarnings("error", message="Some donated buffers were not usable", category=UserWarning)

    def donate(inputs: Inputs, cotangent: Any) -> Result:
        try:
            return compiled(cotangent, **inputs)  # type: ignore[no-any-return]
        except UserWarning:
            names = ", ".join(consumes)
            raise NotImplementedError(
                f"no result has the shape of {names}, so its memory cannot be used again"
            ) from None

    donate.lower = lambda inputs, cotangent: compiled.lower(cotangent, **inputs)  # type: ignore[attr-defined]
    return donate


def synchronize(result: Result) -> None:
    jax.block_until_ready(result)


def warm_up_compiler() -> None:
    """Compile something small: the first compilation of a process takes longer, whatever it compiles."""
    jax.jit(lambda x: x + 1)(jnp.ones(8)).block_until_ready()


def reset() -> None:
    """Forget compiled code, so that memory does not grow from case to case."""
    jax.clear_caches()


@contextlib.contextmanager
def forbid_recompilation(step: Step) -> Iterator[None]:
    before = _compilations
    yield
    if _compilations != before:
        raise RuntimeError("JAX compiled again while the step was timed")


@contextlib.contextmanager
def poisoned_memory(like: NDArray[np.float32]) -> Iterator[None]:
    """Make memory that the step allocates but does not write show: huge values on the host.

    XLA gives no access to its device allocator's free blocks, and its programs cannot leave one unwritten.
    """
    with host_memory.poisoned() if _device.platform == "cpu" else contextlib.nullcontext():
        yield


def peak_memory(call: Callable[[], Result]) -> int | None:
    """Bytes one call adds at its peak: output, gradients and temporaries. None where that is unknown."""
    # On a GPU the peak of the allocator cannot be reset, so the peak of one call is unknown.
    return (
        host_memory.peak_growth(lambda: jax.block_until_ready(call())) if _device.platform == "cpu" else None
    )


def batch(call: Callable[[], Result], calls: int) -> tuple[float, float | None]:
    """Seconds that `calls` back-to-back calls and one synchronisation take on the host; no device time."""
    results = []
    started = time.perf_counter()
    for _ in range(calls):
        # Dispatch is asynchronous on the CPU too: every output must be waited for, so every one is kept.
        results.append(call())
    jax.block_until_ready(results)
    return time.perf_counter() - started, None


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
