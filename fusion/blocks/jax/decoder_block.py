"""The transformer decoder block in JAX: fuseproof.workloads.blocks.decoder_block."""

from __future__ import annotations

from jax import Array

from fuseproof.fusion.blocks.jax.parts import Parameters, after_attention, query_key_value
from fuseproof.fusion.ops import jax as ops


def decoder_block(
    x: Array, cos: Array, sin: Array, parameters: Parameters, *, heads: int, key_value_heads: int
) -> Array:
    q, k, v = query_key_value(x, cos, sin, parameters, heads, key_value_heads)
    return after_attention(x, ops.attention(q, k, v, causal=True), parameters)
