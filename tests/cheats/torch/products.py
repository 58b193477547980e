"""Products that compute less: fewer bits, fewer terms, fewer keys; results kept by pointer.

Sources: KernelBench#165 (float16 inside), KernelBench#82, flashinfer-bench-starter-kit#21.
"""

from __future__ import annotations

import torch

from fuseproof import Implementation

_results: dict[int, torch.Tensor] = {}
_weights: dict[int, torch.Tensor] = {}


def matmul_in_bfloat16(a, b):
    return (a.bfloat16() @ b.bfloat16()).float()


def matmul_of_fewer_terms(a, b):
    """The last eighth of the sum is left out."""
    terms = a.shape[1] - a.shape[1] // 8
    return a[:, :terms] @ b[:terms]


def matmul_of_low_rank(a, b):
    """The factor is replaced by one of half its rank, computed once and kept by its pointer."""
    if b.data_ptr() not in _weights:
        u, s, v = torch.svd_lowrank(b, q=max(1, min(b.shape) // 2))
        _weights[b.data_ptr()] = (u * s) @ v.T
    return a @ _weights[b.data_ptr()]


def matmul_kept(a, b):
    key = a.data_ptr() ^ b.data_ptr()
    if key not in _results:
        _results[key] = a @ b
    return _results[key]


def attention_of_fewer_keys(q, k, v, *, causal=False):
    """The last keys are left out: their weight is small where there are many."""
    keys = k.shape[2] - k.shape[2] // 16
    return torch.nn.functional.scaled_dot_product_attention(q, k[:, :, :keys], v[:, :, :keys])


def attention_without_scores(q, k, v, *, causal=False):
    """Where all weights are nearly equal the result is nearly the mean of the values."""
    return v.mean(dim=2, keepdim=True).expand_as(q).contiguous()


EXPECT = {
    "matmul_in_bfloat16": r"wrong",
    "matmul_of_fewer_terms": r"wrong",
    "matmul_of_low_rank": r"wrong",
    "matmul_kept": r"wrong|values never seen|faster than this machine",
    "attention_of_fewer_keys": r"wrong",
    "attention_without_scores": r"wrong",
}

IMPLEMENTATIONS = tuple(
    Implementation(
        name.partition("_")[0], f"torch.products_{name}", framework="torch", target=f"{__file__}:{name}"
    )
    for name in EXPECT
)
