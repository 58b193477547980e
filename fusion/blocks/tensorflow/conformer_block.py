"""The Conformer block in TensorFlow: fuseproof.workloads.blocks.conformer_block."""

from __future__ import annotations

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor, layer_norm, linear, self_attention
from fuseproof.workloads.blocks.conformer_block import ConformerBlock


@module_of(ConformerBlock)
def conformer_block(parameters: Parameters, x: Tensor, *, heads: int) -> Tensor:
    p = parameters
    a = x + 0.5 * _feed(x, p, "first")
    b = a + self_attention(layer_norm(a, p, "attention_norm"), p, heads)
    c = b + _convolved(b, p)
    return layer_norm(c + 0.5 * _feed(c, p, "second"), p, "final_norm")


def _feed(x: Tensor, p: Parameters, name: str) -> Tensor:
    inner = tf.nn.silu(linear(layer_norm(x, p, f"{name}_norm"), p, f"{name}_up"))
    return linear(inner, p, f"{name}_down")


def _convolved(x: Tensor, p: Parameters) -> Tensor:
    value, gate = tf.split(linear(layer_norm(x, p, "conv_norm"), p, "glu"), 2, axis=-1)
    gated, kernel = (value * tf.sigmoid(gate))[:, None], p["depthwise"][None, :, :, None]
    h = tf.nn.depthwise_conv2d(gated, kernel, strides=[1, 1, 1, 1], padding="SAME")[:, 0]
    return linear(tf.nn.silu(layer_norm(h, p, "depthwise_norm")), p, "pointwise")
