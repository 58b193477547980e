"""The operators in TensorFlow, as a user writes them: what tf.nn has, else primitives.

Shapes are those of fuseproof.operators. Core TensorFlow has no attention, layer norm or RMS norm.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from fuseproof.operators.layer_norm import EPSILON
from fuseproof.operators.rms_norm import EPSILON as RMS_EPSILON

Tensor = Any  # tf.Tensor; the package ships no types


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    if q.shape[1] != k.shape[1]:
        share = q.shape[1] // k.shape[1]
        k, v = tf.repeat(k, share, axis=1), tf.repeat(v, share, axis=1)
    scores = tf.matmul(q, k, transpose_b=True) * tf.cast(1 / math.sqrt(q.shape[-1]), q.dtype)
    if causal:
        visible = tf.linalg.band_part(tf.ones(scores.shape[-2:], dtype=tf.bool), -1, 0)
        scores = tf.where(visible, scores, tf.cast(float("-inf"), scores.dtype))
    return tf.matmul(tf.nn.softmax(scores, axis=-1), v)


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    product = tf.matmul(a, b)
    if bias is not None:
        product = tf.nn.bias_add(product, bias)
    return tf.nn.gelu(product, approximate=True) if activation == "gelu_tanh" else product


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    # Statistics in float32, as keras.layers.LayerNormalization keeps them.
    s = tf.cast(x if residual is None else x + residual, tf.float32)
    mean, variance = tf.nn.moments(s, axes=[-1], keepdims=True)
    normalised = tf.nn.batch_normalization(
        s, mean, variance, tf.cast(bias, tf.float32), tf.cast(weight, tf.float32), EPSILON
    )
    return tf.cast(normalised, x.dtype)


def rms_norm(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    # Statistics in float32, as keras.layers.RMSNormalization keeps them.
    s = tf.cast(x if residual is None else x + residual, tf.float32)
    mean_square = tf.reduce_mean(tf.square(s), axis=-1, keepdims=True)
    normalised = s * tf.math.rsqrt(mean_square + RMS_EPSILON) * tf.cast(weight, tf.float32)
    return tf.cast(normalised, x.dtype)
