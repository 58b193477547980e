"""Softmax, both passes, in Triton's interpreter against float64."""

from dataclasses import asdict

import pytest
import torch

from fuseproof.kernels.triton.ops.softmax import compile_list
from fuseproof.kernels.triton.ops.softmax.api import softmax
from fuseproof.kernels.triton.ops.softmax.configs import BACKWARD_CONFIGS, FORWARD_CONFIGS
from fuseproof.workloads.operators.softmax import Softmax

SOFTMAX = "softmax.api:softmax"


def library(x, cotangent):
    """Output and gradient of PyTorch's call."""
    leaf = x.detach().clone().requires_grad_()
    y = torch.softmax(leaf, -1)
    y.backward(cotangent)
    return y.detach(), leaf.grad


def problem(label, seed, dtype, place):
    """Placed input, placed cotangent and the float64 reference of both passes."""
    operator = Softmax.from_label(label)
    arrays, cotangent = operator.inputs(seed, dtype), operator.cotangent(seed, dtype)
    return place(arrays["x"], dtype), place(cotangent, dtype), operator.reference(arrays, cotangent)


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        *(
            (label, dtype)
            for label in ("1x1", "3x5", "37x100", "7x768", "16x1024", "3x5003")
            for dtype in ("float32", "float16", "bfloat16")
        ),
        ("1x33001", "float16"),
        ("1x20001", "float32"),
        ("2x50257", "bfloat16"),
        ("1x262144", "bfloat16"),
    ],
)
def test_both_passes_match_float64(label, dtype, interpreter, place, check):
    x, cotangent, exact = problem(label, 0, dtype, place)
    y, dx = interpreter.gradients(SOFTMAX, {"x": x}, cotangent)
    by_library = library(x, cotangent)
    for key, result, baseline in zip(("output", "grad_x"), (y, dx), by_library, strict=True):
        check(result, exact[key], baseline, dtype=dtype, longest=x.shape[1])


def tile(config):
    return f"{config.columns}-{config.BLOCK_M}x{config.BLOCK_N}-w{config.warps}-p{config.programs}"


def several(configs):
    """The configs that differ in more than warps and stages, which the interpreter ignores."""
    kinds = {}
    for config in configs:
        kinds.setdefault((config.BLOCK_M, config.BLOCK_N, config.columns > config.BLOCK_N), config)
    return list(kinds.values())


@pytest.mark.parametrize("config", several(FORWARD_CONFIGS), ids=tile)
def test_every_forward_tile(config, interpreter, place, check):
    columns = int(min(config.columns, 2 * config.BLOCK_N)) - 1
    x, cotangent, exact = problem(f"{config.BLOCK_M + 1}x{columns}", 1, "bfloat16", place)
    [y] = interpreter("softmax.launches:softmax_forward", {"x": x}, config=asdict(config))
    check(y, exact["output"], library(x, cotangent)[0], dtype="bfloat16", longest=columns)


@pytest.mark.parametrize("config", several(BACKWARD_CONFIGS), ids=tile)
def test_every_backward_tile(config, interpreter, place, check):
    columns = int(min(config.columns, 2 * config.BLOCK_N)) - 1
    x, cotangent, exact = problem(f"{config.BLOCK_M + 1}x{columns}", 1, "bfloat16", place)
    y, dx = library(x, cotangent)
    tensors = {"y": y, "dy": cotangent}
    [result] = interpreter("softmax.launches:softmax_backward", tensors, config=asdict(config))
    check(result, exact["grad_x"], dx, dtype="bfloat16", longest=columns)


def test_programs_of_the_loop_take_rows_in_turn(interpreter, place, check):
    """Hopper has 132 processors: one program each."""
    config = next(config for config in FORWARD_CONFIGS if config.columns > 32768 and config.programs == 1)
    x, cotangent, exact = problem("140x13", 2, "float32", place)
    given = {**asdict(config), "BLOCK_N": 8}
    [y] = interpreter("softmax.launches:softmax_forward", {"x": x}, config=given)
    check(y, exact["output"], library(x, cotangent)[0], dtype="float32", longest=13)
    given = {**asdict(BACKWARD_CONFIGS[-2]), "BLOCK_N": 8}
    [dx] = interpreter("softmax.launches:softmax_backward", {"y": y, "dy": cotangent}, config=given)
    check(dx, exact["grad_x"], library(x, cotangent)[1], dtype="float32", longest=13)


@pytest.mark.parametrize("columns", [100, 33001], ids=["rows", "loop"])
def test_infinities_are_those_of_pytorch(columns, interpreter):
    """Masked scores are −∞, whole blocks of them and whole rows too; what comes later may be finite."""
    x = torch.randn(4, columns, generator=torch.Generator().manual_seed(0))
    x[0, : columns - 3] = -torch.inf
    x[1] = -torch.inf
    x[2, 7] = torch.inf
    [y] = interpreter(SOFTMAX, {"x": x})
    torch.testing.assert_close(y, torch.softmax(x, -1), equal_nan=True)
    assert y[1].isnan().all()


@pytest.mark.parametrize(
    "view",
    [lambda t: t.expand(6, 40), lambda t: t[:, :1].expand(6, 40), lambda t: t.t().contiguous().t()],
    ids=["one row", "one number", "columns first"],
)
def test_cotangents_of_any_strides(view, interpreter):
    x, cotangent = torch.randn(2, 6, 40, generator=torch.Generator().manual_seed(0))
    cotangent = view(cotangent)
    strided = interpreter.gradients(SOFTMAX, {"x": x}, cotangent)
    plain = interpreter.gradients(SOFTMAX, {"x": x}, cotangent.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(strided, plain, strict=True))


def test_scores_in_four_dimensions_without_a_graph_break(interpreter):
    x, cotangent = torch.randn(2, 2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    eager = interpreter.gradients(SOFTMAX, {"x": x}, cotangent)
    compiled = interpreter.gradients(SOFTMAX, {"x": x}, cotangent, compiled=True)
    for result, again, expected in zip(eager, compiled, library(x, cotangent), strict=True):
        assert torch.equal(result, again)
        torch.testing.assert_close(result, expected)


def test_no_rows(interpreter):
    y, dx = interpreter.gradients(SOFTMAX, {"x": torch.empty(0, 8)}, torch.empty(0, 8))
    assert y.shape == dx.shape == (0, 8)


def test_registrations_hold(interpreter):
    x, dy = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    interpreter.opcheck("softmax.api", "softmax", x.requires_grad_())
    interpreter.opcheck("softmax.api", "softmax_backward", torch.softmax(x, -1).detach(), dy)


def test_second_derivatives_are_refused():
    """On the meta device, where nothing runs and autograd still does."""
    x = torch.randn(4, 8, device="meta").requires_grad_()
    y = softmax(x)
    [dx] = torch.autograd.grad(y, x, torch.ones_like(y).requires_grad_(), create_graph=True)
    with pytest.raises(NotImplementedError, match="softmax: second derivatives are not implemented"):
        dx.backward(torch.ones_like(dx))


def test_every_config_is_compiled_ahead_of_time():
    labels = [launch.label for launch in compile_list.launches(torch.bfloat16)]
    assert len(labels) == len(set(labels))
    whole = sum("-forward-" in label for label in labels), sum("-backward-" in label for label in labels)
    assert whole == (len(FORWARD_CONFIGS) + 2, len(BACKWARD_CONFIGS) + 2)
