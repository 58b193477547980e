"""Triton kernels where a case's dtype needs more than the plain call: TF32, by PyTorch's own flag."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fuseproof.kernels import triton


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    tf32 = a.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    precision: dict[str, Any] = {"precision": "tf32"} if tf32 else {}
    return triton.matmul(a, b, bias, activation=activation, **precision)
