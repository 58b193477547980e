"""What several blocks share. Norms compute in float32, as flax's do."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.fusion.ops import jax as ops
from fuseproof.workloads.operators.layer_norm import EPSILON

Parameters = Mapping[str, Array]


def linear(x: Array, p: Parameters, name: str) -> Array:
    product = x @ p[name]
    return product + p[f"{name}_bias"] if f"{name}_bias" in p else product


def layer_norm(x: Array, p: Parameters, name: str) -> Array:
    return ops.layer_norm(x, p[f"{name}_scale"], p[f"{name}_bias"])


def group_norm(x: Array, p: Parameters, name: str, groups: int) -> Array:
    """x: (batch, height, width, channels)."""
    grouped = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups).astype(jnp.float32)
    normed = jax.nn.standardize(grouped, axis=(1, 3), epsilon=EPSILON).reshape(x.shape)
    return (normed * p[f"{name}_scale"] + p[f"{name}_bias"]).astype(x.dtype)


def convolution(x: Array, p: Parameters, name: str) -> Array:
    """x: (batch, height, width, channels), whose size stays."""
    found = jax.lax.conv_general_dilated(
        x, p[name], window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return found + p[f"{name}_bias"] if f"{name}_bias" in p else found


def self_attention(x: Array, p: Parameters, heads: int) -> Array:
    """Of all positions, with `qkv` and `out`. x: (batch, length, hidden)."""
    batch, length, hidden = x.shape
    qkv = linear(x, p, "qkv").reshape(batch, length, 3, heads, hidden // heads)
    q, k, v = (qkv[:, :, number] for number in range(3))
    return linear(ops.attention(q, k, v).reshape(x.shape), p, "out")


def split_heads(x: Array, heads: int) -> Array:
    """(batch, length, heads · head_dim) as (batch, length, heads, head_dim)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def query_key_value(
    x: Array, cos: Array, sin: Array, p: Parameters, heads: int, key_value_heads: int
) -> tuple[Array, Array, Array]:
    """Of a decoder block, norm before and rotary positions after: (batch, length, heads, head_dim)."""
    n = ops.rms_norm(x, p["attention_norm_scale"])
    q = split_heads(linear(n, p, "query"), heads)
    k, v = (split_heads(linear(n, p, name), key_value_heads) for name in ("key", "value"))
    return *ops.rotary(q, k, cos[:, None], sin[:, None]), v


def after_attention(x: Array, attended: Array, p: Parameters) -> Array:
    """The rest of a decoder block. attended: (batch, length, heads, head_dim)."""
    a = x + linear(attended.reshape(x.shape), p, "out")
    return a + ops.swiglu(ops.rms_norm(a, p["mlp_norm_scale"]), p["gate"], p["up"], p["down"])
