"""The U-Net block in PyTorch: fuseproof.workloads.blocks.unet_block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, convolution, group_norm, linear
from fuseproof.workloads.blocks.unet_block import GROUP, UNetBlock


@module_of(UNetBlock)
def unet_block(parameters: Parameters, x: Tensor, skip: Tensor, time: Tensor) -> Tensor:
    p, groups = parameters, skip.shape[-1] // GROUP
    above = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2, mode="nearest")
    above = convolution(above, p, "up")
    z = torch.cat((above, skip.permute(0, 3, 1, 2)), dim=1)
    h = convolution(F.silu(group_norm(z, p, "first_norm", 2 * groups)), p, "first")
    h = h + linear(F.silu(time), p, "embed")[:, :, None, None]
    h = convolution(F.silu(group_norm(h, p, "second_norm", groups)), p, "second")
    return h.permute(0, 2, 3, 1) + linear(z.permute(0, 2, 3, 1), p, "shortcut")
