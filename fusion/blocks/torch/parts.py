"""What several blocks share. Weights are (in, out) and kernels (height, width, in, out): views, as PyTorch
takes them."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.ops import torch as ops
from fuseproof.workloads.operators.layer_norm import EPSILON

Parameters = Mapping[str, Tensor]


def linear(x: Tensor, p: Parameters, name: str) -> Tensor:
    return F.linear(x, p[name].t(), p.get(f"{name}_bias"))


def layer_norm(x: Tensor, p: Parameters, name: str) -> Tensor:
    return ops.layer_norm(x, p[f"{name}_scale"], p[f"{name}_bias"])


def group_norm(x: Tensor, p: Parameters, name: str, groups: int) -> Tensor:
    return F.group_norm(x, groups, p[f"{name}_scale"], p[f"{name}_bias"], EPSILON)


def convolution(x: Tensor, p: Parameters, name: str) -> Tensor:
    """x: (batch, channels, height, width), whose size stays; channels last in memory."""
    return F.conv2d(x, p[name].permute(3, 2, 0, 1), p.get(f"{name}_bias"), padding="same")


def self_attention(x: Tensor, p: Parameters, heads: int) -> Tensor:
    """Of all positions, with `qkv` and `out`. x: (batch, length, hidden)."""
    batch, length, hidden = x.shape
    qkv = linear(x, p, "qkv").view(batch, length, 3, heads, hidden // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    attended = ops.attention(q, k, v).transpose(1, 2).reshape(batch, length, hidden)
    return linear(attended, p, "out")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads · head_dim) as (batch, heads, length, head_dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def query_key_value(
    x: Tensor, cos: Tensor, sin: Tensor, p: Parameters, heads: int, key_value_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a decoder block, with its norm before and rotary positions after."""
    n = ops.rms_norm(x, p["attention_norm_scale"])
    q = split_heads(linear(n, p, "query"), heads)
    k, v = (split_heads(linear(n, p, name), key_value_heads) for name in ("key", "value"))
    return *ops.rotary(q, k, cos, sin), v


def after_attention(x: Tensor, attended: Tensor, p: Parameters) -> Tensor:
    """The rest of a decoder block. attended: (batch, heads, length, head_dim)."""
    a = x + linear(attended.transpose(1, 2).flatten(2), p, "out")
    return a + ops.swiglu(ops.rms_norm(a, p["mlp_norm_scale"]), p["gate"], p["up"], p["down"])
