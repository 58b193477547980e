"""The transformer encoder block in PyTorch: fuseproof.workloads.blocks.encoder_block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, layer_norm, linear, self_attention
from fuseproof.workloads.blocks.encoder_block import EncoderBlock


@module_of(EncoderBlock)
def encoder_block(parameters: Parameters, x: Tensor, *, heads: int) -> Tensor:
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    inner = F.gelu(linear(layer_norm(a, parameters, "mlp_norm"), parameters, "up"))
    return a + linear(inner, parameters, "down")
