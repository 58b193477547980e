"""The U-Net block in Keras: fuseproof.workloads.blocks.unet_block."""

from __future__ import annotations

from keras import ops

from fuseproof.fusion.blocks.keras.module import module_of
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor, convolution, group_norm, linear
from fuseproof.workloads.blocks.unet_block import GROUP, UNetBlock


@module_of(UNetBlock)
def unet_block(parameters: Parameters, x: Tensor, skip: Tensor, time: Tensor) -> Tensor:
    p, groups = parameters, skip.shape[-1] // GROUP
    above = convolution(ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2), p, "up")
    z = ops.concatenate([above, skip], axis=-1)
    h = convolution(ops.silu(group_norm(z, p, "first_norm", 2 * groups)), p, "first")
    h = h + linear(ops.silu(time), p, "embed")[:, None, None]
    h = convolution(ops.silu(group_norm(h, p, "second_norm", groups)), p, "second")
    return h + linear(z, p, "shortcut")
