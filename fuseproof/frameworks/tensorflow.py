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
from tensorflow.python.framework import config as configuration  # tells what tf.config only sets

from fuseproof.frameworks import (
    Batch,
    Bound,
    Step,
    calling,
    has_own_methods,
    host_memory,
    host_view,
    keras_layers,
    tensorflow_module,
    xla_profile,
)
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.runtimes import in_tensorflow
from fuseproof.workloads import trees
from fuseproof.workloads.modules import State
from fuseproof.workloads.tensor import numpy_dtype

Inputs = dict[str, Any]
# Bound before any other code is loaded, which may replace what these names stand for elsewhere.
_clock = time.perf_counter
_sync_devices = tf.test.experimental.sync_devices

INDEX = "int32"

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


def state() -> dict[str, Any]:
    """Settings of TensorFlow in this process that change what other calls compute, or how fast."""
    threading = tf.config.threading
    return {
        "tf threads": threading.get_intra_op_parallelism_threads(),
        "tf inter-op threads": threading.get_inter_op_parallelism_threads(),
        "TF32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "functions run eagerly": tf.config.functions_run_eagerly(),
        "XLA for all functions": str(tf.config.optimizer.get_jit()),
        "graph optimizer": str(tf.config.optimizer.get_experimental_options()),
        "soft placement": tf.config.get_soft_device_placement(),
        "device policy": str(tf.config.experimental.get_device_policy()),
        "synchronous": tf.config.experimental.get_synchronous_execution(),
        "executing eagerly": tf.executing_eagerly(),
        "deterministic": configuration.is_op_determinism_enabled(),
    }


def watched() -> dict[Any, tuple[str, ...]]:
    """Modules and classes whose functions others call: replaced, they would falsify their numbers.

    Each with the names of those that the framework itself replaces in time.
    """
    places = (tf, tf.math, tf.nn, tf.linalg, tf.raw_ops, tf.GradientTape, _tensor_type())
    return dict.fromkeys(places, ())


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for float64 tensors: of a Keras layer or model a copy whose weights are float64."""
    if not isinstance(function, tf.keras.layers.Layer):
        return function
    found: Callable[..., Any] = keras_layers.again(keras_layers.Description.of(function), "float64")
    return found


def from_numpy(array: NDArray[Any], dtype: str) -> Any:
    """A new tensor on the device; never an alias of `array`."""
    with tf.device(_device):
        return tf.raw_ops.DeepCopy(x=tf.constant(array.astype(numpy_dtype(dtype))))


def to_numpy(tensor: Any, dtype: Any = np.float32) -> NDArray[Any]:
    """A copy as float32, which holds every value of the supported floating dtypes; None: as it is."""
    own = np.array(tf.convert_to_tensor(tensor).numpy())
    return own if dtype is None else own.astype(dtype)


def dtype_name(tensor: Any) -> str:
    return str(tensor.dtype.name)


def is_plain(tensor: Any) -> bool:
    """Whether it is an eager tensor on the device, of no class that could compute it later."""
    return (
        type(tensor) is _tensor_type()
        and not has_own_methods(tensor)
        and tensor.device.endswith(_device.removeprefix("/"))
    )


@functools.cache
def _tensor_type() -> Any:
    return type(tf.constant(0.0))


def copy(tensor: Any) -> Any:
    with tf.device(_device):
        return tf.raw_ops.DeepCopy(x=tensor)


def pool(values: NDArray[Any]) -> Any:
    """One-dimensional values in their storage dtype, from which `refill` takes windows."""
    if _device == "/CPU:0":
        return values
    with tf.device(_device):
        return tf.identity(tf.constant(values))


def refill(tensor: Any, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """Give the tensor the window of `pool` at `offset`; on the CPU in its own memory.

    On a GPU TensorFlow lets nobody write into a tensor: it is a new one.
    shape: of the operator's input; axes: the order in which the tensor has its axes.
    """
    if _device == "/CPU:0":
        host_view.fill(_view(tensor), host_view.window(pool, offset, shape, axes))
        return tensor
    return _window(pool, offset, shape, axes)


def holds(tensor: Any, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether the tensor still has what `refill` gave it, bit by bit."""
    if _device == "/CPU:0":
        return host_view.equal(_view(tensor), host_view.window(pool, offset, shape, axes))
    return bool(tf.reduce_all(tf.equal(tensor, _window(pool, offset, shape, axes))))


def _view(tensor: Any) -> NDArray[Any]:
    """The tensor's own memory, whose address DLPack tells; TensorFlow's own array of it is a copy."""
    return host_view.at_dlpack(
        tf.experimental.dlpack.to_dlpack(tensor), tensor.shape, tensor.dtype.as_numpy_dtype
    )


def _window(pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    with tf.device(_device):
        values = tf.reshape(pool[offset : offset + int(np.prod(shape))], shape)
        return tf.identity(tf.transpose(values, axes))


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

    Operations run where their inputs lie; a worker sees no device but its own.
    """
    operator = calling.positional(function, signature)
    names = signature.tensors
    if compiled in in_tensorflow.MODES:
        return in_tensorflow.step(operator, names, compiled)
    chosen = [names.index(name) for name in signature.differentiable]
    starts = len(signature.cotangents)
    one = signature.cotangents == (trees.OUTPUT,)

    def forward_backward(*given: Any) -> Any:
        cotangents, tensors = given[:starts], given[starts:]
        leaves = tensors if len(chosen) == len(names) else [tensors[place] for place in chosen]
        with tf.GradientTape() as tape:
            tape.watch(leaves)
            output = operator(*tensors)
        targets = output if one else signature.started(output)
        started = cotangents[0] if one else list(cotangents)
        gradients = tape.gradient(targets, leaves, output_gradients=started)
        # The gradient of a gather is a list of rows; others add them up within the call, so this does too.
        return output, [
            tf.convert_to_tensor(each) if isinstance(each, tf.IndexedSlices) else each for each in gradients
        ]

    forward = pass_ == "forward"
    called: Callable[..., Any] = operator if forward else forward_backward
    if compiled is not None:
        if compiled not in ("function", "xla"):
            raise NotImplementedError(f"TensorFlow has no compile mode {compiled!r}; use 'function' or 'xla'")
        # jit_compile=None would let TensorFlow decide for itself on some devices.
        # A user's function names its tensors; TensorFlow binds a `*tensors` faster, by 2 % of 400 µs.
        parameters = [calling.identifier(name) for name in names]
        if not forward:
            parameters = [f"cotangent_{place}" for place in range(starts)] + parameters
        called = tf.function(calling.with_parameters(called, parameters), jit_compile=compiled == "xla")

    def bind(inputs: Inputs, cotangents: Inputs) -> Bound:
        if compiled is None and forward:  # nothing hides how the function is called
            arguments = signature.filled(inputs)
            taken = calling.by_position(function, list(arguments))
            return calling.bound(function, taken, arguments, signature.options)
        return functools.partial(
            called, *(() if forward else cotangents.values()), *(inputs[name] for name in names)
        )

    return Step(bind=bind, unpack=trees.results if forward else lambda raw: signature.named(*raw))


def module(
    target: Any, fields: Mapping[str, object], dtype: str, example: Callable[[], Mapping[str, Any]]
) -> Any:
    """The layer, model or tf.Module that a target is or makes, built; its weights in this dtype."""
    with tf.device(_device):
        return tensorflow_module.make(target, fields, dtype, example)


def initial_state(module: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Parameters and buffers of a new module, by name."""
    return tensorflow_module.initial_state(module)


def module_step(module: Any, signature: Signature, state: State, pass_: str, compiled: str | None) -> Step:
    """The work of one call of a module: inference, or a training step.

    Raises PlainError for a module whose parameters or buffers are not those of the reference.
    """
    with tf.device(_device):
        return tensorflow_module.step(module, signature, state, pass_, compiled)


def witness(indices: NDArray[np.int64]) -> Callable[[Any], Any]:
    """A function that takes these elements, counted in C order, out of a tensor."""
    if _device == "/CPU:0":
        return functools.partial(_taken, indices)
    with tf.device(_device):
        return functools.partial(_gather, tf.constant(indices))


def _taken(indices: NDArray[np.int64], tensor: Any) -> Any:
    return _view(tensor).reshape(-1)[indices]


def _gather(places: Any, tensor: Any) -> Any:
    return tf.gather(tf.reshape(tensor, [-1]), places)


def synchronize(raw: Any) -> None:
    if _device != "/CPU:0":
        _sync_devices()


def warm_up_compiler() -> None:
    """Compile something small: the first compilation of a process takes longer, whatever it compiles."""
    with tf.device(_device):
        for jit_compile in (False, True):
            tf.function(lambda x: x + 1, jit_compile=jit_compile)(tf.ones(8))


def reset() -> None:
    """Nothing to forget: a tf.function goes away with its last reference."""


def compilations() -> int:
    """Graphs that TensorFlow has built in this process: functions that were traced.

    Not seen: XLA compiles a traced function of unknown shapes again for each shape and reports nothing.
    """
    return _graphs


def graphs() -> dict[str, int]:
    """Nothing: `tf.function` makes one graph of a function, or fails."""
    return {}


@contextlib.contextmanager
def poisoned_memory(shape: tuple[int, ...]) -> Iterator[None]:
    """Make memory that the step allocates but does not write show: huge values on the host."""
    with host_memory.poisoned() if _device == "/CPU:0" else contextlib.nullcontext():
        yield


def peak_memory(call: Bound) -> int | None:
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


def batch(calls: Iterable[Bound]) -> Batch:
    """Time back-to-back calls and one synchronisation on the host; TensorFlow has no clock on the device."""
    clock = _clock  # whoever replaces it meanwhile replaces it for nobody
    each = iter(calls)
    started = clock()
    call = next(each)
    for following in each:
        call()  # results are discarded at once, as in a user's loop; only the last are kept
        call = following
    raw = call()
    synchronize(raw)
    return Batch(host=clock() - started, device=None, last=raw)


def single(call: Bound) -> tuple[float, float, Any]:
    """Seconds until one call returns, and until its results are there; and what it returned."""
    clock = _clock
    started = clock()
    raw = call()
    returned = clock()
    synchronize(raw)
    return returned - started, clock() - started, raw


# Operations that compute no elements: they pass a tensor on, return its shape, or call a function, whose own
# operations follow below. Names with two leading underscores are functions too.
_NO_WORK = frozenset(
    (
        *("Const", "Empty", "NoOp", "Placeholder", "ReadVariableOp", "VarHandleOp", "_Arg", "_Retval"),
        "_EagerConst",
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
