"""The transformer encoder block in Keras: fuseproof.workloads.blocks.encoder_block."""

from __future__ import annotations

from keras import ops

from fuseproof.fusion.blocks.keras.module import module_of
from fuseproof.fusion.blocks.keras.parts import Parameters, Tensor, layer_norm, linear, self_attention
from fuseproof.workloads.blocks.encoder_block import EncoderBlock


@module_of(EncoderBlock)
def encoder_block(parameters: Parameters, x: Tensor, *, heads: int) -> Tensor:
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    inner = ops.gelu(linear(layer_norm(a, parameters, "mlp_norm"), parameters, "up"), approximate=False)
    return a + linear(inner, parameters, "down")
