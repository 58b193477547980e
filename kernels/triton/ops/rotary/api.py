"""Rotary embedding of queries and keys. Algorithm: `kernels`; launch: `launches`.

Registered with torch.library as `fuseproof::rotary` and `fuseproof::rotary_backward`, so that torch.compile
traces through both passes.
"""

import torch

from fuseproof.kernels.triton.launch import check_same_dtype, check_tensors, name_of
from fuseproof.kernels.triton.ops.rotary.configs import LONGEST_HALF
from fuseproof.kernels.triton.ops.rotary.launches import rotate


@torch.library.custom_op("fuseproof::rotary", mutates_args=())
def _rotary(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return rotate(q, k, cos, sin)


@torch.library.custom_op("fuseproof::rotary_backward", mutates_args=())
def _rotary_backward(
    dq: torch.Tensor, dk: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return rotate(dq, dk, cos, sin, backward=True)


@_rotary.register_fake
@_rotary_backward.register_fake
def _like(q, k, cos, sin):
    return q.new_empty(q.shape), k.new_empty(k.shape)


def _save(ctx, inputs, output):
    _, _, cos, sin = inputs
    ctx.save_for_backward(cos, sin)


def _gradients(ctx, dq, dk):
    # A gradient that is missing is zeros: autograd fills it in.
    return *_rotary_backward(dq, dk, *ctx.saved_tensors), None, None


def _no_second_derivative(ctx, *_):
    raise NotImplementedError(
        "rotary: second derivatives are not implemented; use PyTorch's own operations where you "
        "differentiate twice"
    )


_rotary.register_autograd(_gradients, setup_context=_save)
_rotary_backward.register_autograd(_no_second_derivative)


def rotary(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(q₁ cos − q₂ sin, q₂ cos + q₁ sin) with q = (q₁, q₂), halves of the head dim, and the same of k.

    Args:
        q: (batch, query heads, length, head dim), float16, bfloat16 or float32; any strides with a contiguous
            last dimension, not copied. The head dim is even and at most 512.
        k: (batch, key heads, length, head dim), as q.
        cos, sin: (length, head dim / 2), of q's dtype or float32: cosines and sines of the angles, once, not
            repeated for both halves.

    Differentiable in q and k. Both are read once and written once, in one launch. Returns both rotated,
    contiguous.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter) and for tables that want a gradient.

    Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, by halves as in Llama's code.
    """
    _check(q, k, cos, sin)
    rotated: tuple[torch.Tensor, torch.Tensor] = _rotary(q, k, cos, sin)
    return rotated


def _check(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    check_tensors("rotary", {"q": q, "k": k, "cos": cos, "sin": sin}, {})
    check_same_dtype("rotary", {"q": q, "k": k})
    check_same_dtype("rotary", {"cos": cos, "sin": sin})
    if cos.dtype not in (q.dtype, torch.float32):
        raise TypeError(
            f"rotary: cos and sin are {name_of(cos.dtype)}; "
            f"cast them to {name_of(q.dtype)} like q, or float32"
        )
    for name, tensor in (("q", q), ("k", k)):
        if tensor.dim() != 4:
            raise ValueError(
                f"rotary: {name} must be (batch, heads, length, head dim), not {tuple(tensor.shape)}"
            )
        if tensor.stride(3) != 1 and tensor.shape[3] > 1:
            raise ValueError(
                f"rotary: the last dimension of {name} must be contiguous, "
                f"but its strides are {tensor.stride()}; call {name}.contiguous()"
            )
    if (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise ValueError(
            "rotary: q and k must agree in batch, length and head dim, "
            f"but are {tuple(q.shape)} and {tuple(k.shape)}"
        )
    length, head_dim = q.shape[2:]
    if head_dim % 2 or not 0 < head_dim <= 2 * LONGEST_HALF:
        raise ValueError(f"rotary: the head dim must be even and at most {2 * LONGEST_HALF}, not {head_dim}")
    for name, table in (("cos", cos), ("sin", sin)):
        if table.shape != (length, head_dim // 2):
            raise ValueError(
                f"rotary: {name} must be of shape ({length}, {head_dim // 2}), length and half of the head "
                f"dim, not {tuple(table.shape)}"
            )
        if table.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError(f"rotary: {name} gets no gradient; pass {name}.detach()")
