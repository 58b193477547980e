"""The transformer decoder block in JAX: fuseproof.workloads.blocks.decoder_block."""

from __future__ import annotations

from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, after_attention, query_key_value
from fuseproof.fusion.ops import jax as ops
from fuseproof.workloads.blocks.decoder_block import DecoderBlock


@module_of(DecoderBlock)
def decoder_block(
    parameters: Parameters, x: Array, cos: Array, sin: Array, *, heads: int, key_value_heads: int
) -> Array:
    q, k, v = query_key_value(x, cos, sin, parameters, heads, key_value_heads)
    return after_attention(x, ops.attention(q, k, v, causal=True), parameters)
