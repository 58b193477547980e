"""The recommendation model in PyTorch: fuseproof.workloads.blocks.dlrm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, linear
from fuseproof.workloads.blocks.dlrm import DLRM


@module_of(DLRM)
def dlrm(parameters: Parameters, x: Tensor, indices: Tensor) -> Tensor:
    p = parameters
    bottom = linear(F.silu(linear(x, p, "bottom_0")), p, "bottom_1")
    tables = range(indices.shape[1])
    rows = [F.embedding(indices[:, number], p[f"table_{number}"]) for number in tables]
    vectors = torch.stack([bottom, *rows], dim=1)
    products = torch.bmm(vectors, vectors.transpose(1, 2))
    i, j = torch.tril_indices(*products.shape[1:], offset=-1, device=x.device)
    together = torch.cat((bottom, products[:, i, j]), dim=1)
    return linear(F.silu(linear(together, p, "top_0")), p, "top_1").squeeze(1)
