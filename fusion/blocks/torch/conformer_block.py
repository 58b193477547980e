"""The Conformer block in PyTorch: fuseproof.workloads.blocks.conformer_block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, layer_norm, linear, self_attention
from fuseproof.workloads.blocks.conformer_block import ConformerBlock


@module_of(ConformerBlock)
def conformer_block(parameters: Parameters, x: Tensor, *, heads: int) -> Tensor:
    p = parameters
    a = x + 0.5 * _feed(x, p, "first")
    b = a + self_attention(layer_norm(a, p, "attention_norm"), p, heads)
    c = b + _convolved(b, p)
    return layer_norm(c + 0.5 * _feed(c, p, "second"), p, "final_norm")


def _feed(x: Tensor, p: Parameters, name: str) -> Tensor:
    inner = F.silu(linear(layer_norm(x, p, f"{name}_norm"), p, f"{name}_up"))
    return linear(inner, p, f"{name}_down")


def _convolved(x: Tensor, p: Parameters) -> Tensor:
    gated = F.glu(linear(layer_norm(x, p, "conv_norm"), p, "glu"), dim=-1)
    kernel = p["depthwise"].t()[:, None]
    h = F.conv1d(gated.transpose(1, 2), kernel, padding="same", groups=len(kernel)).transpose(1, 2)
    return linear(F.silu(layer_norm(h, p, "depthwise_norm")), p, "pointwise")
