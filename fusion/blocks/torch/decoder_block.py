"""The transformer decoder block in PyTorch: fuseproof.workloads.blocks.decoder_block."""

from __future__ import annotations

from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, after_attention, query_key_value
from fuseproof.fusion.ops import torch as ops
from fuseproof.workloads.blocks.decoder_block import DecoderBlock


@module_of(DecoderBlock)
def decoder_block(
    parameters: Parameters, x: Tensor, cos: Tensor, sin: Tensor, *, heads: int, key_value_heads: int
) -> Tensor:
    q, k, v = query_key_value(x, cos, sin, parameters, heads, key_value_heads)
    return after_attention(x, ops.attention(q, k, v, causal=True), parameters)
