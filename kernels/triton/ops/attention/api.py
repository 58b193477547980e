"""Attention: out = softmax(scale · q kᵀ) v per head, with gradients; `attention` is the function to call.

q: (batch, query_heads, query_length, head_dim); k, v: (batch, key_value_heads, key_length, head_dim); out
like q. Query head h reads key/value head h // (query_heads / key_value_heads). float16, bfloat16 or float32
(IEEE products, no TF32), any strides with a contiguous last dimension. Causal masking is aligned at the
start, as PyTorch's `scaled_dot_product_attention(is_causal=True)`: query i sees the keys j ≤ i, whatever the
two lengths.

The kernels are in `forward` and `backward` beside this module; here they become operators of PyTorch,
`torch.ops.fuseproof.attention` and `attention_backward`, which autograd and `torch.compile` know.
"""

from math import inf

import torch

from fuseproof.kernels.triton.launch import check_same_dtype, check_tensors
from fuseproof.kernels.triton.ops.attention import backward, forward
from fuseproof.kernels.triton.ops.attention.configs import HEAD_DIMS


@torch.library.custom_op("fuseproof::attention", mutates_args=())
def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """out and its log-sum-exp."""
    return forward.attention_forward(q, k, v, causal=causal, scale=scale)


@_attention.register_fake
def _(q, k, v, causal, scale):
    return forward.empty_as(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("fuseproof::attention_backward", mutates_args=())
def _attention_backward(
    do: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    causal: bool,
    scale: float,
    wanted: list[bool],
) -> list[torch.Tensor]:
    """The wanted ones of dq, dk and dv."""
    gradients = backward.attention_backward(do, q, k, v, out, lse, causal=causal, scale=scale, wanted=wanted)
    return [gradient for gradient in gradients if gradient is not None]


@_attention_backward.register_fake
def _(do, q, k, v, out, lse, causal, scale, wanted):
    return [forward.empty_as(tensor) for tensor, needed in zip((q, k, v), wanted, strict=True) if needed]


def _save(ctx, inputs, output):
    q, k, v, ctx.causal, ctx.scale = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.set_materialize_grads(False)  # else autograd fills a gradient of lse with zeros
    ctx.save_for_backward(q, k, v, out, lse)


def _gradients(ctx, do, _):
    wanted = list(ctx.needs_input_grad[:3])
    if do is None or not any(wanted):
        return None, None, None, None, None
    computed = iter(_attention_backward(do, *ctx.saved_tensors, ctx.causal, ctx.scale, wanted))
    return *(next(computed) if needed else None for needed in wanted), None, None


def _no_second_derivative(ctx, *_):
    raise NotImplementedError(
        "attention: second derivatives are not implemented; use "
        "torch.nn.functional.scaled_dot_product_attention with the MATH backend for them"
    )


_attention.register_autograd(_gradients, setup_context=_save)
_attention_backward.register_autograd(_no_second_derivative)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> None:
    tensors = {"q": q, "k": k, "v": v}
    check_tensors("attention", tensors, {})
    check_same_dtype("attention", tensors)
    for name, tensor in tensors.items():
        if tensor.dim() != 4:
            raise ValueError(
                f"attention: {name} must be (batch, heads, length, head_dim), "
                f"not of shape {tuple(tensor.shape)}"
            )
        if tensor.stride(3) != 1:
            raise ValueError(
                f"attention: the last dimension of {name} must be contiguous, "
                f"but its strides are {tensor.stride()}; call {name}.contiguous()"
            )
        if tensor.stride(2) >= forward.MAX_ROW_STRIDE:
            raise ValueError(
                f"attention: rows of {name} are {tensor.stride(2)} elements apart, "
                f"more than the {forward.MAX_ROW_STRIDE - 1} supported; call {name}.contiguous()"
            )
    batch, query_heads, _, head_dim = q.shape
    if k.shape != v.shape:
        raise ValueError(f"attention: k {tuple(k.shape)} and v {tuple(v.shape)} must have one shape")
    if k.shape[0] != batch or k.shape[3] != head_dim:
        raise ValueError(
            f"attention: q {tuple(q.shape)} and k {tuple(k.shape)} must agree in batch and head dimension"
        )
    if head_dim not in HEAD_DIMS:
        raise ValueError(
            f"attention: head dimension {head_dim} is not one of {HEAD_DIMS}; "
            "pad q, k and v with zeros, and give the scale"
        )
    if k.shape[1] == 0 or query_heads % k.shape[1]:
        raise ValueError(
            f"attention: {query_heads} query heads are not a multiple of {k.shape[1]} key/value heads; "
            "repeat k and v"
        )
    if k.shape[2] == 0:
        raise ValueError("attention: there must be at least one key; a softmax over no keys is undefined")
    if scale is not None and not 0 < scale < inf:
        raise ValueError(f"attention: scale must be positive and finite, not {scale}; fold a sign into q")


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(scale · q kᵀ) v per head, with gradients for q, k and v.

    Args:
        q: (batch, query_heads, query_length, head_dim), float16, bfloat16 or float32, head_dim 64, 96, 128 or
            256.
        k, v: (batch, key_value_heads, key_length, head_dim), dtype and device of q. key_value_heads divides
            query_heads.
        causal: query i sees only the keys j ≤ i (aligned at the start, PyTorch's `is_causal`).
        scale: positive; head_dim ** -0.5 if None.

    Any strides with a contiguous last dimension, nothing is copied. Products of float32 are IEEE, not TF32.
    Returns the shape, dtype and, where q is dense, memory order of q. The same inputs give the same bits, in
    the gradients too. `torch.compile` traces through without a graph break.

    Raises ValueError or TypeError for unsupported arguments, NotImplementedError for tensors that are not on
    a GPU (outside Triton's interpreter) and for second derivatives.

    Source: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691).
    """
    _check(q, k, v, scale)
    out, _ = _attention(q, k, v, causal, q.shape[3] ** -0.5 if scale is None else float(scale))
    return out
