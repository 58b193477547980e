"""What surrounds a tensor in memory, and what fresh memory holds: arithmetic that the libraries share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.checking.libraries import Like
from fuseproof.frameworks import host_memory
from fuseproof.workloads.tensor import numpy_dtype

# A cache line of the host, and what Triton takes for aligned is less.
ALIGNMENT = 64
# Bytes on either side of a tensor: at least so many, more for a large one, so that a read that is off by a
# row or a block still lands there. A multiple of the alignment of a GPU's allocations.
_LEAST, _MOST = 1 << 14, 1 << 20
_GRAIN = 512

# Blocks of each size that are filled and freed before a call: malloc, NumPy's cache and PyTorch's allocator
# hand out last what was freed first.
_BLOCKS = 6
# Every byte set is NaN in every dtype of real numbers.
NAN_BYTE = 0xFF
_POISON_BYTE = 0x7F  # as frameworks.host_memory: 0x7f7f7f7f is 3.4e38 in float32 and bfloat16
_HUGE = 3e38


def size(extent: int) -> int:
    """Bytes on either side of a tensor of so many."""
    return -(-max(_LEAST, min(_MOST, extent)) // _GRAIN) * _GRAIN


def real(array: NDArray[Any]) -> NDArray[Any]:
    """Real numbers as float64, which holds every value of the narrower ones; integers as they are.

    Raises TypeError for anything else.
    """
    if array.dtype.kind in "iub":
        return array
    if array.dtype.kind == "c" or array.dtype.kind in "OSUMm":
        raise TypeError(f"an array of {array.dtype}; real numbers and integers are checked")
    return array.astype(np.float64)  # also ml_dtypes' kinds, which NumPy does not know


def without_repeats(array: NDArray[Any]) -> NDArray[Any]:
    """The first element of every axis whose stride is zero: a view that has each element once."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def first_of_repeats(values: NDArray[Any], strides: Sequence[int]) -> NDArray[Any]:
    """Of values for a tensor with these strides, those that it can hold."""
    return values[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)]


def overlaps(shape: Sequence[int], strides: Sequence[int], item: int = 1) -> bool:
    """Whether two elements may share memory; not if each axis steps over all that shorter strides reach."""
    reach = item
    for stride, extent in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach = stride * extent
    return False


def fill_host(like: Iterable[Like], *, poison: bool) -> None:
    """Fill and free memory as large as the outputs, so that a call's own begins with these values.

    NumPy hands small blocks out of a cache of its own, which malloc's filling does not reach. In the first 16
    bytes of a small block that malloc hands out again its own pointers have been.
    """
    for shape, dtype in like:
        own = numpy_dtype(dtype)
        value = np.nan if own.kind not in "iub" else np.frombuffer(bytes([_POISON_BYTE]) * 8, own)[0]
        blocks = [np.full(shape, value if poison else 1, own) for _ in range(_BLOCKS)]
        del blocks


@contextlib.contextmanager
def fresh_on_host(like: Iterable[Like], *, poison: bool) -> Iterator[None]:
    """Within, what malloc hands out, and memory as large as the outputs, begins with these values."""
    fill_host(like, poison=poison)
    with host_memory.poisoned() if poison else contextlib.nullcontext():
        yield


def is_poison(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where values are what fresh memory was filled with."""
    if values.dtype.kind == "b":
        return np.zeros(values.shape, bool)
    if values.dtype.kind in "iu":
        filled = np.frombuffer(bytes([_POISON_BYTE]) * values.itemsize, values.dtype)[0]
        found: NDArray[np.bool_] = (values == filled) | (values == np.iinfo(values.dtype).max)
        return found
    with np.errstate(invalid="ignore"):
        finite: NDArray[np.bool_] = ~(np.abs(values) < _HUGE)
    return finite
