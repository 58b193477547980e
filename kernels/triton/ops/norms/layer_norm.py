"""Layer normalisation over the last dimension: y = (s − mean(s)) / √(var(s) + eps) · weight + bias, s = x +
residual.

x, residual, y: (..., columns); weight, bias: (columns,). x and residual: float16, bfloat16 or float32; weight
and bias of x's dtype or float32. Ba et al. 2016, https://arxiv.org/abs/1607.06450.

Algorithm: `forward` and `backward`; registration: `operators`.
"""

from typing import Literal, overload

import torch

from fuseproof.kernels.triton.ops.norms import operators

_layer_norm = operators.define("layer_norm", centred=True)


@overload
def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: torch.Tensor | None = None,
    return_sum: Literal[False] = False,
) -> torch.Tensor: ...


@overload
def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: torch.Tensor | None = None,
    return_sum: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: torch.Tensor | None = None,
    return_sum: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """(s − mean(s)) / √(var(s) + eps) · weight + bias over the last dimension, with s = x + residual.

    Args:
        x: (..., columns), float16, bfloat16 or float32; last dimension contiguous and rows evenly spaced, not
            copied.
        weight: (columns,), of x's dtype or float32.
        bias: (columns,), of x's dtype or float32; zero if None.
        eps: added to the variance, not negative.
        residual: shape and dtype of x, added in float32 before the statistics are taken.
        return_sum: return (y, s), s rounded to x's dtype: the next residual, without another pass.

    Differentiable once in all tensors; dweight and dbias are sums in a fixed order, without atomics. Rows of
    up to 32,768 columns are read once, longer ones twice (tested to 262,144). Returns y of the shape and
    dtype of x, contiguous.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter).

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450.
    """
    operators.check("layer_norm", x, weight, bias, eps, residual, return_sum)
    y, s, _ = _layer_norm(x, weight, bias, residual, eps, return_sum)
    return (y, s) if return_sum else y
