"""What several blocks share. Norms compute in float32, as Keras's do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from fuseproof.fusion.ops import tensorflow as ops
from fuseproof.workloads.operators.layer_norm import EPSILON

Tensor = Any  # tf.Tensor; the package ships no types
Parameters = Mapping[str, Tensor]


def linear(x: Tensor, p: Parameters, name: str) -> Tensor:
    product = tf.matmul(x, p[name])
    return tf.nn.bias_add(product, p[f"{name}_bias"]) if f"{name}_bias" in p else product


def layer_norm(x: Tensor, p: Parameters, name: str) -> Tensor:
    return ops.layer_norm(x, p[f"{name}_scale"], p[f"{name}_bias"])


def group_norm(x: Tensor, p: Parameters, name: str, groups: int) -> Tensor:
    """x: (batch, height, width, channels)."""
    shape = [x.shape[0], x.shape[1] * x.shape[2], groups, x.shape[3] // groups]
    scale, bias = (tf.reshape(p[f"{name}_{end}"], shape[2:]) for end in ("scale", "bias"))
    return tf.reshape(normalised(tf.reshape(x, shape), scale, bias, axes=[1, 3]), x.shape)


def normalised(x: Tensor, scale: Tensor, bias: Tensor, axes: list[int]) -> Tensor:
    """By the mean and the variance over these axes."""
    wide = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(wide, axes=axes, keepdims=True)
    return with_statistics(wide, mean, variance, scale, bias, x.dtype)


def with_statistics(
    x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, bias: Tensor, dtype: Any
) -> Tensor:
    mean, variance, bias, scale = (tf.cast(each, tf.float32) for each in (mean, variance, bias, scale))
    return tf.cast(tf.nn.batch_normalization(x, mean, variance, bias, scale, EPSILON), dtype)


def convolution(x: Tensor, p: Parameters, name: str) -> Tensor:
    """x: (batch, height, width, channels), whose size stays."""
    found = tf.nn.conv2d(x, p[name], strides=1, padding="SAME")
    return tf.nn.bias_add(found, p[f"{name}_bias"]) if f"{name}_bias" in p else found


def self_attention(x: Tensor, p: Parameters, heads: int) -> Tensor:
    """Of all positions, with `qkv` and `out`. x: (batch, length, hidden)."""
    batch, length, hidden = x.shape
    qkv = tf.reshape(linear(x, p, "qkv"), [batch, length, 3, heads, hidden // heads])
    q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
    attended = tf.transpose(ops.attention(q, k, v), [0, 2, 1, 3])
    return linear(tf.reshape(attended, x.shape), p, "out")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads · head_dim) as (batch, heads, length, head_dim)."""
    batch, length, hidden = x.shape
    return tf.transpose(tf.reshape(x, [batch, length, heads, hidden // heads]), [0, 2, 1, 3])


def query_key_value(
    x: Tensor, cos: Tensor, sin: Tensor, p: Parameters, heads: int, key_value_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a decoder block, with its norm before and rotary positions after."""
    n = ops.rms_norm(x, p["attention_norm_scale"])
    q = split_heads(linear(n, p, "query"), heads)
    k, v = (split_heads(linear(n, p, name), key_value_heads) for name in ("key", "value"))
    return *ops.rotary(q, k, cos, sin), v


def after_attention(x: Tensor, attended: Tensor, p: Parameters) -> Tensor:
    """The rest of a decoder block. attended: (batch, heads, length, head_dim)."""
    a = x + linear(tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), x.shape), p, "out")
    return a + ops.swiglu(ops.rms_norm(a, p["mlp_norm_scale"]), p["gate"], p["up"], p["down"])
