"""The norms as a user writes them in Helion, whose package has a language and no kernels to call.

Helion 1.5.1, https://github.com/pytorch/helion. Its search for a config takes minutes for every shape, so the
kernels run with its default config unless HELION_AUTOTUNE_EFFORT is set. They were run in Helion's
interpreter on the CPU (HELION_INTERPRET=1); not run on a GPU yet.
"""

# No `from __future__ import annotations`: Helion reads the annotation of a constant.
import os

import helion
import helion.language as hl
import torch
from torch import Tensor

from fuseproof.workloads.operators.layer_norm import EPSILON
from fuseproof.workloads.operators.rms_norm import EPSILON as RMS_EPSILON

_EFFORT = os.environ.get("HELION_AUTOTUNE_EFFORT", "none")

_kernel = helion.kernel(autotune_effort=_EFFORT, static_shapes=True)


@_kernel
def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: hl.constexpr) -> Tensor:
    rows, _ = x.size()
    out = torch.empty_like(x)
    for tile in hl.tile(rows):
        s = x[tile, :].to(torch.float32)
        centred = s - torch.mean(s, dim=-1)[:, None]
        rstd = torch.rsqrt(torch.mean(centred * centred, dim=-1) + eps)
        y = centred * rstd[:, None] * weight[:].to(torch.float32) + bias[:].to(torch.float32)
        out[tile, :] = y.to(out.dtype)
    return out


@_kernel
def _rms_norm(x: Tensor, weight: Tensor, eps: hl.constexpr) -> Tensor:
    rows, _ = x.size()
    out = torch.empty_like(x)
    for tile in hl.tile(rows):
        s = x[tile, :].to(torch.float32)
        rstd = torch.rsqrt(torch.mean(s * s, dim=-1) + eps)
        out[tile, :] = (s * rstd[:, None] * weight[:].to(torch.float32)).to(out.dtype)
    return out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    return _layer_norm(x if residual is None else x + residual, weight, bias, EPSILON)


def rms_norm(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    return _rms_norm(x if residual is None else x + residual, weight, RMS_EPSILON)
