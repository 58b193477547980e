"""Decoding with a static cache in TensorFlow, a loop over the tokens: fuseproof.workloads.blocks.decode."""

from __future__ import annotations

import math

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor, after_attention, query_key_value
from fuseproof.fusion.ops import tensorflow as ops
from fuseproof.workloads.blocks.decode import Decode


@module_of(Decode)
def decode(
    parameters: Parameters,
    x: Tensor,
    keys: Tensor,
    values: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    heads: int,
    key_value_heads: int,
    prompt: int,
) -> Tensor:
    tokens, places = cos.shape[0], tf.range(keys.shape[2])

    def step(number: Tensor, keys: Tensor, values: Tensor, found: Tensor) -> tuple[Tensor, ...]:
        token, place = x[:, number][:, None], prompt + number
        q, k, v = query_key_value(
            token, cos[number][None], sin[number][None], parameters, heads, key_value_heads
        )
        keys, values = (
            tf.tensor_scatter_nd_update(cache, tf.reshape(place, [1, 1]), tf.transpose(new, [2, 0, 1, 3]))
            for cache, new in ((keys, k), (values, v))
        )
        attended = _attention(q, keys, values, places <= place)
        y = ops.rms_norm(after_attention(token, attended, parameters), parameters["final_norm_scale"])
        return number + 1, keys, values, found.write(number, y[:, 0])

    # The cache with its places first, where TensorFlow updates rows.
    keys, values = (tf.transpose(cache, [2, 0, 1, 3]) for cache in (keys, values))
    found = tf.TensorArray(x.dtype, size=tokens, element_shape=x[:, 0].shape)
    *_, found = tf.while_loop(
        lambda number, *_: number < tokens,
        step,
        (tf.constant(0), keys, values, found),
        maximum_iterations=tokens,
    )
    return tf.transpose(found.stack(), [1, 0, 2])


def _attention(q: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
    """q: (batch, heads, 1, head_dim); keys, values: (length, batch, key_value_heads, head_dim)."""
    batch, heads, _, head_dim = q.shape
    grouped = tf.reshape(q, [batch, keys.shape[2], heads // keys.shape[2], head_dim])
    scores = tf.einsum("bgsd,lbgd->bgsl", grouped, keys) * tf.cast(1 / math.sqrt(head_dim), q.dtype)
    weights = tf.nn.softmax(tf.where(visible, scores, tf.cast(float("-inf"), scores.dtype)), axis=-1)
    return tf.reshape(tf.einsum("bgsl,lbgd->bgsd", weights, values), q.shape)
