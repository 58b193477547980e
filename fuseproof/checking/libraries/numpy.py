"""NumPy, as a check drives it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.checking.libraries import Call, Cotangent, Like, Placed, margins
from fuseproof.errors import UserError
from fuseproof.frameworks import host_view
from fuseproof.workloads.tensor import numpy_dtype

NAME = "NumPy"
GRADIENTS = False


def tensor(array: NDArray[Any], dtype: str, device: str) -> NDArray[Any]:
    return np.array(array, dtype=numpy_dtype(dtype))


def array(tensor: Any) -> NDArray[Any]:
    if not isinstance(tensor, np.ndarray | np.generic):
        raise TypeError(f"{type(tensor).__name__}, not an array")
    return margins.real(np.array(tensor))


def dtype_name(tensor: Any) -> str:
    return str(tensor.dtype)


def converted(tensor: NDArray[Any], dtype: str, device: str) -> NDArray[Any]:
    if device not in ("", "cpu"):
        raise UserError(f"NumPy's arrays are on the CPU, not on {device}")
    own = numpy_dtype(dtype) if dtype else tensor.dtype
    return tensor if tensor.dtype == own else tensor.astype(own, order="K")


def device_name(tensor: Any) -> str:
    return "cpu"


def placed(tensor: NDArray[Any], *, surrounded: bool = False) -> Placed:
    """Each array keeps its strides; an array of Python objects does not get here."""
    item = tensor.itemsize
    spans = [(n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True)]
    if tensor.size == 0:
        return Placed(tensor=tensor.copy(), changed=lambda: False)
    below = -sum(span for span in spans if span < 0)
    extent = below + sum(span for span in spans if span > 0) + item
    margin = margins.size(extent)
    filled = margins.NAN_BYTE if surrounded else 0
    memory = np.full(margin + extent + margin + margins.ALIGNMENT, filled, np.uint8)
    # As far from a multiple of a cache line as the original.
    start = margin + (tensor.ctypes.data - below - memory.ctypes.data - margin) % margins.ALIGNMENT
    copy = np.ndarray(
        tensor.shape, tensor.dtype, buffer=memory.data, offset=start + below, strides=tensor.strides
    )
    if surrounded:
        margins.without_repeats(copy)[...] = margins.without_repeats(tensor)  # and NaN stays in its gaps
    else:
        memory[start : start + extent] = host_view.at(tensor.ctypes.data - below, (extent,), np.uint8)
    around = (memory[:start], memory[start + extent :])
    if surrounded and tensor.dtype.kind in "iub":
        own = np.ascontiguousarray(tensor.reshape(-1)[::-1]).view(np.uint8)
        for part in around:
            whole = len(part) - len(part) % item
            part[:whole] = np.resize(own, whole)
    before = memory.copy()

    def differs(part: slice) -> bool:
        return not np.array_equal(memory[part], before[part])

    return Placed(
        tensor=copy,
        changed=lambda: differs(slice(start, start + extent)),
        overrun=lambda: differs(slice(start)) or differs(slice(start + extent, None)),
        surrounded=surrounded,
    )


def overwrite(tensor: NDArray[Any], values: NDArray[Any]) -> bool:
    target = margins.without_repeats(tensor)
    if margins.overlaps(target.shape, target.strides, tensor.itemsize):
        return False
    target[...] = margins.first_of_repeats(values, tensor.strides).astype(tensor.dtype)
    return True


def float64() -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def in_float64(function: Any) -> Any:
    return function


def uncompiled(function: Any) -> Any | None:
    return None


def differentiate(
    call: Call, tensors: Mapping[str, Any], names: Sequence[str], cotangent: Cotangent
) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    return None


def fresh_memory(
    like: Iterable[Like], device: str, *, poison: bool, eager: bool
) -> AbstractContextManager[None]:
    return margins.fresh_on_host(like, poison=poison)


def finish(raw: Any) -> None:
    """NumPy has computed what it returns."""


def device_memory(device: str) -> Callable[[], int] | None:
    return None
