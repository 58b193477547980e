"""The U-Net block in TensorFlow: fuseproof.workloads.blocks.unet_block."""

from __future__ import annotations

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor, convolution, group_norm, linear
from fuseproof.workloads.blocks.unet_block import GROUP, UNetBlock


@module_of(UNetBlock)
def unet_block(parameters: Parameters, x: Tensor, skip: Tensor, time: Tensor) -> Tensor:
    p, groups = parameters, skip.shape[-1] // GROUP
    above = convolution(tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2), p, "up")
    z = tf.concat([above, skip], axis=-1)
    h = convolution(tf.nn.silu(group_norm(z, p, "first_norm", 2 * groups)), p, "first")
    h = h + linear(tf.nn.silu(time), p, "embed")[:, None, None]
    h = convolution(tf.nn.silu(group_norm(h, p, "second_norm", groups)), p, "second")
    return h + linear(z, p, "shortcut")
