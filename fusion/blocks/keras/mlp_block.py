"""The feed-forward block in Keras: fuseproof.workloads.blocks.mlp_block."""

from __future__ import annotations

from keras import ops

from fuseproof.fusion.blocks.keras.module import module_of
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor, layer_norm, linear
from fuseproof.workloads.blocks.mlp_block import MLPBlock


@module_of(MLPBlock)
def mlp_block(parameters: Parameters, x: Tensor) -> Tensor:
    inner = ops.gelu(linear(layer_norm(x, parameters, "norm"), parameters, "up"), approximate=True)
    return x + linear(inner, parameters, "down")
