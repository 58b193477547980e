"""Attention: out = softmax(scale · q kᵀ) v per head, with gradients; `attention` is the function to call.

q: (batch, query_heads, query_length, head_dim); k, v: (batch, key_value_heads, key_length, head_dim); out
like q. Query head h reads key/value head h // (query_heads / key_value_heads). float16, bfloat16 or float32
(IEEE products, no TF32), any strides with a contiguous last dimension. Causal masking is aligned at the
start, as PyTorch's `scaled_dot_product_attention(is_causal=True)`: query i sees the keys j ≤ i, whatever the
two lengths.

The kernels are in `attention_forward` and `attention_backward` beside this; here they become operators of
PyTorch (`torch.ops.fuseproof.attention` and `attention_backward`), which autograd and `torch.compile` know.
"""

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

import torch

from fuseproof.kernels.triton.launch import (
    TARGETS,
    Launch,
    Target,
    check_same_dtype,
    check_tensors,
    name_of,
)
from fuseproof.kernels.triton.ops.attention import backward, forward


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
    """Those of dq, dk, dv that are wanted."""
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
        "attention: second derivatives are not written; use "
        "torch.nn.functional.scaled_dot_product_attention with the MATH backend for them"
    )


_attention.register_autograd(_gradients, setup_context=_save)
_attention_backward.register_autograd(_no_second_derivative)


def variants(dtype: torch.dtype, target: Target = TARGETS[90]) -> Iterator[Launch]:
    """Launches on meta tensors that use every kernel and config of `dtype` on `target` and every branch."""
    # head_dim, queries, keys, causal, every config or the first: what differs in the code but not the config
    # is shown once. Head dim 96 has the configs of 128.
    cases = (
        (128, 4096, 4096, False, False),
        (128, 4096, 4096, True, False),
        (64, 4099, 4099, True, True),
        (96, 4099, 4099, True, False),
        (128, 4099, 4099, True, True),
        (256, 4099, 4099, True, True),
        *((head_dim, 1, 4099, False, False) for head_dim in forward.HEAD_DIMS),
        *((head_dim, 13, 4099, False, False) for head_dim in forward.HEAD_DIMS),
    )
    for head_dim, query_length, key_length, causal, every in cases:
        yield from _launches(
            head_dim, query_length, key_length, causal, dtype=dtype, target=target, every=every
        )


def _launches(
    head_dim: int,
    query_length: int,
    key_length: int,
    causal: bool,
    *,
    dtype: torch.dtype,
    target: Target,
    every: bool,
) -> Iterator[Launch]:
    q = torch.empty(2, query_length, 16, head_dim, dtype=dtype, device="meta").transpose(1, 2)
    k = torch.empty(2, key_length, 4, head_dim, dtype=dtype, device="meta").transpose(1, 2)
    lse = torch.empty(q.shape[:3], device="meta")
    options: dict[str, Any] = {"causal": causal, "scale": head_dim**-0.5, "target": target}
    case = f"s{query_length}-d{head_dim}{'-causal' * causal}"
    size = dtype.itemsize
    count = None if every else 1

    def named(part: str, launches: Iterable[Launch], config: forward.Config | None) -> Iterator[Launch]:
        tile = (
            "" if config is None else (f"-{config.BLOCK_M}x{config.BLOCK_N}-w{config.warps}-s{config.stages}")
        )
        for launch in launches:
            yield launch.labelled(f"attention[{part}-{case}{tile}-{name_of(dtype)}]")

    rows = query_length * forward.heads_of_a_tile(4, query_length)
    for config in forward.candidates(target, size, head_dim, rows)[:count]:
        attend, *combine = forward.plan_forward(q, k, k, q, lse, **options, config=config)
        yield from named("forward", [attend], config)
        yield from named("combine", combine, config)
    if query_length <= forward.PACKED_ROWS:
        return  # the backward kernels have one way for all lengths
    if count is None:
        yield from named("delta", [backward.plan_delta(q, q, lse)], None)
    for config in backward.query_candidates(target, size, head_dim)[:count]:
        launch = backward.plan_query_gradient(q, k, k, q, lse, lse, q, **options, config=config)
        yield from named("dq", [launch], config)
    for config in backward.key_candidates(target, size, head_dim)[:count]:
        launches = backward.plan_key_gradients(q, k, k, q, lse, lse, k, k, **options, config=config)
        for part, launch in zip(("dk-dv",) if len(launches) == 1 else ("dk", "dv"), launches, strict=True):
            yield from named(part, [launch], config)


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
    if head_dim not in forward.HEAD_DIMS:
        raise ValueError(
            f"attention: head dimension {head_dim} is not one of {forward.HEAD_DIMS}; "
            "pad q, k and v with zeros, and give the scale"
        )
    if k.shape[1] == 0 or query_heads % k.shape[1]:
        raise ValueError(
            f"attention: {query_heads} query heads are not a multiple of {k.shape[1]} key/value heads; "
            "repeat k and v"
        )
    if k.shape[2] == 0:
        raise ValueError("attention: there must be at least one key; softmax over none is undefined")
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

    Raises ValueError or TypeError for what the kernels cannot take, NotImplementedError for tensors that are
    not on a GPU (outside Triton's interpreter) and for second derivatives.

    Source: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691).
    """
    _check(q, k, v, scale)
    out, _ = _attention(q, k, v, causal, q.shape[3] ** -0.5 if scale is None else float(scale))
    return out
