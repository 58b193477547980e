"""Layer normalisation over the last dimension: y = (s − mean(s)) / √(var(s) + eps) · weight + bias, s = x +
residual.

x, residual, y: (..., columns); weight, bias: (columns,). x and residual: float16, bfloat16 or float32; weight
and bias of x's dtype or float32. Ba et al. 2016, https://arxiv.org/abs/1607.06450.

Algorithm, forward: `norm_rows`; backward: `norm_backward`; registration: `norm_operators`.
"""

from collections.abc import Iterator
from typing import Literal, overload

import torch

from fuseproof.kernels.triton.launch import TARGETS, Launch, Target
from fuseproof.kernels.triton.ops.norms import compile_list, operators

_layer_norm = operators.define("layer_norm", centred=True)


def variants(dtype: torch.dtype, target: Target = TARGETS[90]) -> Iterator[Launch]:
    """Launches on meta tensors that use every kernel and config of `dtype` on `target`, and every branch."""
    yield from compile_list.variants("layer_norm", dtype, target, centred=True)


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
        bias: (columns,), likewise; zero if None.
        eps: added to the variance, not negative.
        residual: shape and dtype of x, added in float32 before the statistics are taken.
        return_sum: return (y, s), s rounded to x's dtype: what the next residual is, at no further pass.

    Differentiable once in all tensors; dweight and dbias are sums in a fixed order, without atomics. Rows of
    up to 32,768 columns are read once, longer ones twice (tested to 262,144). Returns y of the shape and
    dtype of x, contiguous.

    Raises ValueError or TypeError for what the kernels cannot take, NotImplementedError for tensors that are
    not on a GPU (outside Triton's interpreter).

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450.
    """
    operators.check("layer_norm", x, weight, bias, eps, residual, return_sum)
    y, s, _ = _layer_norm(x, weight, bias, residual, eps, return_sum)
    return (y, s) if return_sum else y
