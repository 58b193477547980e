"""The operators in PyTorch: as the library call a user writes, composed from primitives, and in place.

The composed ones give torch.compile something to fuse. In place is the composed code as a user writes it for
inference: every step writes over the memory of the last one, a norm over x. Shapes are those of
fuseproof.workloads.operators; gradients are autograd's, which cannot follow the ones in place.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fuseproof.workloads.operators.layer_norm import EPSILON
from fuseproof.workloads.operators.rms_norm import EPSILON as RMS_EPSILON


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


def attention_composed(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    if q.shape[1] != k.shape[1]:
        share = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
    # The softmax in float32, as model code has it for half-precision inputs.
    scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(q.shape[-1])
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~mask, float("-inf"))
    scores = scores - scores.amax(dim=-1, keepdim=True)
    weights = scores.exp()
    return (weights / weights.sum(dim=-1, keepdim=True)).to(v.dtype) @ v


def attention_inplace(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    if q.shape[1] != k.shape[1]:
        share = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
    scores = (q @ k.transpose(-2, -1)).float().div_(math.sqrt(q.shape[-1]))
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril_()
        scores.masked_fill_(mask.logical_not_(), float("-inf"))
    weights = scores.sub_(scores.amax(dim=-1, keepdim=True)).exp_()
    return weights.div_(weights.sum(dim=-1, keepdim=True)).to(v.dtype) @ v


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    if a.dtype == torch.float8_e4m3fn:
        one = _one(a.device)
        return torch._scaled_mm(a, b, one, one, out_dtype=torch.bfloat16)
    # addmm is what F.linear calls; F.linear itself takes the weight transposed.
    product = torch.matmul(a, b) if bias is None else torch.addmm(bias, a, b)
    return F.gelu(product, approximate="tanh") if activation == "gelu_tanh" else product


@functools.cache
def _one(device: torch.device) -> Tensor:
    """The scale of unscaled 8-bit operands: a tensor, made once and not at every call."""
    return torch.ones((), device=device)


def matmul_composed(
    a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None
) -> Tensor:
    product = a @ b
    if bias is not None:
        product = product + bias
    if activation == "gelu_tanh":
        inner = math.sqrt(2 / math.pi) * (product + 0.044715 * product * product * product)
        product = 0.5 * product * (1 + torch.tanh(inner))
    return product


def matmul_inplace(
    a: Tensor, b: Tensor, bias: Tensor | None = None, *, activation: str | None = None
) -> Tensor:
    if bias is None and activation is None:
        raise NotImplementedError("a plain product leaves nothing to write in place")
    product = a @ b
    if bias is not None:
        product.add_(bias)
    if activation == "gelu_tanh":
        # √(2/π) (p + 0.044715 p³) = √(2/π) p (1 + 0.044715 p²), in one further buffer.
        inner = (product * product).mul_(0.044715).add_(1).mul_(product)
        product.mul_(0.5).mul_(inner.mul_(math.sqrt(2 / math.pi)).tanh_().add_(1))
    return product


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    return F.layer_norm(x if residual is None else x + residual, x.shape[-1:], weight, bias, EPSILON)


def layer_norm_composed(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    dtype = x.dtype
    # Statistics in float32, as the library call keeps them: otherwise the comparison would be of precisions.
    s = (x if residual is None else x + residual).float()
    centred = s - s.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return (centred * torch.rsqrt(variance + EPSILON) * weight.float() + bias.float()).to(dtype)


def layer_norm_inplace(x: Tensor, weight: Tensor, bias: Tensor, *, residual: Tensor | None = None) -> Tensor:
    """Writes the result over x."""
    s = (x if residual is None else x.add_(residual)).float()  # x itself if it is float32
    s.sub_(s.mean(dim=-1, keepdim=True))
    variance = (s * s).mean(dim=-1, keepdim=True)
    s.mul_(variance.add_(EPSILON).rsqrt_()).mul_(weight.float()).add_(bias.float())
    return s if s is x else x.copy_(s)


def rms_norm(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    return F.rms_norm(x if residual is None else x + residual, x.shape[-1:], weight, RMS_EPSILON)


def rms_norm_composed(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    dtype = x.dtype
    s = (x if residual is None else x + residual).float()
    mean_square = (s * s).mean(dim=-1, keepdim=True)
    return (s * torch.rsqrt(mean_square + RMS_EPSILON) * weight.float()).to(dtype)


def rms_norm_inplace(x: Tensor, weight: Tensor, *, residual: Tensor | None = None) -> Tensor:
    """Writes the result over x."""
    s = (x if residual is None else x.add_(residual)).float()
    mean_square = (s * s).mean(dim=-1, keepdim=True)
    s.mul_(mean_square.add_(RMS_EPSILON).rsqrt_()).mul_(weight.float())
    return s if s is x else x.copy_(s)


def softmax(x: Tensor) -> Tensor:
    return F.softmax(x, dim=-1)


def softmax_composed(x: Tensor) -> Tensor:
    s = x.float()
    weights = (s - s.amax(dim=-1, keepdim=True)).exp()
    return (weights / weights.sum(dim=-1, keepdim=True)).to(x.dtype)


def softmax_inplace(x: Tensor) -> Tensor:
    """Writes the result over x."""
    s = x.float()
    weights = s.sub_(s.amax(dim=-1, keepdim=True)).exp_()
    weights.div_(weights.sum(dim=-1, keepdim=True))
    return weights if weights is x else x.copy_(weights)


def cross_entropy(logits: Tensor, targets: Tensor, *, reduction: str = "none") -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction=reduction)


def cross_entropy_composed(logits: Tensor, targets: Tensor, *, reduction: str = "none") -> Tensor:
    s = logits.float()
    most = s.amax(dim=-1, keepdim=True)
    right = s.gather(1, targets[:, None])
    losses = ((s - most).exp().sum(dim=-1, keepdim=True).log() + most - right).squeeze(1)
    return losses.mean() if reduction == "mean" else losses


def cross_entropy_inplace(logits: Tensor, targets: Tensor, *, reduction: str = "none") -> Tensor:
    """Writes over float32 logits; others are copied as float32 first."""
    s = logits.float()
    right = s.gather(1, targets[:, None])
    most = s.amax(dim=-1, keepdim=True)
    losses = s.sub_(most).exp_().sum(dim=-1, keepdim=True).log_().add_(most).sub_(right).squeeze(1)
    return losses.mean() if reduction == "mean" else losses


def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    # As Llama's code in transformers has it; PyTorch has no call.
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
    return q * cos + _rotate_half(q) * sin, k * cos + _rotate_half(k) * sin


def _rotate_half(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def rotary_composed(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def rotary_inplace(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the results over q and k."""
    for x in (q, k):
        first, second = x.chunk(2, dim=-1)
        crossed = first * sin
        first.mul_(cos).sub_(second * sin)
        second.mul_(cos).add_(crossed)
    return q, k


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return (F.silu(x @ gate) * (x @ up)) @ down


def swiglu_composed(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    # The gate in float32, as the library call computes silu.
    g = (x @ gate).float()
    return ((g / (1 + (-g).exp())).to(x.dtype) * (x @ up)) @ down


def swiglu_inplace(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return F.silu(x @ gate, inplace=True).mul_(x @ up) @ down


def embedding(table: Tensor, indices: Tensor) -> Tensor:
    return F.embedding(indices, table)


def embedding_composed(table: Tensor, indices: Tensor) -> Tensor:
    return table[indices]
