"""The operators in JAX, as a user writes them: what jax.nn has, else jax.numpy.

Shapes are those of fuseproof.operators, but attention takes JAX's own order of axes: (batch, length, heads,
head dim).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.operators.layer_norm import EPSILON
from fuseproof.operators.rms_norm import EPSILON as RMS_EPSILON

# What products of 8-bit floats are kept in; others keep their own dtype.
_WIDER = {jnp.dtype(jnp.float8_e4m3fn): jnp.bfloat16}


def attention(q: Array, k: Array, v: Array, *, causal: bool = False) -> Array:
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal)


def matmul(a: Array, b: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    product = jnp.matmul(a, b, preferred_element_type=_WIDER.get(a.dtype))
    if bias is not None:
        product = product + bias
    return jax.nn.gelu(product, approximate=True) if activation == "gelu_tanh" else product


def layer_norm(x: Array, weight: Array, bias: Array, *, residual: Array | None = None) -> Array:
    # Statistics in float32, as flax.linen.LayerNorm keeps them.
    s = (x if residual is None else x + residual).astype(jnp.float32)
    mean = s.mean(axis=-1, keepdims=True)
    variance = jnp.square(s - mean).mean(axis=-1, keepdims=True)
    normalised = (s - mean) * jax.lax.rsqrt(variance + EPSILON)
    return (normalised * weight + bias).astype(x.dtype)


def rms_norm(x: Array, weight: Array, *, residual: Array | None = None) -> Array:
    # Statistics in float32, as flax.linen.RMSNorm keeps them.
    s = (x if residual is None else x + residual).astype(jnp.float32)
    mean_square = jnp.square(s).mean(axis=-1, keepdims=True)
    return (s * jax.lax.rsqrt(mean_square + RMS_EPSILON) * weight).astype(x.dtype)
