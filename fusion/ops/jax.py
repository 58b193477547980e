"""The operators in JAX, as a user writes them (jax.nn where it has a call, else jax.numpy), and composed.

Shapes are those of fuseproof.workloads.operators, but `attention` takes JAX's own order of axes:
(batch, length, heads, head dim).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.workloads.operators.layer_norm import EPSILON
from fuseproof.workloads.operators.rms_norm import EPSILON as RMS_EPSILON

# The dtype of products of 8-bit floats; other products have the dtype of their operands.
_WIDER = {jnp.dtype(jnp.float8_e4m3fn): jnp.bfloat16}


def attention(q: Array, k: Array, v: Array, *, causal: bool = False) -> Array:
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal)


def attention_composed(q: Array, k: Array, v: Array, *, causal: bool = False) -> Array:
    if q.shape[1] != k.shape[1]:
        share = q.shape[1] // k.shape[1]
        k, v = jnp.repeat(k, share, axis=1), jnp.repeat(v, share, axis=1)
    # The softmax in float32, as jax.nn.dot_product_attention has it.
    scores = (q @ k.swapaxes(-2, -1)).astype(jnp.float32) / math.sqrt(q.shape[-1])
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], dtype=bool)), scores, -jnp.inf)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(v.dtype) @ v


def matmul(a: Array, b: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    product = jnp.matmul(a, b, preferred_element_type=_WIDER.get(a.dtype))
    if bias is not None:
        product = product + bias
    return jax.nn.gelu(product, approximate=True) if activation == "gelu_tanh" else product


def matmul_composed(a: Array, b: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    product = a @ b
    if bias is not None:
        product = product + bias
    if activation == "gelu_tanh":
        inner = math.sqrt(2 / math.pi) * (product + 0.044715 * product * product * product)
        product = 0.5 * product * (1 + jnp.tanh(inner))
    return product


def layer_norm(x: Array, weight: Array, bias: Array, *, residual: Array | None = None) -> Array:
    # Statistics in float32, as flax.linen.LayerNorm keeps them.
    s = (x if residual is None else x + residual).astype(jnp.float32)
    return (jax.nn.standardize(s, epsilon=EPSILON) * weight + bias).astype(x.dtype)


def layer_norm_composed(x: Array, weight: Array, bias: Array, *, residual: Array | None = None) -> Array:
    s = (x if residual is None else x + residual).astype(jnp.float32)
    centred = s - s.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + EPSILON) * weight + bias).astype(x.dtype)


def rms_norm(x: Array, weight: Array, *, residual: Array | None = None) -> Array:
    # Statistics in float32, as flax.linen.RMSNorm keeps them.
    s = (x if residual is None else x + residual).astype(jnp.float32)
    mean_square = jnp.square(s).mean(axis=-1, keepdims=True)
    return (s * jax.lax.rsqrt(mean_square + RMS_EPSILON) * weight).astype(x.dtype)


# JAX has no call for it: what a user writes is composed already.
rms_norm_composed = rms_norm


def softmax(x: Array) -> Array:
    return jax.nn.softmax(x, axis=-1)


def softmax_composed(x: Array) -> Array:
    s = x.astype(jnp.float32)
    weights = jnp.exp(s - s.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(x.dtype)


def cross_entropy(logits: Array, targets: Array, *, reduction: str = "none") -> Array:
    s = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    losses = -jnp.take_along_axis(s, targets[:, None], axis=-1)[:, 0]
    return losses.mean() if reduction == "mean" else losses


def cross_entropy_composed(logits: Array, targets: Array, *, reduction: str = "none") -> Array:
    s = logits.astype(jnp.float32)
    # The maximum cancels in the gradient, too.
    most = jax.lax.stop_gradient(s.max(axis=-1, keepdims=True))
    right = jnp.take_along_axis(s, targets[:, None], axis=-1)
    losses = (jnp.log(jnp.exp(s - most).sum(axis=-1, keepdims=True)) + most - right)[:, 0]
    return losses.mean() if reduction == "mean" else losses


def rotary(q: Array, k: Array, cos: Array, sin: Array) -> tuple[Array, Array]:
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: Array, cos: Array, sin: Array) -> Array:
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


# JAX has no call for it: what a user writes is composed already.
rotary_composed = rotary


def swiglu(x: Array, gate: Array, up: Array, down: Array) -> Array:
    return (jax.nn.silu(x @ gate) * (x @ up)) @ down


def swiglu_composed(x: Array, gate: Array, up: Array, down: Array) -> Array:
    g = (x @ gate).astype(jnp.float32)
    return ((g / (1 + jnp.exp(-g))).astype(x.dtype) * (x @ up)) @ down


def embedding(table: Array, indices: Array) -> Array:
    return table[indices]


# JAX has no call for it: a gather is what a user writes.
embedding_composed = embedding
