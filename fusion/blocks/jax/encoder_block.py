"""The transformer encoder block in JAX: fuseproof.workloads.blocks.encoder_block."""

from __future__ import annotations

import jax
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, layer_norm, linear, self_attention
from fuseproof.workloads.blocks.encoder_block import EncoderBlock


@module_of(EncoderBlock)
def encoder_block(parameters: Parameters, x: Array, *, heads: int) -> Array:
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    inner = jax.nn.gelu(linear(layer_norm(a, parameters, "mlp_norm"), parameters, "up"), approximate=False)
    return a + linear(inner, parameters, "down")
