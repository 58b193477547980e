"""The transformer decoder block in TensorFlow: fuseproof.workloads.blocks.decoder_block."""

from __future__ import annotations

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import Parameters, Tensor, after_attention, query_key_value
from fuseproof.fusion.ops import tensorflow as ops
from fuseproof.workloads.blocks.decoder_block import DecoderBlock


@module_of(DecoderBlock)
def decoder_block(
    parameters: Parameters, x: Tensor, cos: Tensor, sin: Tensor, *, heads: int, key_value_heads: int
) -> Tensor:
    q, k, v = query_key_value(x, cos, sin, parameters, heads, key_value_heads)
    return after_attention(x, ops.attention(q, k, v, causal=True), parameters)
