"""Matrix product in Triton's interpreter against float64."""

import importlib
from dataclasses import asdict

import pytest
import torch
from torch.nn.functional import gelu, relu, silu

from fuseproof.operators import Matmul

TARGET = "matmul:matmul"
FORWARD = "matmul:matmul_forward"
MODULE = importlib.import_module("fuseproof.kernels.triton.matmul")

ORDERS = {"n": (0, 1), "t": (1, 0)}
ACTIVATIONS = {
    None: lambda x: x,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
    "relu": relu,
    "silu": silu,
}


def composed(a, b, bias=None, activation=None, residual=None):
    product = a @ b if bias is None else a @ b + bias
    y = ACTIVATIONS[activation](product)
    return y if residual is None else y + residual


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layouts", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize(
    "label",
    [
        "1x1x1",
        "1x100x70",
        "17x33x65",
        "130x200x257",
        "256x128x256_bias_gelu_tanh",
        "100x70x33_bias_gelu_tanh",
    ],
)
def test_matches_float64(label, layouts, dtype, interpreter, place, check):
    operator = Matmul.from_label(label)
    arrays = operator.inputs(0, dtype)
    orders = {"a": ORDERS[layouts[0]], "b": ORDERS[layouts[1]], "bias": None}
    tensors = {name: place(array, dtype, orders[name]) for name, array in arrays.items()}
    [result] = interpreter(TARGET, tensors, **operator.options)
    check(
        result,
        operator.reference(arrays, None)["output"],
        composed(**tensors, **operator.options),
        dtype=dtype,
        longest=operator.k,
    )


@pytest.mark.parametrize(
    "config",
    MODULE.CONFIGS,
    ids=lambda row: (
        f"{row.bytes}B-{row.BLOCK_M}x{row.BLOCK_N}x{row.BLOCK_K}-m{row.m}{'-aligned' * row.aligned}"
    ),
)
def test_every_config_row(config, interpreter, place, check):
    dtype = "bfloat16" if config.bytes == 2 else "float32"
    # More than GROUP_M rows of the smallest tiles, ragged at every edge of the largest.
    operator = Matmul.from_label(f"{max(150, config.BLOCK_M + 30)}x150x{config.BLOCK_N + 30}")
    arrays = operator.inputs(1, dtype)
    tensors = {name: place(array, dtype) for name, array in arrays.items()}
    [result] = interpreter(FORWARD, tensors, config=asdict(config))
    exact = operator.reference(arrays, None)["output"]
    check(result, exact, composed(**tensors), dtype=dtype, longest=operator.k)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_epilogues(activation, residual, dtype, interpreter, place, check):
    operator = Matmul.from_label("70x90x110_bias_gelu_tanh")
    arrays = operator.inputs(2, dtype)
    tensors = {name: place(array, dtype) for name, array in arrays.items()}
    if residual:
        tensors["residual"] = place(Matmul.from_label("110x1x70").cotangent(0, dtype), dtype).t()
    [result] = interpreter(TARGET, tensors, activation=activation)
    exact = composed(**{name: tensor.double() for name, tensor in tensors.items()}, activation=activation)
    check(result, exact, composed(**tensors, activation=activation), dtype=dtype, longest=operator.k)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_at_their_limits(activation, interpreter):
    x = torch.tensor([[-1e30, -100.0, -0.0, 0.0, 100.0, 1e30, torch.nan, torch.inf]]).t()
    [result] = interpreter(TARGET, {"a": x, "b": torch.ones(1, 1)}, activation=activation)
    expected = ACTIVATIONS[activation](x)
    expected[-1] = torch.inf  # torch's vectorised GELU gives NaN
    torch.testing.assert_close(result, expected, equal_nan=True, rtol=1e-6, atol=1e-20)


def test_expanded_residual_is_a_row_or_a_column(interpreter):
    generator = torch.Generator().manual_seed(0)
    a, b, row, column = (torch.randn(s, generator=generator) for s in ((5, 7), (7, 9), (9,), (5, 1)))
    for vector in (row, column):
        [result] = interpreter(TARGET, {"a": a, "b": b, "residual": vector.expand(5, 9)})
        torch.testing.assert_close(result, a @ b + vector)


def test_no_inner_dimension_leaves_the_epilogue(interpreter):
    bias = torch.arange(5.0)
    [result] = interpreter(TARGET, {"a": torch.empty(3, 0), "b": torch.empty(0, 5), "bias": bias})
    assert torch.equal(result, bias.expand(3, 5))


def test_no_rows_gives_an_empty_result(interpreter):
    [result] = interpreter(TARGET, {"a": torch.empty(0, 4), "b": torch.randn(4, 5)})
    assert result.shape == (0, 5)


def test_float32_products_are_not_tf32():
    """The interpreter computes in float32 whatever is asked for, so look at what is compiled."""
    compile_launch = importlib.import_module("fuseproof.kernels.triton.ahead_of_time").compile_launch
    launch = next(MODULE.variants(torch.float32))
    assert "tf32" not in compile_launch(launch, 90).asm["ptx"]
