"""The transformer encoder block in TensorFlow: fuseproof.workloads.blocks.encoder_block."""

from __future__ import annotations

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor, layer_norm, linear, self_attention


def encoder_block(x: Tensor, parameters: Parameters, *, heads: int) -> Tensor:
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    inner = tf.nn.gelu(linear(layer_norm(a, parameters, "mlp_norm"), parameters, "up"))
    return a + linear(inner, parameters, "down")
