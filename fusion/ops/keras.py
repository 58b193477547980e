"""The operators in Keras 3 on TensorFlow, as a user writes them: its layers, and keras.ops for attention and
softmax. It has no call for rotary embeddings.

A layer has weights of its own; `stateless_call` takes the case's instead, so that inputs and gradients are
those of every framework. Shapes are those of fuseproof.workloads.operators, but attention takes Keras's own
order of axes: (batch, length, heads, head dim). keras.layers.MultiHeadAttention is more than the operator: it
projects.
"""

from __future__ import annotations

import functools
from typing import Any

import keras

from fuseproof.workloads.operators.layer_norm import EPSILON
from fuseproof.workloads.operators.rms_norm import EPSILON as RMS_EPSILON

Tensor = Any  # tf.Tensor; the package ships no types


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    if q.shape[2] != k.shape[2]:
        # Keras repeats heads itself, but broadcasts a single one, which its gradient does not support.
        share = q.shape[2] // k.shape[2]
        k, v = keras.ops.repeat(k, share, axis=2), keras.ops.repeat(v, share, axis=2)
    return keras.ops.dot_product_attention(q, k, v, is_causal=causal)


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    layer = _dense(a.shape[-1], b.shape[-1], bias is not None, activation, a.dtype.name)
    return _call(layer, [b] if bias is None else [b, bias], a)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    s = x if residual is None else keras.ops.add(x, residual)
    return _call(_layer_normalization(x.shape[-1], x.dtype.name), [weight, bias], s)


def rms_norm(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    s = x if residual is None else keras.ops.add(x, residual)
    return _call(_rms_normalization(x.shape[-1], x.dtype.name), [weight], s)


def softmax(x: Tensor) -> Tensor:
    return keras.ops.softmax(x, axis=-1)


def cross_entropy(logits: Tensor, targets: Tensor, *, reduction: str = "none") -> Tensor:
    # keras.losses.SparseCategoricalCrossentropy without its reduction, which has weights for samples.
    s = keras.ops.cast(logits, "float32")
    losses = keras.losses.sparse_categorical_crossentropy(targets, s, from_logits=True)
    return keras.ops.mean(losses) if reduction == "mean" else losses


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    hidden, inner = gate.shape
    g = _call(_dense(hidden, inner, False, "silu", x.dtype.name), [gate], x)
    u = _call(_dense(hidden, inner, False, None, x.dtype.name), [up], x)
    return _call(_dense(inner, hidden, False, None, x.dtype.name), [down], g * u)


def embedding(table: Tensor, indices: Tensor) -> Tensor:
    return _call(_embedding(*table.shape, table.dtype.name), [table], indices)


def _call(layer: Any, weights: list[Tensor], x: Tensor) -> Tensor:
    output, _ = layer.stateless_call(weights, [], x)
    return output


@functools.cache
def _dense(columns: int, units: int, use_bias: bool, activation: str | None, dtype: str) -> Any:
    gelu_tanh = functools.partial(keras.activations.gelu, approximate=True)
    chosen = gelu_tanh if activation == "gelu_tanh" else activation
    layer = keras.layers.Dense(units, use_bias=use_bias, activation=chosen, dtype=dtype)
    layer.build((None, columns))
    return layer


@functools.cache
def _layer_normalization(columns: int, dtype: str) -> Any:
    layer = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype)
    layer.build((None, columns))
    return layer


@functools.cache
def _rms_normalization(columns: int, dtype: str) -> Any:
    layer = keras.layers.RMSNormalization(epsilon=RMS_EPSILON, dtype=dtype)
    layer.build((None, columns))
    return layer


@functools.cache
def _embedding(rows: int, columns: int, dtype: str) -> Any:
    layer = keras.layers.Embedding(rows, columns, dtype=dtype)
    layer.build((None,))
    return layer
