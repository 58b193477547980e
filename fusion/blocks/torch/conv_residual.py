"""The residual block in PyTorch: fuseproof.workloads.blocks.conv_residual."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, convolution
from fuseproof.workloads.blocks.conv_residual import ConvResidual
from fuseproof.workloads.operators.layer_norm import EPSILON


@module_of(ConvResidual)
def conv_residual(parameters: Parameters, x: Tensor, *statistics: Tensor) -> Tensor:
    """statistics: means and variances of both norms, of frozen ones."""
    x = x.permute(0, 3, 1, 2)
    h = F.silu(_normed(x, parameters, "first", *statistics[:2]))
    return F.silu(_normed(h, parameters, "second", *statistics[2:]) + x).permute(0, 2, 3, 1)


def _normed(
    x: Tensor, p: Parameters, name: str, mean: Tensor | None = None, variance: Tensor | None = None
) -> Tensor:
    """A convolution and batch norm, by default by the statistics of the batch."""
    h, scale, bias = convolution(x, p, name), p[f"{name}_scale"], p[f"{name}_bias"]
    return F.batch_norm(h, mean, variance, scale, bias, training=mean is None, eps=EPSILON)
