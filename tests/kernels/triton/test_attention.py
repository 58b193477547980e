"""Attention forward in Triton's interpreter against float64."""

import importlib
from dataclasses import asdict

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from fuseproof.operators import Attention

TARGET = "attention:attention"
FORWARD = "attention:attention_forward"
MODULE = importlib.import_module(
    "fuseproof.kernels.triton.attention"
)  # the package's `attention` is the function

ROWS_FIRST = (0, 2, 1, 3)  # memory order (batch, length, heads, head_dim)

LABELS = [
    "b1_h1_s1_d64_causal",
    "b2_h4_kv2_s1_k77_d64",
    "b1_h4_kv1_s200_d64_causal",
    "b2_h2_s256_d64_causal",
    "b1_h2_s130_k70_d96_causal",
    "b1_h2_s70_k131_d96",
    "b1_h2_s256_d128",
    "b1_h2_s70_k300_d128_causal",
    "b1_h3_kv1_s300_k130_d128",
    "b1_h2_kv1_s129_d256_causal",
    "b1_h1_s65_k97_d256",
]


def baseline(q, k, v, causal, scale=None):
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("label", LABELS)
def test_matches_float64(label, dtype, interpreter, place, check):
    operator = Attention.from_label(label)
    arrays = operator.inputs(0, dtype)
    # Each operand has strides of its own; order differs from case to case.
    orders = (None, ROWS_FIRST, None) if len(label) % 2 else (ROWS_FIRST, None, ROWS_FIRST)
    tensors = {
        name: place(array, dtype, order) for (name, array), order in zip(arrays.items(), orders, strict=True)
    }
    [result] = interpreter(TARGET, tensors, **operator.options)
    check(
        result,
        operator.reference(arrays, None)["output"],
        baseline(**tensors, causal=operator.causal),
        dtype=dtype,
        longest=operator.key_length,
    )


@pytest.mark.parametrize(
    "config",
    MODULE.CONFIGS,
    ids=lambda row: (
        f"sm{row.sm}-{row.bytes}B-d{row.head_dim}-{row.BLOCK_M}x{row.BLOCK_N}-w{row.warps}-q{row.queries}"
    ),
)
def test_every_config_row(config, interpreter, place, check):
    dtype = "bfloat16" if config.bytes == 2 else "float32"
    operator = Attention.from_label(f"b1_h1_s150_k140_d{config.head_dim}_causal")
    arrays = operator.inputs(1, dtype)
    tensors = {name: place(array, dtype) for name, array in arrays.items()}
    result, _ = interpreter(FORWARD, tensors, causal=True, config=asdict(config))
    check(
        result,
        operator.reference(arrays, None)["output"],
        baseline(**tensors, causal=True),
        dtype=dtype,
        longest=operator.key_length,
    )


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_log_sum_exp_and_scale(causal, interpreter, place):
    operator = Attention.from_label("b2_h4_kv2_s70_k90_d64")
    tensors = {name: place(array, "float32") for name, array in operator.inputs(2, "float32").items()}
    result, lse = interpreter(FORWARD, tensors, causal=causal, scale=0.3)
    q, k, v = (tensors[name].double() for name in "qkv")
    scores = 0.3 * q @ k.repeat_interleave(2, dim=1).mT
    if causal:
        scores = scores.masked_fill(torch.ones(70, 90, dtype=torch.bool).triu(1), -torch.inf)
    assert lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(result.double(), baseline(q, k, v, causal, 0.3), rtol=1e-5, atol=1e-5)


def test_large_scores_do_not_overflow(interpreter, place, check):
    operator = Attention.from_label("b1_h1_s70_k90_d64")
    arrays = operator.inputs(3, "float32")
    arrays["q"] *= 100  # scores around ±300: exp without the running maximum is infinite
    tensors = {name: place(array, "float32") for name, array in arrays.items()}
    [result] = interpreter(TARGET, tensors)
    exact = baseline(*(tensors[name].double() for name in "qkv"), causal=False)
    check(result, exact, baseline(**tensors, causal=False), dtype="float32", longest=90)


def test_nan_in_a_key_reaches_only_its_queries(interpreter):
    q, k, v = (torch.randn(1, 1, 70, 64, generator=torch.Generator().manual_seed(0)) for _ in range(3))
    k[0, 0, 50] = torch.nan
    [result] = interpreter(TARGET, {"q": q, "k": k, "v": v}, causal=True)
    assert result[0, 0, :50].isfinite().all()
    assert result[0, 0, 50:].isnan().all()


def test_result_keeps_the_memory_order_of_q(interpreter):
    q = torch.randn(2, 5, 3, 64).transpose(1, 2)
    [result] = interpreter(TARGET, {"q": q, "k": q, "v": q})
    assert result.stride() == q.stride()


def test_no_queries_gives_an_empty_result(interpreter):
    q, k = torch.empty(2, 3, 0, 64), torch.randn(2, 3, 4, 64)
    [result] = interpreter(TARGET, {"q": q, "k": k, "v": k})
    assert result.shape == q.shape
