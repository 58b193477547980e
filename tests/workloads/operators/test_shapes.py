"""Labels, inputs, work counts and samples: what all operators share."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseproof.errors import UserError
from fuseproof.workloads import operators
from fuseproof.workloads.operators import DTYPES, OPERATORS, base
from fuseproof.workloads.operators.base import SAMPLES, result_dtype, round_to, sample
from fuseproof.workloads.tensor import INDEX


@given(st.data())
def test_a_label_names_one_shape(any_operator, data):
    operator = data.draw(any_operator)
    assert type(operator).from_label(operator.label) == operator


NAMED = [
    pytest.param(operator, name, id=f"{operator}-{name}")
    for operator, kind in OPERATORS.items()
    for name in kind.named_shapes
]


@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_named_shapes_are_shapes(operator, name):
    shape = OPERATORS[operator].from_label(name)
    assert shape.label == OPERATORS[operator].named_shapes[name]
    assert shape.longest_axis == max(max(extents) for extents in shape.input_shapes.values())


def test_llama_decodes_one_token_for_eight_heads_of_keys():
    decode = OPERATORS["attention"].from_label("llama-3-8b-decode")
    assert decode.input_shapes == {"q": (8, 32, 1, 128), "k": (8, 8, 4096, 128), "v": (8, 8, 4096, 128)}
    assert decode.output_shape == (8, 32, 1, 128)


@pytest.mark.parametrize(
    ("operator", "label"),
    [
        ("attention", "b1_h8_s4_d0"),
        ("attention", "b1_h0_s4_d4"),
        ("attention", "b1_h8_s4"),
        ("attention", ""),
        ("matmul", "4x4"),
        ("matmul", "4x0x4"),
        ("matmul", "4x4x4_bias"),
        ("layer_norm", "4"),
        ("layer_norm", "-4x4"),
        ("layer_norm", "4x4_residual_residual"),
        ("layer_norm", "llama"),
        ("rms_norm", "4x0"),
        ("softmax", "4x4_residual"),
        ("cross_entropy", "4x0_mean"),
        ("rotary", "b1_h8_s4_d5"),
        ("rotary", "b1_h8_s4_d0"),
        ("swiglu", "4x4"),
        ("embedding", "4x4x0"),
    ],
)
def test_a_wrong_label_is_refused_in_one_line(operator, label):
    with pytest.raises(UserError, match=operator) as caught:
        operators.get(operator).from_label(label)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("operator", "label"),
    [
        ("attention", "b2_h4_kv2_s7_k5_d3"),
        ("matmul", "7x5x3_bias_gelu_tanh"),
        ("layer_norm", "7x5_residual"),
        ("rms_norm", "7x5_residual"),
        ("softmax", "7x5"),
        ("cross_entropy", "7x500"),
        ("rotary", "b2_h4_kv2_s7_d6"),
        ("swiglu", "7x5x3"),
        ("embedding", "7x500x3"),
    ],
)
def test_inputs_come_from_the_seed_and_fit_the_dtype(operator, label, dtype):
    shape = operators.get(operator).from_label(label)
    inputs, again, other = shape.inputs(3, dtype), shape.inputs(3, dtype), shape.inputs(4, dtype)
    assert {name: array.shape for name, array in inputs.items()} == shape.input_shapes
    for name, array in inputs.items():
        if shape.inputs_by_name[name].dtype == INDEX:
            assert array.dtype == np.int64
        else:
            assert array.dtype == np.float32
            assert np.array_equal(array, array.astype(DTYPES[dtype]).astype(np.float32))
        assert np.array_equal(array, again[name])
        assert not np.array_equal(array, other[name])
    cotangents, again = cotangents_of(shape, dtype), cotangents_of(shape, dtype)
    assert cotangents.keys() == shape.cotangents.keys()
    for name, cotangent in cotangents.items():
        tensor = shape.outputs_by_name[name]
        assert cotangent.shape == tensor.shape
        assert np.array_equal(cotangent, again[name])
        assert np.array_equal(cotangent, round_to(cotangent, tensor.dtype or result_dtype(dtype)))
    tensors = [*inputs.values(), *cotangents.values()]
    assert len({array.ravel()[0] for array in tensors}) == len(tensors), "no two tensors are drawn alike"


def cotangents_of(shape, dtype):
    drawn = shape.cotangent(3, dtype)
    return drawn if isinstance(drawn, dict) else {"output": drawn}


def test_a_softmax_that_does_not_take_off_the_maximum_overflows():
    x = OPERATORS["softmax"].from_label("1x100").inputs(0, "float32")["x"]
    assert (x > np.log(np.finfo(np.float32).max)).all()


def test_logits_and_indices_are_those_of_language():
    logits = OPERATORS["cross_entropy"].from_label("400x1000").inputs(0, "float32")["logits"]
    p = np.exp(logits.astype(np.float64) - logits.max())
    p /= p.sum(axis=1, keepdims=True)
    assert (p**2).sum(axis=1).mean() > 0.01, "beside the right class the others are more than rounding"
    vocabulary = 50_000
    indices = OPERATORS["embedding"].from_label(f"100000x{vocabulary}x1").inputs(0, "float32")["indices"]
    assert indices.min() == 0
    assert indices.max() < vocabulary
    counts = np.bincount(indices, minlength=vocabulary)
    for rank in (1, 2, 4, 8):
        share = math.log(1 + 1 / rank) / math.log(vocabulary + 1)
        assert counts[rank - 1] / len(indices) == pytest.approx(share, rel=0.2)


def test_a_mean_of_losses_is_refused_where_a_constant_would_pass():
    mean = OPERATORS["cross_entropy"].from_label("64x1000_mean")
    for dtype in ("float16", "bfloat16"):
        assert "any constant near it passes" in mean.reason_against(dtype, "forward")
        assert mean.reason_against(dtype, "forward_backward") is None
    assert mean.reason_against("float32", "forward") is None
    assert OPERATORS["cross_entropy"].from_label("64x1000").reason_against("bfloat16", "forward") is None


def test_coarser_inputs_are_the_finer_ones_rounded():
    shape = OPERATORS["matmul"].from_label("7x5x3")
    for name, array in shape.inputs(0, "bfloat16").items():
        assert np.array_equal(array, round_to(shape.inputs(0, "float32")[name], "bfloat16"))


@pytest.mark.parametrize(
    ("operator", "label", "forward", "both"),
    [
        # 4·B·H·Sq·Skv·D = 4·2·3·5·7·11, × 3.5 with the backward pass
        pytest.param("attention", "b2_h3_s5_k7_d11", 9240, 32340, id="attention"),
        # the heads of the queries count, not those of the keys
        pytest.param("attention", "b2_h4_kv2_s5_k7_d11", 12320, 43120, id="grouped attention"),
        # × 0.5
        pytest.param("attention", "b2_h3_s5_k7_d11_causal", 4620, 16170, id="causal attention"),
        # 2·M·N·K, two more products for the gradients
        pytest.param("matmul", "3x5x7", 210, 630, id="matmul"),
        pytest.param("matmul", "3x5x7_bias_gelu_tanh", 210, 630, id="the epilogue is not counted"),
        pytest.param("rms_norm", "3x5", 15 * 4, 15 * 13, id="rms_norm"),
        pytest.param("rms_norm", "3x5_residual", 15 * 5, 15 * 14, id="rms_norm of a sum"),
        pytest.param("softmax", "3x5", 15 * 5, 15 * 9, id="softmax"),
        pytest.param("cross_entropy", "3x5", 15 * 4, 15 * 7, id="cross_entropy"),
        # 3·B·(H + Hkv)·S·D, and as many for the gradients
        pytest.param("rotary", "b2_h4_kv2_s5_d6", 3 * 360, 6 * 360, id="rotary"),
        # three products of 2·T·H·I, two more of each for the gradients
        pytest.param("swiglu", "3x5x7", 630, 1890, id="swiglu"),
        pytest.param("embedding", "3x5x7", 0, 21, id="embedding"),
    ],
)
def test_flops_by_hand(operator, label, forward, both):
    shape = operators.get(operator).from_label(label)
    assert shape.flops("forward") == forward
    assert shape.flops("forward_backward") == both


@pytest.mark.parametrize(
    ("operator", "label", "dtype", "forward", "both"),
    [
        # forward 2× x (read x, write y) and two rows of weights; backward 3× x (read x and dy, write dx), the
        # weights again and their gradients
        pytest.param("layer_norm", "3x5", "float32", 4 * (30 + 10), 4 * (30 + 10 + 45 + 20), id="layer_norm"),
        pytest.param("layer_norm", "3x5_residual", "bfloat16", 2 * 55, 2 * (55 + 55 + 40), id="residual"),
        # as layer norm, with one row of weights
        pytest.param("rms_norm", "3x5", "float32", 4 * (30 + 5), 4 * (30 + 5 + 45 + 10), id="rms_norm"),
        pytest.param("softmax", "3x5", "float32", 4 * 30, 4 * 75, id="softmax"),
        # logits 3·5, targets and losses 3 of 4 bytes each; backward: the same again, and the gradient
        pytest.param("cross_entropy", "3x5", "bfloat16", 30 + 24, 2 * (30 + 24) + 30, id="cross_entropy"),
        # q and k in and out 2·2·(4 + 2)·5·6, tables 2·5·3; a linear backward moves as much
        pytest.param("rotary", "b2_h4_kv2_s5_d6", "float32", 4 * 750, 4 * 1500, id="rotary"),
        # x and y 2·3·5, three weights of 5·7; backward: x, dy and dx, weights and their gradients
        pytest.param("swiglu", "3x5x7", "float16", 2 * 135, 2 * (135 + 135 + 120), id="swiglu"),
        # indices 3 of 4 bytes, the output 3·7, one row of the table; backward: indices, dy, a whole gradient
        pytest.param(
            "embedding", "3x5x7", "float32", 12 + 84 + 28, 12 + 84 + 28 + 12 + 84 + 140, id="embedding"
        ),
        # a (3, 5), b (5, 7), c (3, 7)
        pytest.param("matmul", "3x5x7", "float16", 2 * 71, 2 * (71 + 71 + 50), id="matmul"),
        # q and output 2·4·5·3, k and v 2·2·7·3
        pytest.param(
            "attention", "b2_h4_kv2_s5_k7_d3", "float32", 4 * 408, 4 * (408 + 408 + 288), id="attention"
        ),
    ],
)
def test_bytes_by_hand(operator, label, dtype, forward, both):
    shape = operators.get(operator).from_label(label)
    assert shape.minimum_bytes("forward", dtype) == forward
    assert shape.minimum_bytes("forward_backward", dtype) == both


@given(length=st.integers(1, 3000), count=st.integers(4, SAMPLES))
def test_a_sample_covers_both_ends(length, count):
    indices = sample(length, np.random.default_rng(0), count)
    assert len(indices) == min(length, count)
    assert indices[0] == 0
    assert indices[-1] == length - 1
    assert np.all(np.diff(indices) > 0)


def test_a_sample_reaches_the_middle():
    indices = sample(10_000, np.random.default_rng(0))
    assert np.diff(indices).max() < 10_000 // 8
    assert math.isclose(indices.mean(), 5000, rel_tol=0.2)


def test_nobody_knows_a_sample_beforehand():
    one, other = (sample(10_000, np.random.default_rng(seed)) for seed in (0, 1))
    assert len(np.intersect1d(one, other)) < len(one) / 2, "the ends, and few by chance"
    operator = OPERATORS["matmul"].from_label("10000x3x5")
    rows = [operator.reference(operator.inputs(0, "float32"), None)["output"].index[0] for _ in range(2)]
    assert not np.array_equal(*rows), "by default from the operating system"


def test_the_bytes_of_8_bit_products_have_a_wider_result():
    shape = OPERATORS["matmul"].from_label("32x64x16")
    assert shape.minimum_bytes("forward", "float8_e4m3") == 32 * 64 + 64 * 16 + 2 * 32 * 16
    assert shape.minimum_bytes("forward", "tf32") == shape.minimum_bytes("forward", "float32")


def test_large_inputs_do_not_depend_on_the_number_of_cores(monkeypatch):
    shape = OPERATORS["matmul"].from_label("7x33x13")
    small = shape.inputs(0, "bfloat16")
    monkeypatch.setattr(base, "_PART", 50)
    drawn = []
    for cores in ({0}, {0, 1, 2}):
        monkeypatch.setattr(base.os, "sched_getaffinity", lambda process, cores=cores: cores)
        drawn.append({**shape.inputs(0, "bfloat16"), "cotangent": shape.cotangent(0, "bfloat16")})
    one, three = drawn
    for name, array in one.items():
        assert np.array_equal(array, three[name])
        assert np.array_equal(array, round_to(array, "bfloat16"))
        assert abs(array.std() / (33**-0.5 if name == "b" else 1) - 1) < 0.3, "every part is drawn"
        assert len(np.unique(array)) > array.size / 4, "and none twice"
    assert not np.array_equal(small["b"], one["b"])
