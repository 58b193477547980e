"""TensorFlow, as a check drives it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fuseproof.checking.libraries import Call, Cotangent, Like, Placed, margins
from fuseproof.errors import UserError
from fuseproof.frameworks import tensorflow as framework
from fuseproof.workloads import trees
from fuseproof.workloads.tensor import numpy_dtype

NAME = "TensorFlow"
GRADIENTS = True

_DEVICES = {"": "", "cpu": "/CPU:0", "cuda": "/GPU:0"}


def tensor(array: NDArray[Any], dtype: str, device: str) -> Any:
    with _on(device):
        return tf.raw_ops.DeepCopy(x=tf.constant(array.astype(numpy_dtype(dtype))))


def array(tensor: Any) -> NDArray[Any]:
    if not tf.is_tensor(tensor) and not isinstance(tensor, np.ndarray | np.generic):
        raise TypeError(f"{type(tensor).__name__}, not a tensor")
    return margins.real(np.array(tf.convert_to_tensor(tensor).numpy()))


def dtype_name(tensor: Any) -> str:
    return framework.dtype_name(tensor)


def converted(tensor: Any, dtype: str, device: str) -> Any:
    with _on(device):
        own = tf.convert_to_tensor(tensor)
        own = tf.cast(own, dtype) if dtype and own.dtype.name != dtype else own
        return tf.identity(own) if device else own


def device_name(tensor: Any) -> str:
    return "cpu" if "CPU" in tensor.device else "cuda"


def placed(tensor: Any, *, surrounded: bool = False) -> Placed:
    """A copy; TensorFlow places its tensors itself, so nothing is known to surround one."""
    copy = tf.raw_ops.DeepCopy(x=tensor)
    before = np.array(copy.numpy()).tobytes()
    # A tensor cannot be assigned to, but a custom operation may write into it.
    return Placed(tensor=copy, changed=lambda: np.asarray(copy.numpy()).tobytes() != before)


def overwrite(tensor: Any, values: NDArray[Any]) -> bool:
    return False


def float64() -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def in_float64(function: Any) -> Any:
    return framework.in_float64(function)


def uncompiled(function: Any) -> Any | None:
    return getattr(function, "python_function", None) if hasattr(function, "_jit_compile") else None


def differentiate(
    call: Call, tensors: Mapping[str, Any], names: Sequence[str], cotangent: Cotangent
) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    leaves = [tensors[name] for name in names]
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        results = trees.results(call(tensors))
    started = {name: each for name, each in results.items() if each.dtype.is_floating}
    if not started:
        return None
    given = [tf.cast(cotangent(name, tuple(each.shape)), each.dtype) for name, each in started.items()]
    found = tape.gradient(list(started.values()), leaves, output_gradients=given)
    dense = [tf.convert_to_tensor(each) if isinstance(each, tf.IndexedSlices) else each for each in found]
    if all(each is None for each in dense):
        return None
    return results, dict(zip(names, dense, strict=True)), list(started)


def fresh_memory(
    like: Iterable[Like], device: str, *, poison: bool, eager: bool
) -> AbstractContextManager[None]:
    """On the host; nothing fills the free blocks of TensorFlow's allocator of another device."""
    return margins.fresh_on_host(like, poison=poison)


def finish(raw: Any) -> None:
    if tf.config.list_logical_devices("GPU"):
        tf.test.experimental.sync_devices()


def device_memory(device: str) -> Callable[[], int] | None:
    if device == "cpu":
        return None
    return lambda: int(tf.config.experimental.get_memory_info("GPU:0")["current"])


def _on(device: str) -> AbstractContextManager[None]:
    if device not in _DEVICES:
        raise UserError(f"TensorFlow knows no device {device!r}; write cpu or cuda")
    if device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise NotImplementedError("TensorFlow sees no GPU here")
    place: AbstractContextManager[None] = tf.device(_DEVICES[device]) if device else contextlib.nullcontext()
    return place
