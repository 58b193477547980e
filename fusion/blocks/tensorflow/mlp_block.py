"""The feed-forward block in TensorFlow: fuseproof.workloads.blocks.mlp_block."""

from __future__ import annotations

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor, layer_norm, linear
from fuseproof.workloads.blocks.mlp_block import MLPBlock


@module_of(MLPBlock)
def mlp_block(parameters: Parameters, x: Tensor) -> Tensor:
    inner = tf.nn.gelu(linear(layer_norm(x, parameters, "norm"), parameters, "up"), approximate=True)
    return x + linear(inner, parameters, "down")
