"""What several blocks share, in keras.ops. Norms compute in float32 at least, as Keras's layers do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from fuseproof.workloads.operators.layer_norm import EPSILON
from fuseproof.workloads.operators.rms_norm import EPSILON as RMS_EPSILON

Tensor = Any  # of the framework that Keras runs on
Parameters = Mapping[str, Tensor]

_NARROW = ("bfloat16", "float16")


def linear(x: Tensor, p: Parameters, name: str) -> Tensor:
    product = ops.matmul(x, p[name])
    return ops.add(product, p[f"{name}_bias"]) if f"{name}_bias" in p else product


def layer_norm(x: Tensor, p: Parameters, name: str) -> Tensor:
    scale, bias = (wide(p[f"{name}_{end}"]) for end in ("scale", "bias"))
    return ops.cast(ops.layer_normalization(wide(x), scale, bias, epsilon=EPSILON), x.dtype)


def rms_norm(x: Tensor, p: Parameters, name: str) -> Tensor:
    scale = wide(p[f"{name}_scale"])
    return ops.cast(ops.rms_normalization(wide(x), scale, epsilon=RMS_EPSILON), x.dtype)


def batch_norm(
    x: Tensor, p: Parameters, name: str, mean: Tensor | None = None, variance: Tensor | None = None
) -> Tensor:
    """Over all axes but the last, by default by the statistics of the batch."""
    h, scale, bias = wide(x), wide(p[f"{name}_scale"]), wide(p[f"{name}_bias"])
    if mean is None:
        mean, variance = ops.moments(h, axes=list(range(len(x.shape) - 1)))
    found = ops.batch_normalization(
        h, wide(mean), wide(variance), axis=-1, offset=bias, scale=scale, epsilon=EPSILON
    )
    return ops.cast(found, x.dtype)


def group_norm(x: Tensor, p: Parameters, name: str, groups: int) -> Tensor:
    """x: (batch, height, width, channels)."""
    batch, height, width, channels = x.shape
    h = ops.reshape(wide(x), (batch, height * width, groups, channels // groups))
    mean, variance = ops.moments(h, axes=[1, 3], keepdims=True)
    normalised = ops.reshape((h - mean) * ops.rsqrt(variance + EPSILON), x.shape)
    return ops.cast(normalised * wide(p[f"{name}_scale"]) + wide(p[f"{name}_bias"]), x.dtype)


def convolution(x: Tensor, p: Parameters, name: str) -> Tensor:
    """x: (batch, height, width, channels), whose size stays."""
    found = ops.conv(x, p[name], strides=1, padding="same", data_format="channels_last")
    return ops.add(found, p[f"{name}_bias"]) if f"{name}_bias" in p else found


def self_attention(x: Tensor, p: Parameters, heads: int) -> Tensor:
    """Of all positions, with `qkv` and `out`. x: (batch, length, hidden).

    Not keras.layers.MultiHeadAttention, which projects queries, keys and values apart.
    """
    batch, length, hidden = x.shape
    qkv = ops.reshape(linear(x, p, "qkv"), (batch, length, 3, heads, hidden // heads))
    attended = ops.dot_product_attention(*ops.unstack(qkv, axis=2))
    return linear(ops.reshape(attended, x.shape), p, "out")


def wide(x: Tensor) -> Tensor:
    """In float32, if it is narrower."""
    return ops.cast(x, "float32") if str(ops.convert_to_tensor(x).dtype).endswith(_NARROW) else x
