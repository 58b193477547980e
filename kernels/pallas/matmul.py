"""Matrix product on TPU with its epilogue fused: c = activation(a b + bias).

a: (m, k), b: (k, n), bias: (n,), c: (m, n); float32 or bfloat16, all of one dtype, products accumulated in
float32.

    d = dc · activation′(a b + bias);  da = d bᵀ,  db = aᵀ d,  dbias = Σ d over rows

Tiles of the output are visited with k innermost, so that a float32 accumulator stays in VMEM; the transposed
operands of the backward pass are read in place. Backward keeps a b + bias, in the dtype of c;
the activation's derivative is elementwise and left to XLA, which fuses it with the sum for dbias.

Tiling: "Matrix multiplication" in the Pallas documentation,
https://docs.jax.dev/en/latest/pallas/tpu/matmul.html. GELU, tanh form: Hendrycks and Gimpel 2016,
https://arxiv.org/abs/1606.08415.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from fuseproof.kernels.pallas.launch import VMEM_BYTES, call, check, dot, keep, once, tile


@dataclass(frozen=True, kw_only=True)
class Config:
    """The largest block along each axis, for elements of `itemsize` bytes."""

    itemsize: int
    BLOCK_M: int
    BLOCK_N: int
    BLOCK_K: int


# The first legal config is taken. Larger tiles read the operands less often: a is read n / BLOCK_N times.
# Not yet measured.
CONFIGS = (
    Config(itemsize=2, BLOCK_M=512, BLOCK_N=1024, BLOCK_K=1024),
    Config(itemsize=2, BLOCK_M=512, BLOCK_N=512,  BLOCK_K=1024),
    Config(itemsize=4, BLOCK_M=512, BLOCK_N=512,  BLOCK_K=512),
    Config(itemsize=4, BLOCK_M=256, BLOCK_N=256,  BLOCK_K=512),
)  # fmt: skip


def is_legal(config: Config, itemsize: int) -> bool:
    """Whether the kernel fits: operands and two outputs twice, one fetched or written while one is used, and
    float32 for the accumulator and the epilogue."""
    m, n, k = config.BLOCK_M, config.BLOCK_N, config.BLOCK_K
    tiles = 2 * itemsize * (m * k + k * n + 2 * m * n) + 2 * 4 * m * n
    return config.itemsize == itemsize and tiles <= VMEM_BYTES


@functools.cache
def choose_config(itemsize: int) -> Config:
    """The first legal config."""
    return next(config for config in CONFIGS if is_legal(config, itemsize))


def apply(activation: str | None, x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True) if activation == "gelu_tanh" else x


_SLOPE = math.sqrt(2 / math.pi)


def derivative(x: Array) -> Array:
    """The derivative of GELU's tanh form, x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    t = jnp.tanh(_SLOPE * (x + 0.044715 * x * x * x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _SLOPE * (1 + 3 * 0.044715 * x * x)


def product_kernel(
    a_ref: Any,  # (BLOCK_M, BLOCK_K), or (BLOCK_K, BLOCK_M) if it is contracted over axis 0
    b_ref: Any,  # (BLOCK_K, BLOCK_N), or (BLOCK_N, BLOCK_K) if it is contracted over axis 1
    *refs: Any,  # [bias: (1, BLOCK_N)], c: (BLOCK_M, BLOCK_N), [before the activation: like c], accumulator
    contract: tuple[int, int],
    extent: int,  # of the contracted axis
    has_bias: bool,
    activation: str | None,
) -> None:
    bias_refs, (c_ref, *before_refs, accumulator_ref) = refs[:has_bias], refs[has_bias:]
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _() -> None:
        accumulator_ref[...] = jnp.zeros_like(accumulator_ref)

    start = step * a_ref.shape[contract[0]]
    a = keep(a_ref[...], contract[0], start, extent)
    b = keep(b_ref[...], contract[1], start, extent)
    accumulator_ref[...] += dot(a, b, contract)

    @pl.when(step == pl.num_programs(2) - 1)
    def _() -> None:
        x = accumulator_ref[...]
        for bias_ref in bias_refs:
            x += bias_ref[...].astype(jnp.float32)
        for before_ref in before_refs:
            before_ref[...] = x.astype(before_ref.dtype)
        c_ref[...] = apply(activation, x).astype(c_ref.dtype)


def launch_product(
    a: Array,
    b: Array,
    bias: Array | None = None,
    *,
    contract: tuple[int, int] = (1, 0),
    activation: str | None = None,
    keep_before: bool = False,
) -> list[Array]:
    """[c], or [c, a b + bias] with `keep_before`; a and b are contracted over these of their axes."""
    m, k, n = a.shape[1 - contract[0]], a.shape[contract[0]], b.shape[1 - contract[1]]
    config = choose_config(a.dtype.itemsize)
    block_m, block_n, block_k = (
        tile(extent, largest)
        for extent, largest in ((m, config.BLOCK_M), (n, config.BLOCK_N), (k, config.BLOCK_K))
    )
    a_spec = (
        pl.BlockSpec((block_m, block_k), lambda i, j, step: (i, step))
        if contract[0] == 1
        else pl.BlockSpec((block_k, block_m), lambda i, j, step: (step, i))
    )
    b_spec = (
        pl.BlockSpec((block_k, block_n), lambda i, j, step: (step, j))
        if contract[1] == 0
        else pl.BlockSpec((block_n, block_k), lambda i, j, step: (j, step))
    )
    bias_specs = [] if bias is None else [pl.BlockSpec((1, block_n), lambda i, j, step: (0, j))]
    biases = [] if bias is None else [bias[None]]
    outputs = [jax.ShapeDtypeStruct((m, n), a.dtype)] * (1 + keep_before)
    result: list[Array] = call(
        functools.partial(
            product_kernel, contract=contract, extent=k, has_bias=bias is not None, activation=activation
        ),
        a,
        b,
        *biases,
        grid=(pl.cdiv(m, block_m), pl.cdiv(n, block_n), pl.cdiv(k, block_k)),
        in_specs=[a_spec, b_spec, *bias_specs],
        out_specs=[pl.BlockSpec((block_m, block_n), lambda i, j, step: (i, j))] * len(outputs),
        out_shape=outputs,
        scratch=[pltpu.VMEM((block_m, block_n), jnp.float32)],
        semantics=("parallel", "parallel", "arbitrary"),
        cost=pl.CostEstimate(
            flops=2 * m * n * k,
            transcendentals=0 if activation is None else m * n,
            bytes_accessed=once(a, b, *biases, *outputs),
        ),
        name="matmul",
    )
    return result


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _matmul(a: Array, b: Array, bias: Array | None, activation: str | None) -> Array:
    return launch_product(a, b, bias, activation=activation)[0]


def _forward(a: Array, b: Array, bias: Array | None, activation: str | None) -> tuple[Array, Any]:
    c, *before = launch_product(a, b, bias, activation=activation, keep_before=activation is not None)
    return c, (a, b, bias, *before)


def _backward(activation: str | None, saved: Any, dc: Array) -> tuple[Array | None, ...]:
    a, b, bias, *before = saved
    d = dc.astype(jnp.float32)
    for x in before:
        d = d * derivative(x.astype(jnp.float32))
    dbias = None if bias is None else d.sum(axis=0).astype(bias.dtype)
    d = d.astype(dc.dtype)
    (da,) = launch_product(d, b, contract=(1, 1))
    (db,) = launch_product(a, d, contract=(0, 0))
    return da, db, dbias


_matmul.defvjp(_forward, _backward)


def matmul(a: Array, b: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    """activation(a b + bias).

    Args:
        a: (m, k), float32 (IEEE) or bfloat16; any extents.
        b: (k, n), of a's dtype.
        bias: (n,), of a's dtype.
        activation: None or `gelu_tanh`.

    Returns (m, n) of a's dtype. Differentiable once, in reverse. Runs on TPUs; interpreted on CPUs.
    Raises ValueError and TypeError.
    """
    check("matmul", {"a": a, "b": b}, dimensions=2)
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: a of shape {a.shape} and b of shape {b.shape} do not multiply")
    if bias is not None:
        check("matmul", {"a": a, "bias": bias})
        if bias.shape != b.shape[1:]:
            raise ValueError(f"matmul: bias must have shape {b.shape[1:]}, not {bias.shape}")
    if activation not in (None, "gelu_tanh"):
        raise ValueError(f"matmul: unknown activation {activation!r}; there is 'gelu_tanh'")
    return _matmul(a, b, bias, activation)
