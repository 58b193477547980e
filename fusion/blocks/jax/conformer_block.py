"""The Conformer block in JAX: fuseproof.workloads.blocks.conformer_block."""

from __future__ import annotations

import jax
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, layer_norm, linear, self_attention
from fuseproof.workloads.blocks.conformer_block import ConformerBlock


@module_of(ConformerBlock)
def conformer_block(parameters: Parameters, x: Array, *, heads: int) -> Array:
    p = parameters
    a = x + 0.5 * _feed(x, p, "first")
    b = a + self_attention(layer_norm(a, p, "attention_norm"), p, heads)
    c = b + _convolved(b, p)
    return layer_norm(c + 0.5 * _feed(c, p, "second"), p, "final_norm")


def _feed(x: Array, p: Parameters, name: str) -> Array:
    inner = jax.nn.silu(linear(layer_norm(x, p, f"{name}_norm"), p, f"{name}_up"))
    return linear(inner, p, f"{name}_down")


def _convolved(x: Array, p: Parameters) -> Array:
    gated = jax.nn.glu(linear(layer_norm(x, p, "conv_norm"), p, "glu"), axis=-1)
    h = jax.lax.conv_general_dilated(
        gated,
        p["depthwise"][:, None],
        window_strides=(1,),
        padding="SAME",
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x.shape[-1],
    )
    return linear(jax.nn.silu(layer_norm(h, p, "depthwise_norm")), p, "pointwise")
