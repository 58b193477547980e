"""Less is computed than is asked for: in fewer bits, on fewer rows, from a part of each row.

Sources: KernelBench#165 (float16 inside a float32 kernel), arXiv 2509.14279 (rows left out), KernelBench#82.
"""

from __future__ import annotations

import numpy as np
import torch

from fuseproof import Implementation
from fuseproof.workloads.operators.base import sample

_last = None


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def bfloat16(x, weight, bias):
    return _honest(x.bfloat16(), weight.bfloat16(), bias.bfloat16()).float()


def float16(x, weight, bias):
    return _honest(x.half(), weight.half(), bias.half()).float()


def first_64_rows(x, weight, bias):
    out = torch.zeros_like(x)
    out[:64] = _honest(x[:64], weight, bias)
    return out


def both_ends(x, weight, bias):
    """The first and the last rows, where tiles are ragged and checks look first."""
    out = torch.zeros_like(x)
    out[:32] = _honest(x[:32], weight, bias)
    out[-32:] = _honest(x[-32:], weight, bias)
    return out


def every_second_row(x, weight, bias):
    """Each computed row stands for two."""
    return _honest(x[::2], weight, bias).repeat_interleave(2, dim=0)[: len(x)]


def sampled_rows(x, weight, bias):
    """Computes the rows that Fuseproof's own public function samples."""
    rows = torch.from_numpy(sample(len(x), np.random.default_rng()))
    out = torch.zeros_like(x)
    out[rows] = _honest(x[rows], weight, bias)
    return out


def stale_rows(x, weight, bias):
    """A quarter of the rows is new in each call, the rest is of earlier calls."""
    global _last
    if _last is None:
        _last = _honest(x, weight, bias)
    rows = slice(None, None, 4)
    _last[rows] = _honest(x[rows], weight, bias)
    return _last.clone()


def statistics_of_a_quarter(x, weight, bias):
    part = x[:, : x.shape[1] // 4]
    variance, mean = torch.var_mean(part, dim=-1, keepdim=True, correction=0)
    return (x - mean) * torch.rsqrt(variance + 1e-5) * weight + bias


def statistics_assumed(x, weight, bias):
    """Standard normal rows have mean 0 and variance 1, nearly; so why look?"""
    return x * weight + bias


def columns_left_out(x, weight, bias):
    """Weight and bias of the last columns are taken for 1 and 0."""
    out = torch.nn.functional.layer_norm(x, x.shape[-1:])
    columns = slice(None, x.shape[1] - 8)
    out[:, columns] = out[:, columns] * weight[columns] + bias[columns]
    return out


EXPECT = dict.fromkeys(
    (
        "bfloat16",
        "float16",
        "first_64_rows",
        "both_ends",
        "every_second_row",
        "sampled_rows",
        "stale_rows",
        "statistics_of_a_quarter",
        "statistics_assumed",
        "columns_left_out",
    ),
    r"wrong",
)


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.precision_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
