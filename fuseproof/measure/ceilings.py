"""The most bytes and products per second that a framework reaches on this machine with its own operations."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from fuseproof.frameworks import Bound, Framework
from fuseproof.workloads.tensor import DTYPES, tensor_dtype

_SMALLEST_COPY, _LARGEST_COPY = 1 << 16, 1 << 25
_COPIES, _ROUNDS = 8, 3
_PRODUCT_SIDES = {"cpu": (256, 768), "cuda": (2048, 8192)}
_EMULATED = 0.25  # a dtype whose products are slower than this share of another's is not tried further


def measured(framework: Framework, device: str, dtype: str) -> dict[str, Any]:
    """The ceilings. `bytes`: read and written by a copy, the best of several sizes. `flops`: of products that
    a kernel for tensors of this dtype could use.
    """
    best, size = 0.0, _SMALLEST_COPY
    while size <= _LARGEST_COPY:
        tensor = framework.from_numpy(np.zeros(size // 4, np.float32), "float32")
        copy = functools.partial(framework.copy, tensor)
        best = max(best, 2 * size / _fastest(framework, copy, _COPIES))
        size *= 8
    return {"bytes": best, "flops": _products(framework, device, dtype)}


def _products(framework: Framework, device: str, dtype: str) -> float:
    """Floating-point operations per second of the fastest product.

    In float32 too: a kernel may compute in a wider dtype than its tensors have, which is up to a hundred
    times faster where a CPU has no products of 16 bits. On a GPU in bfloat16 too, of several of which a
    kernel can make one in float32. 8 bits take half the time of 16.
    """
    halves = DTYPES[dtype].itemsize == 1
    dtypes = ["float32", "bfloat16" if halves else tensor_dtype(dtype)]
    if device == "cuda":
        dtypes.append("bfloat16")
    best = 0.0
    for each in dict.fromkeys(dtypes):
        for side in _PRODUCT_SIDES.get(device, _PRODUCT_SIDES["cpu"]):
            square = framework.from_numpy(np.full((side, side), 0.5, np.float32), each)
            rate = 2 * side**3 / _fastest(framework, functools.partial(operator.matmul, square, square), 1)
            if rate < _EMULATED * best:
                break
            best = max(best, rate)
    return 2 * best if halves else best


def _fastest(framework: Framework, call: Bound, calls: int) -> float:
    framework.batch([call])
    return min(framework.batch([call] * calls).host / calls for _ in range(_ROUNDS))
