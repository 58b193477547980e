"""RMS normalisation over the last dimension: y = s / √(mean(s²) + eps) · weight, s = x + residual.

x, residual, y: (..., columns); weight: (columns,). x and residual: float16, bfloat16 or float32; weight of
x's dtype or float32. Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467.

Algorithm: `forward` and `backward`; registration: `operators`.
"""

from typing import Literal, overload

import torch

from fuseproof.kernels.triton.ops.norms import operators

_rms_norm = operators.define("rms_norm", centred=False)


@overload
def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float = 1e-6,
    *,
    residual: torch.Tensor | None = None,
    return_sum: Literal[False] = False,
) -> torch.Tensor: ...


@overload
def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float = 1e-6,
    *,
    residual: torch.Tensor | None = None,
    return_sum: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float = 1e-6,
    *,
    residual: torch.Tensor | None = None,
    return_sum: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """s / √(mean(s²) + eps) · weight over the last dimension, with s = x + residual.

    Args:
        x: (..., columns), float16, bfloat16 or float32; last dimension contiguous and rows evenly spaced, not
            copied.
        weight: (columns,), of x's dtype or float32; the product with it is taken in float32, before the one
            rounding.
        eps: added to the mean square, not negative.
        residual: shape and dtype of x, added in float32 before the mean square is taken.
        return_sum: return (y, s), s rounded to x's dtype: the next residual, without another pass.

    Differentiable once in all tensors; dweight is a sum in a fixed order, without atomics. Rows of up to
    32,768 columns are read once, longer ones twice (tested to 262,144). Returns y of the shape and dtype of
    x, contiguous.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter).

    Source: Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467.
    """
    operators.check("rms_norm", x, weight, None, eps, residual, return_sum)
    y, s, _ = _rms_norm(x, weight, None, residual, eps, return_sum)
    return (y, s) if return_sum else y
