"""Attention in Triton's interpreter, forward and backward, against float64."""

from dataclasses import asdict

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from fuseproof.kernels.triton.launch import ARCHITECTURES
from fuseproof.kernels.triton.ops.attention import compile_list, forward
from fuseproof.kernels.triton.ops.attention.configs import (
    FORWARD_CONFIGS,
    HEAD_DIMS,
    KEY_CONFIGS,
    QUERY_CONFIGS,
    forward_candidates,
    forward_shared_memory,
    is_legal,
    key_candidates,
    key_shared_memory,
    query_candidates,
    query_shared_memory,
)
from fuseproof.workloads.operators import Attention

TARGET = "attention.api:attention"
FORWARD = "attention.forward:attention_forward"
BACKWARD = "attention.backward:attention_backward"

ROWS_FIRST = (0, 2, 1, 3)  # memory order (batch, length, heads, head_dim)

LABELS = [
    "b1_h1_s1_d64_causal",
    "b2_h4_kv2_s1_k77_d64",
    "b1_h4_kv1_s200_d64_causal",
    "b1_h2_s256_d64_causal",
    "b1_h2_s130_k70_d96_causal",
    "b1_h2_s70_k131_d96",
    "b1_h2_s256_d128",
    "b1_h2_s70_k300_d128_causal",
    "b1_h3_kv1_s140_k130_d128",
    "b1_h2_kv1_s69_d256_causal",
    "b1_h1_s65_k97_d256",
    "b1_h6_kv2_s5_k530_d96",  # the heads of a group share a tile, the keys are split between programs
]


def baseline(q, k, v, causal, scale=None):
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped)


def baseline_gradients(tensors, do, causal, scale=None):
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    return torch.autograd.grad(baseline(**leaves, causal=causal, scale=scale), leaves.values(), do)


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
    cotangent = operator.inputs(7, dtype)["q"]
    do = place(cotangent, dtype, orders[1])
    results = interpreter.gradients(TARGET, tensors, do, **operator.options)
    exact = operator.reference(arrays, cotangent)
    expected = baseline(**tensors, causal=operator.causal), *baseline_gradients(tensors, do, operator.causal)
    for name, result, allowed in zip(exact, results, expected, strict=True):
        check(
            result, exact[name], allowed, dtype=dtype, longest=max(operator.key_length, operator.query_length)
        )


def name_of(config):
    tile = f"{config.BLOCK_M}x{config.BLOCK_N}-w{config.warps}-s{config.stages}"
    return f"sm{config.sm}-{config.bytes}B-d{config.head_dim}-{tile}-r{config.rows}{'-apart' * config.apart}"


@pytest.mark.parametrize("config", FORWARD_CONFIGS, ids=name_of)
def test_every_forward_config(config, interpreter, place, check):
    dtype = "bfloat16" if config.bytes == 2 else "float32"
    operator = Attention.from_label(f"b1_h1_s150_k140_d{config.head_dim}_causal")
    arrays = operator.inputs(1, dtype)
    tensors = {name: place(array, dtype) for name, array in arrays.items()}
    result, _ = interpreter(FORWARD, tensors, causal=True, config=asdict(config))
    exact = operator.reference(arrays, None)["output"]
    check(result, exact, baseline(**tensors, causal=True), dtype=dtype, longest=operator.key_length)


def log_sum_exp(q, k, causal, scale):
    """Of the scaled scores, in float64."""
    scores = scale * q.double() @ k.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1).mT
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.logsumexp(-1)


@pytest.mark.parametrize(
    ("table", "config"),
    [
        *(("query_config", config) for config in QUERY_CONFIGS),
        *(("key_config", config) for config in KEY_CONFIGS),
    ],
    ids=lambda value: value.removesuffix("_config") if isinstance(value, str) else name_of(value),
)
def test_every_backward_config(table, config, interpreter, place, check):
    """In the dtype and head dimension it is for, and only the gradients that it computes."""
    dtype = "bfloat16" if config.bytes == 2 else "float32"
    operator = Attention.from_label(f"b1_h2_kv1_s150_k140_d{config.head_dim}_causal")
    arrays = operator.inputs(1, dtype)
    tensors = {name: place(array, dtype) for name, array in arrays.items()}
    cotangent = operator.inputs(7, dtype)["q"]
    do = place(cotangent, dtype)
    scale = operator.head_dim**-0.5
    saved = {
        "out": baseline(**tensors, causal=True),
        "lse": log_sum_exp(tensors["q"], tensors["k"], True, scale).float(),
    }
    names = "q" if table == "query_config" else "kv"
    results = interpreter(
        BACKWARD,
        {"do": do, **tensors, **saved},
        causal=True,
        scale=scale,
        wanted=[name in names for name in "qkv"],
        **{table: asdict(config)},
    )
    exact = operator.reference(arrays, cotangent)
    for name, result, allowed in zip("qkv", results, baseline_gradients(tensors, do, True), strict=True):
        if name in names:
            check(result, exact[f"grad_{name}"], allowed, dtype=dtype, longest=150)
        else:
            assert result is None


def small(label="b2_h4_kv2_s40_k50_d64", seed=4):
    """float32 tensors of a small problem and a cotangent."""
    operator = Attention.from_label(label)
    tensors = {name: torch.from_numpy(array) for name, array in operator.inputs(seed, "float32").items()}
    return tensors, torch.from_numpy(operator.inputs(seed + 1, "float32")["q"])


def assert_gradients(results, tensors, do, **options):
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    for result, expected in zip(results, baseline_gradients(exact, do.double(), **options), strict=True):
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_a_scale(interpreter):
    tensors, do = small()
    _, *gradients = interpreter.gradients(TARGET, tensors, do, causal=True, scale=0.3)
    assert_gradients(gradients, tensors, do, causal=True, scale=0.3)


@pytest.mark.parametrize(
    "stretch",
    [
        lambda do: do[0, 0, 0, 0].expand(do.shape),  # what `out.sum().backward()` sends
        lambda do: do[:, :, :1].expand(do.shape),
        lambda do: do.mT.contiguous().mT,
        lambda do: do.repeat_interleave(2, dim=2)[:, :, ::2],
    ],
    ids=["one-number", "one-row", "dims-first", "every-second-row"],
)
def test_cotangents_of_any_strides(stretch, interpreter):
    tensors, do = small()
    do = stretch(do)
    _, *gradients = interpreter.gradients(TARGET, tensors, do)
    assert_gradients(gradients, tensors, do, causal=False)


@pytest.mark.parametrize("names", ["q", "k", "v", "qv", "kv"])
def test_only_wanted_gradients(names, interpreter):
    tensors, do = small()
    whole = interpreter.gradients(TARGET, tensors, do)[1:]
    part = interpreter.gradients(TARGET, tensors, do, requires_grad=tuple(names))[1:]
    for name, expected, gradient in zip("qkv", whole, part, strict=True):
        if name in names:
            assert torch.equal(gradient, expected)
        else:
            assert gradient is None


def test_the_same_bits_every_time(interpreter):
    tensors, do = small("b1_h4_kv1_s150_k140_d64", seed=5)
    first, second = (interpreter.gradients(TARGET, tensors, do) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_compiles_without_a_graph_break(interpreter):
    tensors, do = small()
    eager, compiled = (
        interpreter.gradients(TARGET, tensors, do, compiled=compiled, causal=True)
        for compiled in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))


def test_operators_are_registered_as_pytorch_wants_them(interpreter):
    tensors, do = small("b1_h2_kv1_s20_k30_d64")
    leaves = [tensor.requires_grad_() for tensor in tensors.values()]
    interpreter.opcheck("attention.api", "attention", *leaves, True, 0.125)
    out, lse = interpreter(FORWARD, {name: tensor.detach() for name, tensor in tensors.items()}, causal=True)
    plain = [tensor.detach() for tensor in leaves]
    wanted = [True, False, True]
    interpreter.opcheck("attention.api", "attention_backward", do, *plain, out, lse, True, 0.125, wanted)


def test_keys_without_queries_get_no_gradient(interpreter):
    tensors, _ = small()
    tensors["q"] = tensors["q"][:, :, :0]
    _, dq, dk, dv = interpreter.gradients(TARGET, tensors, torch.empty(tensors["q"].shape))
    assert dq.shape == tensors["q"].shape
    assert not dk.any() and not dv.any()


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda given: f"sm_{given.capability}")
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_candidates_are_few_and_legal(architecture, itemsize, head_dim):
    problem = architecture, itemsize, head_dim
    for rows in (1, 16, 17, 64, 65, 10**6):
        assert all(config.rows >= rows for config in forward_candidates(*problem, rows))
    for found, bytes_of in (
        *((forward_candidates(*problem, rows), forward_shared_memory) for rows in (1, 16, 17, 64, 65, 10**6)),
        (query_candidates(*problem), query_shared_memory),
        (key_candidates(*problem), key_shared_memory),
    ):
        assert 0 < len(found) <= 8
        for config in found:
            assert is_legal(config, *problem, bytes_of(config, itemsize, head_dim))
            assert bytes_of(config, itemsize, head_dim) <= architecture.shared_memory


@pytest.mark.parametrize(
    ("label", "heads", "splits"),
    [
        ("b8_h32_kv8_s1_k4096_d128", 4, 4),  # 64 programs on 132 processors
        ("b1_h32_kv8_s1_k4096_d128", 4, 16),  # no split is shorter than 256 keys
        ("b1_h8_kv1_s1_k100000_d128", 8, 32),  # no more splits than the combining tile takes
        ("b64_h32_kv8_s1_k4096_d128", 4, 1),
        ("b1_h32_kv8_s4_k4096_d128_causal", 4, 1),  # 4 causal queries see 4 keys
        ("b1_h32_kv8_s4096_d128", 1, 1),
    ],
)
def test_decoding_shares_tiles_and_splits_keys(label, heads, splits):
    operator = Attention.from_label(label)
    q, k, v = (
        torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in operator.input_shapes.values()
    )
    lse = torch.empty(q.shape[:3], device="meta")
    options = {"causal": operator.causal, "scale": 1.0, "architecture": ARCHITECTURES[90]}
    launches = forward.forward_launches(q, k, v, q, lse, **options)
    assert len(launches) == (2 if splits > 1 else 1)
    assert launches[0].constants["PACK"] == heads
    assert launches[0].grid[1] == splits


def test_compiled_launches_have_different_labels_and_every_candidate():
    for capability, architecture in ARCHITECTURES.items():
        launches = list(compile_list.launches(torch.bfloat16, architecture))
        labels = [launch.label for launch in launches]
        assert len(labels) == len(set(labels)), capability
        tiles = {
            (*(launch.constants[f"BLOCK_{axis}"] for axis in "MN"), launch.num_warps, launch.num_stages)
            for launch in launches
            if "BLOCK_N" in launch.constants
        }
        for head_dim in (64, 128, 256):
            reachable = [
                *forward_candidates(architecture, 2, head_dim, 1),
                *forward_candidates(architecture, 2, head_dim, 4099),
                *query_candidates(architecture, 2, head_dim),
                *key_candidates(architecture, 2, head_dim),
            ]
            missing = [
                config
                for config in reachable
                if (config.BLOCK_M, config.BLOCK_N, config.warps, config.stages) not in tiles
                and config.rows != 64
            ]
            assert not missing, capability


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_log_sum_exp_and_scale(causal, interpreter, place):
    operator = Attention.from_label("b2_h4_kv2_s70_k90_d64")
    tensors = {name: place(array, "float32") for name, array in operator.inputs(2, "float32").items()}
    result, lse = interpreter(FORWARD, tensors, causal=causal, scale=0.3)
    q, k, v = (tensors[name].double() for name in "qkv")
    assert lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), log_sum_exp(q, k, causal, 0.3), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(result.double(), baseline(q, k, v, causal, 0.3), rtol=1e-5, atol=1e-5)


def test_large_scores_do_not_overflow(interpreter, place, check):
    operator = Attention.from_label("b1_h1_s70_k90_d64")
    arrays = operator.inputs(3, "float32")
    arrays["q"] *= 100  # scores around ±300: exp without the running maximum is infinite
    tensors = {name: place(array, "float32") for name, array in arrays.items()}
    [result] = interpreter(TARGET, tensors)
    exact = baseline(*(tensors[name].double() for name in "qkv"), causal=False)
    check(result, exact, baseline(**tensors, causal=False), dtype="float32", longest=90)


@pytest.mark.parametrize(
    ("label", "away"),
    [
        ("b1_h1_s20_k200_d64", 150),  # the first blocks of keys have no finite score
        ("b1_h4_kv1_s1_k1030_d64", 600),  # a split has none
        ("b1_h1_s20_k70_d64", 70),  # no key has one: the result is 0, as PyTorch's of a row masked whole
        ("b1_h4_kv1_s1_k1030_d64", 1030),
    ],
)
def test_scores_of_minus_infinity(label, away, interpreter):
    tensors, do = small(label)
    tensors["q"] = torch.ones_like(tensors["q"])
    k, v = tensors["k"], tensors["v"]
    k[:, :, :away] = -torch.inf
    result, _, dk, dv = interpreter.gradients(TARGET, tensors, do, requires_grad=("k", "v"))
    _, lse = interpreter(FORWARD, tensors)
    assert not dk[:, :, :away].any() and not dv[:, :, :away].any()
    if away == k.shape[2]:
        assert not result.any()
        assert torch.equal(lse, torch.full_like(lse, -torch.inf))
        return
    rest = {"q": tensors["q"], "k": k[:, :, away:], "v": v[:, :, away:]}
    exact = {name: tensor.double() for name, tensor in rest.items()}
    torch.testing.assert_close(result.double(), baseline(**exact, causal=False), rtol=1e-5, atol=1e-5)
    found = dk[:, :, away:], dv[:, :, away:]
    for gradient, true in zip(found, baseline_gradients(exact, do.double(), False)[1:], strict=True):
        torch.testing.assert_close(gradient.double(), true, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_rows_that_overlap(compiled, interpreter):
    """`empty_like` of such a tensor has no contiguous last dimension."""
    _, do = small("b1_h1_s16_d64")
    numbers = torch.randn(3, 1, 1, 79, generator=torch.Generator().manual_seed(0))
    tensors = {name: row.unfold(2, 64, 1) for name, row in zip("qkv", numbers, strict=True)}
    assert torch.empty_like(tensors["q"]).stride(-1) != 1
    result, *gradients = interpreter.gradients(TARGET, tensors, do, compiled=compiled)
    exact = baseline(*(tensors[name].double() for name in "qkv"), causal=False)
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-5)
    assert_gradients(gradients, tensors, do, causal=False)


def test_no_queries_gives_an_empty_result(interpreter):
    q, k = torch.empty(2, 3, 0, 64), torch.randn(2, 3, 4, 64)
    [result] = interpreter(TARGET, {"q": q, "k": k, "v": k})
    assert result.shape == q.shape
