"""The operators in TensorFlow, as a user writes them (tf.nn where it has a call), and composed of primitives.

Shapes are those of fuseproof.workloads.operators. Core TensorFlow has no attention, layer norm or RMS norm.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from fuseproof.workloads.operators.layer_norm import EPSILON
from fuseproof.workloads.operators.rms_norm import EPSILON as RMS_EPSILON

Tensor = Any  # tf.Tensor; the package ships no types


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    k, v = _repeated(k, q), _repeated(v, q)
    scores = tf.matmul(q, k, transpose_b=True) * tf.cast(1 / math.sqrt(q.shape[-1]), q.dtype)
    return tf.matmul(tf.nn.softmax(_masked(scores) if causal else scores, axis=-1), v)


def attention_composed(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    k, v = _repeated(k, q), _repeated(v, q)
    # The softmax in float32, as model code has it for half-precision inputs.
    scores = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) / math.sqrt(q.shape[-1])
    scores = _masked(scores) if causal else scores
    weights = tf.exp(scores - tf.reduce_max(scores, axis=-1, keepdims=True))
    return tf.matmul(tf.cast(weights / tf.reduce_sum(weights, axis=-1, keepdims=True), v.dtype), v)


def _repeated(tensor: Tensor, q: Tensor) -> Tensor:
    """Keys or values, repeated for the query heads that share them."""
    share = q.shape[1] // tensor.shape[1]
    return tensor if share == 1 else tf.repeat(tensor, share, axis=1)


def _masked(scores: Tensor) -> Tensor:
    visible = tf.linalg.band_part(tf.ones(scores.shape[-2:], dtype=tf.bool), -1, 0)
    return tf.where(visible, scores, tf.cast(float("-inf"), scores.dtype))


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    product = tf.matmul(a, b)
    if bias is not None:
        product = tf.nn.bias_add(product, bias)
    return tf.nn.gelu(product, approximate=True) if activation == "gelu_tanh" else product


def matmul_composed(
    a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None
) -> Tensor:
    product = tf.matmul(a, b)
    if bias is not None:
        product = product + bias
    if activation == "gelu_tanh":
        inner = math.sqrt(2 / math.pi) * (product + 0.044715 * product * product * product)
        product = 0.5 * product * (1 + tf.tanh(inner))
    return product


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    # Statistics in float32, as keras.layers.LayerNormalization keeps them.
    s = tf.cast(x if residual is None else x + residual, tf.float32)
    mean, variance = tf.nn.moments(s, axes=[-1], keepdims=True)
    normalised = tf.nn.batch_normalization(
        s, mean, variance, tf.cast(bias, tf.float32), tf.cast(weight, tf.float32), EPSILON
    )
    return tf.cast(normalised, x.dtype)


def layer_norm_composed(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    s = tf.cast(x if residual is None else x + residual, tf.float32)
    centred = s - tf.reduce_mean(s, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    normalised = centred * tf.math.rsqrt(variance + EPSILON)
    return tf.cast(normalised * tf.cast(weight, tf.float32) + tf.cast(bias, tf.float32), x.dtype)


def rms_norm(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    # Statistics in float32, as keras.layers.RMSNormalization keeps them.
    s = tf.cast(x if residual is None else x + residual, tf.float32)
    mean_square = tf.reduce_mean(tf.square(s), axis=-1, keepdims=True)
    normalised = s * tf.math.rsqrt(mean_square + RMS_EPSILON) * tf.cast(weight, tf.float32)
    return tf.cast(normalised, x.dtype)


# TensorFlow has no call for it: what a user writes is composed already.
rms_norm_composed = rms_norm


def softmax(x: Tensor) -> Tensor:
    return tf.nn.softmax(x, axis=-1)


def softmax_composed(x: Tensor) -> Tensor:
    s = tf.cast(x, tf.float32)
    weights = tf.exp(s - tf.reduce_max(s, axis=-1, keepdims=True))
    return tf.cast(weights / tf.reduce_sum(weights, axis=-1, keepdims=True), x.dtype)


def cross_entropy(logits: Tensor, targets: Tensor, *, reduction: str = "none") -> Tensor:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))
    return tf.reduce_mean(losses) if reduction == "mean" else losses


def cross_entropy_composed(logits: Tensor, targets: Tensor, *, reduction: str = "none") -> Tensor:
    s = tf.cast(logits, tf.float32)
    most = tf.stop_gradient(tf.reduce_max(s, axis=-1))  # it cancels in the gradient, too
    right = tf.gather(s, targets, axis=1, batch_dims=1)
    losses = tf.math.log(tf.reduce_sum(tf.exp(s - most[:, None]), axis=-1)) + most - right
    return tf.reduce_mean(losses) if reduction == "mean" else losses


def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = tf.split(x, 2, axis=-1)
    return tf.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)


# TensorFlow has no call for it: what a user writes is composed already.
rotary_composed = rotary


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return tf.matmul(tf.nn.silu(tf.matmul(x, gate)) * tf.matmul(x, up), down)


def swiglu_composed(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    g = tf.cast(tf.matmul(x, gate), tf.float32)
    return tf.matmul(tf.cast(g / (1 + tf.exp(-g)), x.dtype) * tf.matmul(x, up), down)


def embedding(table: Tensor, indices: Tensor) -> Tensor:
    return tf.nn.embedding_lookup(table, indices)


def embedding_composed(table: Tensor, indices: Tensor) -> Tensor:
    return tf.gather(table, indices)
