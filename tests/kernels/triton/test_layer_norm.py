"""Layer normalisation in Triton's interpreter against float64."""

import importlib
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional

from fuseproof.operators import LayerNorm

TARGET = "layer_norm:layer_norm"
FORWARD = "layer_norm:layer_norm_forward"
MODULE = importlib.import_module("fuseproof.kernels.triton.layer_norm")


def composed(x, weight, bias=None, residual=None):
    s = x if residual is None else x + residual
    return functional.layer_norm(s, s.shape[-1:], weight, bias)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "label",
    [
        "1x1",
        "3x5",
        "37x100_residual",
        "7x768_residual",
        "16x1024",
        "3x5003_residual",
        "2x33001",
        "1x50257_residual",
    ],
)
def test_matches_float64(label, dtype, interpreter, place, check):
    operator = LayerNorm.from_label(label)
    arrays = operator.inputs(0, dtype)
    tensors = {name: place(array, dtype) for name, array in arrays.items()}
    [result] = interpreter(TARGET, tensors)
    exact = operator.reference(arrays, None)["output"]
    check(result, exact, composed(**tensors), dtype=dtype, longest=operator.columns)


def test_longest_row(interpreter, place, check):
    operator = LayerNorm.from_label("2x262144_residual")
    arrays = operator.inputs(0, "float32")
    tensors = {name: place(array, "float32") for name, array in arrays.items()}
    [result] = interpreter(TARGET, tensors)
    exact = operator.reference(arrays, None)["output"]
    check(result, exact, composed(**tensors), dtype="float32", longest=operator.columns)


@pytest.mark.parametrize(
    "config", MODULE.CONFIGS, ids=lambda row: f"{row.BLOCK_M}x{row.BLOCK_N}-w{row.warps}"
)
def test_every_config_row(config, interpreter, place, check):
    columns = min(config.columns, 2 * config.BLOCK_N) - 1
    operator = LayerNorm.from_label(f"{2 * config.BLOCK_M + 1}x{columns}_residual")
    arrays = operator.inputs(1, "bfloat16")
    tensors = {name: place(array, "bfloat16") for name, array in arrays.items()}
    result, *_ = interpreter(FORWARD, tensors, config=asdict(config))
    exact = operator.reference(arrays, None)["output"]
    check(result, exact, composed(**tensors), dtype="bfloat16", longest=columns)


@pytest.mark.parametrize("columns", [1000, 40_000], ids=["block", "loop"])
def test_statistics_survive_a_large_mean(columns, interpreter):
    """E[s²] − E[s]² in float32 has no correct digit here: the mean is 10⁴ standard deviations."""
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(0)) + 1e4
    y, mean, rstd = interpreter(FORWARD, {"x": x, "weight": torch.ones(columns)})
    exact = x.double()
    assert mean.dtype == rstd.dtype == torch.float32
    torch.testing.assert_close(mean.double(), exact.mean(-1), rtol=1e-6, atol=0)
    variance = exact.var(-1, correction=0)
    torch.testing.assert_close(rstd.double(), (variance + 1e-5).rsqrt(), rtol=1e-4, atol=0)
    # One rounding of the mean, 2⁻²⁴ · 10⁴ = 6e-4 standard deviations, is what float32 allows.
    expected = (exact - exact.mean(-1, keepdim=True)) / variance.sqrt()[:, None]
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=2e-3)


def test_float32_weights_with_bfloat16_rows_in_three_dimensions(interpreter, place, check):
    operator = LayerNorm.from_label("12x100")
    arrays = operator.inputs(3, "bfloat16")
    x = place(arrays["x"], "bfloat16")
    tensors = {
        "x": x.unflatten(0, (3, 4)),
        **{name: torch.from_numpy(arrays[name]) for name in ("weight", "bias")},
    }
    [result] = interpreter(TARGET, tensors)
    assert result.shape == (3, 4, 100)
    rounded = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    exact = operator.reference(arrays, None)["output"]
    check(
        result.flatten(0, 1),
        exact,
        composed(**rounded).flatten(0, 1),
        dtype="bfloat16",
        longest=operator.columns,
    )


def test_no_bias_and_another_eps(interpreter):
    x = torch.randn(4, 33, generator=torch.Generator().manual_seed(0))
    weight = torch.full((33,), 2.0)
    [result] = interpreter(TARGET, {"x": x, "weight": weight}, eps=0.5)
    torch.testing.assert_close(result, functional.layer_norm(x, (33,), weight, None, 0.5))


def test_no_rows_gives_an_empty_result(interpreter):
    [result] = interpreter(TARGET, {"x": torch.empty(0, 8), "weight": torch.ones(8)})
    assert result.shape == (0, 8)
