"""The feed-forward block in PyTorch: fuseproof.workloads.blocks.mlp_block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, layer_norm, linear
from fuseproof.workloads.blocks.mlp_block import MLPBlock


@module_of(MLPBlock)
def mlp_block(parameters: Parameters, x: Tensor) -> Tensor:
    inner = F.gelu(linear(layer_norm(x, parameters, "norm"), parameters, "up"), approximate="tanh")
    return x + linear(inner, parameters, "down")
