"""TensorFlow, as a worker drives it."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fuseproof.frameworks import host_memory, xla_profile
from fuseproof.workloads.operators import DTYPES

Inputs = dict[str, Any]
Result = tuple[Any, dict[str, Any]]
Step = Callable[[Inputs, Any], Result]

_device = "/CPU:0"
_graphs = 0  # that TensorFlow has built in this process; each is a function that was traced


def configure(*, device: str, threads: int) -> None:
    """Choose the device and the number of threads; called once, before any tensor exists.

    Raises NotImplementedError if the device is not there.
    """
    global _device
    if device == "cuda":
        if not tf.config.list_physical_devices("GPU"):
            raise NotImplementedError("TensorFlow sees no GPU here")
        _device = "/GPU:0"
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    use_precision("float32")
    _count_graphs()


def use_precision(dtype: str) -> None:
    """Allow TF32 products for a case in `tf32` and for no other."""
    tf.config.experimental.enable_tensor_float_32_execution(dtype == "tf32")


def _count_graphs() -> None:
    """Count all graphs: a tf.function counts its own, but not those of functions that eager code calls."""
    graph = tf.__internal__.FuncGraph
    build = graph.__init__

    @functools.wraps(build)
    def counted(*arguments: Any, **named: Any) -> None:
        global _graphs
        _graphs += 1
        build(*arguments, **named)

    graph.__init__ = counted


def description() -> dict[str, Any]:
    """What a run records of this framework: version, device, threads and precision flags."""
    return {
        "version": tf.__version__,
        "device": _device.strip("/").split(":")[0].lower(),
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
    }


def from_numpy(array: NDArray[np.float32], dtype: str) -> Any:
    """A new tensor on the device; never an alias of `array`."""
    with tf.device(_device):
        return tf.identity(tf.constant(array.astype(DTYPES[dtype])))


def to_numpy(tensor: Any) -> NDArray[np.float32]:
    """A copy as float32, which holds every value of the supported dtypes."""
    return np.array(tf.convert_to_tensor(tensor).numpy()).astype(np.float32)


def dtype_name(tensor: Any) -> str:
    return str(tensor.dtype.name)


def copy(tensor: Any) -> Any:
    with tf.device(_device):
        return tf.raw_ops.DeepCopy(x=tensor)


def same(one: Any, other: Any) -> bool:
    """Whether two tensors have the same values."""
    return bool(tf.reduce_all(tf.equal(one, other)))


def differentiable(inputs: Inputs) -> Inputs:
    return inputs


def step(
    function: Callable[..., Any],
    options: Mapping[str, object],
    pass_: str,
    compiled: str | None,
    consumes: Sequence[str] = (),
) -> Step:
    """The work of one call: forward, or forward and the gradients of all inputs."""

    def forward(inputs: Inputs, cotangent: Any) -> Result:
        with tf.device(_device):
            return function(**inputs, **options), {}

    def forward_backward(inputs: Inputs, cotangent: Any) -> Result:
        with tf.device(_device):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output = function(**inputs, **options)
            return output, tape.gradient(output, inputs, output_gradients=cotangent)

    chosen = forward if pass_ == "forward" else forward_backward
    if compiled is None:
        return chosen
    if compiled not in ("function", "xla"):
        raise NotImplementedError(f"TensorFlow has no compile mode {compiled!r}; use 'function' or 'xla'")
    # jit_compile=None would let TensorFlow decide for itself on some devices.
    return tf.function(chosen, jit_compile=compiled == "xla")  # type: ignore[no-any-return]


def synchronize(result: Result) -> None:
    if _device != "/CPU:0":
        tf.test.experimental.sync_devices()


def warm_up_compiler() -> None:
    """Compile something small: the first compilation of a process takes longer, whatever it compiles."""
    with tf.device(_device):
        for jit_compile in (False, True):
            tf.function(lambda x: x + 1, jit_compile=jit_compile)(tf.ones(8))


def reset() -> None:
    """Nothing to forget: a tf.function goes away with its last reference."""


@contextlib.contextmanager
def forbid_recompilation(step: Step) -> Iterator[None]:
    # Not seen: XLA compiles a traced function of unknown shapes again for each shape and reports nothing.
    before = _graphs
    yield
    if _graphs != before:
        raise RuntimeError("TensorFlow traced again while the step was timed")


@contextlib.contextmanager
def poisoned_memory(like: NDArray[np.float32]) -> Iterator[None]:
    """Make memory that the step allocates but does not write show: huge values on the host."""
    with host_memory.poisoned() if _device == "/CPU:0" else contextlib.nullcontext():
        yield


def peak_memory(call: Callable[[], Result]) -> int | None:
    """Bytes one call adds at its peak: output, gradients and temporaries, by TensorFlow's own allocator."""
    device = _device.strip("/")
    call()  # a first call may allocate memory for good, which is not its peak
    try:
        tf.config.experimental.reset_memory_stats(device)
    except ValueError:
        # Without oneDNN the CPU allocator keeps no statistics, and no pool that would hide the growth.
        return host_memory.peak_growth(call)
    before = tf.config.experimental.get_memory_info(device)["current"]
    result = call()
    synchronize(result)
    return int(tf.config.experimental.get_memory_info(device)["peak"] - before)


def batch(call: Callable[[], Result], calls: int) -> tuple[float, float | None]:
    """Seconds that `calls` back-to-back calls and one synchronisation take on the host; no device time."""
    started = time.perf_counter()
    for _ in range(calls):
        result = call()
    synchronize(result)
    return time.perf_counter() - started, None


# Operations that compute no elements: they pass a tensor on, return its shape, or call a function, whose own
# operations follow below. Names with two leading underscores are functions too.
_NO_WORK = frozenset(
    (
        *("Const", "Empty", "NoOp", "Placeholder", "ReadVariableOp", "VarHandleOp", "_Arg", "_Retval"),
        *("Bitcast", "EnsureShape", "ExpandDims", "Identity", "IdentityN", "PreventGradient", "Reshape"),
        *("Snapshot", "Squeeze", "StopGradient", "_Send", "_Recv", "_HostSend", "_HostRecv"),
        *("BroadcastArgs", "BroadcastGradientArgs", "Rank", "Shape", "ShapeN", "Size"),
        *("Case", "If", "While", "StatelessCase", "StatelessIf", "StatelessWhile"),
        *("PartitionedCall", "StatefulPartitionedCall"),
    )
)
_EAGER = "EagerLocalExecute: "


@contextlib.contextmanager
def profile(folder: Path, *, memory: bool, stacks: bool) -> Iterator[dict[str, list[Any]]]:
    """Record what runs within as `tensorflow.xplane.pb.gz`.

    Yields `traces`, `warnings` and `not_seen`, complete at the end. `stacks` records Python frames, which
    slows every call. Allocator events are part of the trace whether or not `memory` is asked for.
    """
    found: dict[str, list[Any]] = {"traces": [], "warnings": [], "not_seen": []}
    if _device == "/CPU:0":
        found["not_seen"] += [
            "what happens inside an operation: calls into oneDNN and Eigen, and their threads",
            "small allocations, which oneDNN's allocator does not report",
        ]
    if not stacks:
        found["not_seen"].append("Python between the operations: record with stacks")
    options = tf.profiler.experimental.ProfilerOptions(python_tracer_level=int(stacks))
    tf.profiler.experimental.start(str(folder), options=options)
    try:
        yield found
    finally:
        tf.profiler.experimental.stop()
    found["traces"].append(xla_profile.keep_xplane(folder, "tensorflow.xplane.pb.gz"))


def kernel_names(names: Iterable[str]) -> list[str]:
    """Those of the slices `names` that are an operation's work on the CPU, run eagerly or by the executor.

    Left out are operations that compute no elements, and the steps of the runtime around them. Events of
    XLA's programs carry their own mark.
    """
    return [name for name in names if _is_work(name.removeprefix(_EAGER))]


def _is_work(operation: str) -> bool:
    if operation in _NO_WORK or operation.startswith("__"):
        return False
    # The executor's own rewrites, such as _MklMatMul, are not public operations.
    return hasattr(tf.raw_ops, operation) or (operation.startswith("_") and operation.isidentifier())
