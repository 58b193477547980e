"""Shared by the Pallas kernels: calls on a TPU or interpreted on a CPU, tiles, precision, checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

FLOATS = ("float32", "bfloat16")

# A TPU register holds 8 sublanes of 128 lanes (float32); the matrix unit is 128 or 256 wide. Blocks whose
# last two extents are multiples of 128, or the whole axis, are legal and aligned for every dtype here.
LANES = 128

# VMEM that the compiler gives a kernel by default: v5e's, the smallest.
VMEM_BYTES = 16 * 2**20


def call(
    kernel: Callable[..., None],
    *operands: Array,
    grid: tuple[int, ...],
    in_specs: Sequence[pl.BlockSpec],
    out_specs: Any,
    out_shape: Any,
    semantics: tuple[str, ...],
    cost: pl.CostEstimate,
    name: str,
    scratch: Sequence[Any] = (),
) -> Any:
    """One pallas_call: compiled where it is lowered for a TPU, interpreted (correctness only) for a CPU.

    The platform is that of the lowering, not the default backend's: ahead of time, a machine with CPUs only
    lowers for a TPU.
    """

    def on(interpret: bool) -> Callable[..., Any]:
        return pl.pallas_call(  # type: ignore[no-any-return]
            kernel,
            grid=grid,
            in_specs=in_specs,
            out_specs=out_specs,
            out_shape=out_shape,
            scratch_shapes=scratch,
            compiler_params=pltpu.CompilerParams(dimension_semantics=semantics),
            cost_estimate=cost,
            interpret=interpret,
            name=name,
        )

    return jax.lax.platform_dependent(*operands, tpu=on(False), cpu=on(True))


def dot(a: Array, b: Array, contract: tuple[int, int]) -> Array:
    """The product of two tiles over axis `contract[0]` of a and `contract[1]` of b, float32.

    float32 operands are multiplied as IEEE float32 (six bfloat16 passes of the matrix unit), whatever the
    process-wide default is: precision is part of what is computed.
    """
    exact = a.dtype == jnp.float32
    return jax.lax.dot_general(
        a,
        b,
        (((contract[0],), (contract[1],)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )


def tile(extent: int, largest: int) -> int:
    """The block along an axis: the whole axis if it is no longer than `largest`, a multiple of 128.

    Else the longest multiple of 128 up to `largest` that leaves no ragged block, if one of at least half of
    `largest` does, else `largest`.
    """
    if extent <= largest:
        return extent
    even = (size for size in range(largest, largest // 2 - 1, -LANES) if extent % size == 0)
    return next(even, largest)


def keep(x: Array, axis: int, start: Any, extent: int) -> Array:
    """x with zeros at and beyond `extent`, where its index along `axis` begins at `start`.

    Blocks that reach over the edge hold arbitrary values there, possibly NaN, and NaN × 0 is NaN.
    """
    if extent % x.shape[axis] == 0:
        return x
    index = start + jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
    return jnp.where(index < extent, x, jnp.zeros_like(x))


def once(*tensors: Any) -> int:
    """Bytes when every tensor is moved once, as XLA counts its own instructions."""
    return sum(int(np.prod(t.shape)) * jnp.dtype(t.dtype).itemsize for t in tensors)


def check(operator: str, tensors: Mapping[str, Array], *, dimensions: int | None = None) -> None:
    """Raise TypeError or ValueError unless all are of one supported dtype and have `dimensions` axes."""
    dtypes = {name: str(jnp.asarray(tensor).dtype) for name, tensor in tensors.items()}
    first, dtype = next(iter(dtypes.items()))
    if dtype not in FLOATS:
        raise TypeError(f"{operator}: {first} is {dtype}; the kernel takes {' and '.join(FLOATS)}")
    for name, other in dtypes.items():
        if other != dtype:
            raise TypeError(f"{operator}: {name} is {other} but {first} is {dtype}; cast one of them")
    for name, tensor in tensors.items():
        if dimensions is not None and tensor.ndim != dimensions:
            raise ValueError(f"{operator}: {name} must have {dimensions} axes, not shape {tensor.shape}")
        if 0 in tensor.shape:
            raise ValueError(f"{operator}: {name} has an extent of 0: {tensor.shape}")
