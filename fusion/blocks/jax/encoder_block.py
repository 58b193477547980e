"""The transformer encoder block in JAX: fuseproof.workloads.blocks.encoder_block."""

from __future__ import annotations

import jax
from jax import Array

from fuseproof.fusion.blocks.jax.parts import Parameters, layer_norm, linear, self_attention


def encoder_block(x: Array, parameters: Parameters, *, heads: int) -> Array:
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    inner = jax.nn.gelu(linear(layer_norm(a, parameters, "mlp_norm"), parameters, "up"), approximate=False)
    return a + linear(inner, parameters, "down")
