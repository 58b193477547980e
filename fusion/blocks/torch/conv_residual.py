"""The residual block in PyTorch: fuseproof.workloads.blocks.conv_residual."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.parts import Parameters, convolution
from fuseproof.workloads.operators.layer_norm import EPSILON


def conv_residual(x: Tensor, parameters: Parameters, *, frozen: bool) -> Tensor:
    x = x.permute(0, 3, 1, 2)
    h = F.silu(_normed(x, parameters, "first", frozen))
    return F.silu(_normed(h, parameters, "second", frozen) + x).permute(0, 2, 3, 1)


def _normed(x: Tensor, p: Parameters, name: str, frozen: bool) -> Tensor:
    """A convolution and batch norm."""
    mean, variance = p.get(f"{name}_mean"), p.get(f"{name}_variance")
    scale, bias = p[f"{name}_scale"], p[f"{name}_bias"]
    return F.batch_norm(
        convolution(x, p, name), mean, variance, scale, bias, training=not frozen, eps=EPSILON
    )
