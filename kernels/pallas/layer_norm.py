"""Layer normalisation on TPU: y = (s − mean(s)) / √(var(s) + 1e-5) · weight + bias, s = x + residual.

x, residual, y: (rows, columns); weight, bias: (columns,); float32 or bfloat16, all of one dtype. The sum and
the statistics are float32, the variance is taken about the mean, and y is rounded once, at the store.

    dx = rstd · (d − mean(d) − x̂ · mean(d · x̂)), d = dy · weight;  dweight = Σ dy · x̂;  dbias = Σ dy over rows

Whole rows lie in VMEM, so x is read once, and the backward pass computes the statistics again from the x that
it reads anyway: only the inputs are saved for it. Source: Ba et al. 2016,
https://arxiv.org/abs/1607.06450.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from fuseproof.kernels.pallas.launch import VMEM_BYTES, call, check, keep, once

EPSILON = 1e-5

# Rows of a block; the first that fits is taken. 16 is the least that bfloat16 tiles (16 × 128) allow.
ROWS = (512, 256, 128, 64, 32, 16)


def is_legal(rows: int, columns: int) -> bool:
    """Whether a block fits: backward, x, residual, dy and dx are there twice (one is fetched while one
    is used) and about as much again is held in float32."""
    return rows * columns * 4 * 12 <= VMEM_BYTES


def choose_rows(rows: int, columns: int) -> int:
    """The largest legal block, or all rows if that is less. Raises NotImplementedError for too long a row."""
    legal = [block for block in ROWS if is_legal(block, columns)]
    if not legal:
        longest = VMEM_BYTES // (ROWS[-1] * 4 * 12)
        raise NotImplementedError(f"layer_norm: rows of {columns} do not fit in VMEM; at most {longest}")
    return min(legal[0], rows)


def normalise(s: Array) -> tuple[Array, Array]:
    """x̂ and 1/√(var + ε) of each row, float32."""
    centred = s - jnp.mean(s, axis=1, keepdims=True)
    rstd = jax.lax.rsqrt(jnp.mean(centred * centred, axis=1, keepdims=True) + EPSILON)
    return centred * rstd, rstd


def forward_kernel(
    x_ref: Any,  # (BLOCK, columns)
    *refs: Any,  # [residual: (BLOCK, columns)], weight, bias: (1, columns), y: (BLOCK, columns)
) -> None:
    *residual, weight_ref, bias_ref, y_ref = refs
    s = x_ref[...].astype(jnp.float32)
    for residual_ref in residual:
        s += residual_ref[...].astype(jnp.float32)
    normalised, _ = normalise(s)
    y = normalised * weight_ref[...].astype(jnp.float32) + bias_ref[...].astype(jnp.float32)
    y_ref[...] = y.astype(y_ref.dtype)


def backward_kernel(
    x_ref: Any,  # (BLOCK, columns)
    *refs: Any,  # [residual], weight: (1, columns), dy, dx: like x, dweight, dbias: (1, columns) float32
    rows: int,
) -> None:
    *residual, weight_ref, dy_ref, dx_ref, dweight_ref, dbias_ref = refs
    block, columns = x_ref.shape
    start = pl.program_id(0) * block
    s = x_ref[...].astype(jnp.float32)
    for residual_ref in residual:
        s += residual_ref[...].astype(jnp.float32)
    normalised, rstd = normalise(s)
    dy = dy_ref[...].astype(jnp.float32)
    d = dy * weight_ref[...].astype(jnp.float32)
    mean_d = jnp.mean(d, axis=1, keepdims=True)
    mean_dx = jnp.mean(d * normalised, axis=1, keepdims=True)
    dx_ref[...] = (rstd * (d - mean_d - normalised * mean_dx)).astype(dx_ref.dtype)

    @pl.when(pl.program_id(0) == 0)
    def _() -> None:
        dweight_ref[...] = jnp.zeros((1, columns), jnp.float32)
        dbias_ref[...] = jnp.zeros((1, columns), jnp.float32)

    # Blocks are visited in order and these two stay in VMEM from the first to the last.
    dweight_ref[...] += jnp.sum(keep(dy * normalised, 0, start, rows), axis=0, keepdims=True)
    dbias_ref[...] += jnp.sum(keep(dy, 0, start, rows), axis=0, keepdims=True)


def launch_forward(x: Array, residual: Array | None, weight: Array, bias: Array) -> Array:
    rows, columns = x.shape
    block = choose_rows(rows, columns)
    tensors = [x] if residual is None else [x, residual]
    row_spec = pl.BlockSpec((block, columns), lambda i: (i, 0))
    column_spec = pl.BlockSpec((1, columns), lambda i: (0, 0))
    result: Array = call(
        forward_kernel,
        *tensors,
        weight[None],
        bias[None],
        grid=(pl.cdiv(rows, block),),
        in_specs=[row_spec] * len(tensors) + [column_spec] * 2,
        out_specs=row_spec,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        semantics=("parallel",),
        cost=pl.CostEstimate(  # 7 per element, and 1 for the residual
            flops=rows * columns * (6 + len(tensors)),
            transcendentals=rows,
            bytes_accessed=once(*tensors, weight, bias, x),
        ),
        name="layer_norm_forward",
    )
    return result


def launch_backward(x: Array, residual: Array | None, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """dx in x's dtype; dweight, dbias: (columns,) float32."""
    rows, columns = x.shape
    block = choose_rows(rows, columns)
    tensors = [x] if residual is None else [x, residual]
    row_spec = pl.BlockSpec((block, columns), lambda i: (i, 0))
    column_spec = pl.BlockSpec((1, columns), lambda i: (0, 0))
    sums = jax.ShapeDtypeStruct((1, columns), jnp.float32)
    dx, dweight, dbias = call(
        functools.partial(backward_kernel, rows=rows),
        *tensors,
        weight[None],
        dy,
        grid=(pl.cdiv(rows, block),),
        in_specs=[row_spec] * len(tensors) + [column_spec, row_spec],
        out_specs=[row_spec, column_spec, column_spec],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype), sums, sums],
        semantics=("arbitrary",),
        cost=pl.CostEstimate(  # 13 per element, and the statistics again: 5, 1 more with a residual
            flops=rows * columns * (17 + len(tensors)),
            transcendentals=rows,
            bytes_accessed=once(*tensors, weight, dy, x, sums, sums),
        ),
        name="layer_norm_backward",
    )
    return dx, dweight[0], dbias[0]


@jax.custom_vjp
def _layer_norm(x: Array, residual: Array | None, weight: Array, bias: Array) -> Array:
    return launch_forward(x, residual, weight, bias)


def _forward(x: Array, residual: Array | None, weight: Array, bias: Array) -> tuple[Array, Any]:
    return launch_forward(x, residual, weight, bias), (x, residual, weight)


def _backward(saved: Any, dy: Array) -> tuple[Array | None, ...]:
    x, residual, weight = saved
    dx, dweight, dbias = launch_backward(x, residual, weight, dy)
    dresidual = None if residual is None else dx
    return dx, dresidual, dweight.astype(weight.dtype), dbias.astype(weight.dtype)


_layer_norm.defvjp(_forward, _backward)


def layer_norm(x: Array, weight: Array, bias: Array, *, residual: Array | None = None) -> Array:
    """(s − mean(s)) / √(var(s) + 1e-5) · weight + bias over the last axis, s = x or x + residual.

    Args:
        x: (rows, columns), float32 or bfloat16. Rows must fit in VMEM 16 at a time: up to 21,845 columns.
        weight, bias: (columns,), of x's dtype.
        residual: like x, added in float32.

    Returns shape and dtype of x. Differentiable once, in reverse. Runs on TPUs; interpreted on CPUs.
    Raises ValueError, TypeError, and NotImplementedError for rows that are too long.
    """
    tensors = {"x": x, **({} if residual is None else {"residual": residual})}
    check("layer_norm", tensors, dimensions=2)
    check("layer_norm", {"x": x, "weight": weight, "bias": bias})
    for name, tensor, shape in (("weight", weight, x.shape[1:]), ("bias", bias, x.shape[1:])):
        if tensor.shape != shape:
            raise ValueError(f"layer_norm: {name} must have shape {shape}, not {tensor.shape}")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"layer_norm: residual must have x's shape {x.shape}, not {residual.shape}")
    return _layer_norm(x, residual, weight, bias)
