"""Layer norm and RMS norm, both passes, in Triton's interpreter against float64."""

import importlib
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.nn import functional

from fuseproof.kernels.triton.ops.norms import compile_list
from fuseproof.kernels.triton.ops.norms.configs import (
    BACKWARD_CONFIGS,
    FORWARD_CONFIGS,
    BackwardConfig,
    Config,
)
from fuseproof.workloads.operators import OPERATORS

NORMS = ("layer_norm", "rms_norm")
LAUNCHES = {"layer_norm": compile_list.layer_norm_launches, "rms_norm": compile_list.rms_norm_launches}
DTYPES = ("float32", "float16", "bfloat16")


def composed(x, weight, bias=None, residual=None, eps=None):
    """The library's call: layer norm if there is a bias."""
    s = x if residual is None else x + residual
    if bias is None:
        return functional.rms_norm(s, s.shape[-1:], weight, 1e-6 if eps is None else eps)
    return functional.layer_norm(s, s.shape[-1:], weight, bias, 1e-5 if eps is None else eps)


def with_gradients(tensors, cotangent):
    """Output and gradients of the library's call, by name as references have them."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    output = composed(**leaves)
    output.backward(cotangent)
    return {"output": output.detach(), **{f"grad_{name}": leaf.grad for name, leaf in leaves.items()}}


def problem(name, label, seed, dtype, place):
    """Placed inputs, placed cotangent and the float64 reference of both passes."""
    operator = OPERATORS[name].from_label(label)
    arrays, cotangent = operator.inputs(seed, dtype), operator.cotangent(seed, dtype)
    tensors = {key: place(array, dtype) for key, array in arrays.items()}
    return tensors, place(cotangent, dtype), operator.reference(arrays, cotangent), operator.longest_axis


LABELS = ("1x1", "3x5", "37x100_residual", "7x768_residual", "16x1024", "3x5003_residual")


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        *((label, dtype) for label in LABELS for dtype in DTYPES),
        ("1x20001", "float16"),
        ("1x20001_residual", "float32"),
        ("1x50257_residual", "bfloat16"),
    ],
)
@pytest.mark.parametrize("name", NORMS)
def test_both_passes_match_float64(name, label, dtype, interpreter, place, check):
    tensors, cotangent, exact, longest = problem(name, label, 0, dtype, place)
    results = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangent)
    library = with_gradients(tensors, cotangent)
    assert exact.keys() == library.keys()
    for key, result in zip(("output", *(f"grad_{name}" for name in tensors)), results, strict=True):
        check(result, exact[key], library[key], dtype=dtype, longest=longest)


def test_longest_row(interpreter, place, check):
    name = "layer_norm"
    tensors, cotangent, exact, longest = problem(name, "1x262144_residual", 0, "bfloat16", place)
    results = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangent)
    library = with_gradients(tensors, cotangent)
    for key, result in zip(("output", *(f"grad_{name}" for name in tensors)), results, strict=True):
        check(result, exact[key], library[key], dtype="bfloat16", longest=longest)


def tile(config):
    shape = f"{config.BLOCK_M}x{config.BLOCK_N}"
    return f"{config.columns}-{shape}-w{config.warps}-p{config.programs}-s{config.stages}"


def several(configs):
    """The configs that differ in more than warps and stages, which the interpreter ignores."""
    kinds = {}
    for config in configs:
        looped = config.columns > config.BLOCK_N
        shape = config.BLOCK_M, config.BLOCK_N, looped, config.programs > 0, getattr(config, "blocks", 1)
        kinds.setdefault(shape, config)
    return list(kinds.values())


@pytest.mark.parametrize("config", several(FORWARD_CONFIGS), ids=tile)
def test_every_forward_tile(config, interpreter, place, check):
    columns = min(config.columns, 2 * config.BLOCK_N) - 1
    tensors, _, exact, longest = problem(
        "layer_norm", f"{config.BLOCK_M + 1}x{columns}_residual", 1, "bfloat16", place
    )
    result, *_ = interpreter(
        "norms.forward:norm_forward", tensors, eps=1e-5, centred=True, return_sum=True, config=asdict(config)
    )
    check(result, exact["output"], composed(**tensors), dtype="bfloat16", longest=longest)


@pytest.mark.parametrize("config", several(BACKWARD_CONFIGS), ids=tile)
def test_every_backward_tile(config, interpreter, place, check):
    columns = min(config.columns, 2 * config.BLOCK_N) - 1
    label = f"{config.BLOCK_M + 1}x{columns}"
    tensors, cotangent, exact, longest = problem("layer_norm", label, 1, "bfloat16", place)
    library = with_gradients(tensors, cotangent)
    results = interpreter(
        "norms.backward:norm_backward",
        {"dy": cotangent, **{name: tensors[name] for name in ("x", "weight")}, **statistics(tensors["x"])},
        wanted=[True, True, True],
        bias_dtype=torch.bfloat16,
        config=asdict(config),
    )
    for name, result in zip(("x", "weight", "bias"), results, strict=True):
        key = f"grad_{name}"
        check(result, exact[key], library[key], dtype="bfloat16", longest=longest)


def statistics(x, eps=1e-5):
    """What the forward pass of layer norm saves."""
    s = x.double()
    rstd = (s.var(-1, correction=0) + eps).rsqrt()
    return {"statistics": torch.stack((s.mean(-1), rstd)).float()}


@pytest.mark.parametrize(
    ("rows", "columns", "blocks"),
    [(140, 5, 1), (70, 13, 2), (50, 20, 0)],
    ids=["whole", "halves", "blocks"],
)
def test_programs_add_up_more_rows_than_one(rows, columns, blocks, interpreter, place, check):
    """Hopper has 132 processors: one program each, later spread over two and three blocks of columns."""
    tensors, cotangent, exact, longest = problem("layer_norm", f"{rows}x{columns}", 2, "float32", place)
    config = BackwardConfig(columns=32, blocks=blocks, BLOCK_M=1, BLOCK_N=8, warps=1, programs=1, stages=2)
    library = with_gradients(tensors, cotangent)
    results = interpreter(
        "norms.backward:norm_backward",
        {"dy": cotangent, "x": tensors["x"], "weight": tensors["weight"], **statistics(tensors["x"])},
        wanted=[True, True, True],
        bias_dtype=torch.float32,
        config=asdict(config),
    )
    for name, result in zip(("x", "weight", "bias"), results, strict=True):
        key = f"grad_{name}"
        check(result, exact[key], library[key], dtype="float32", longest=longest)


@pytest.mark.parametrize("programs", [0, 1], ids=["tile each", "persistent"])
def test_programs_take_tiles_in_turn(programs, interpreter, place, check):
    tensors, _, exact, longest = problem("layer_norm", "301x7", 2, "float32", place)
    config = Config(columns=8, BLOCK_M=2, BLOCK_N=8, warps=1, programs=programs, stages=2)
    result, *_ = interpreter(
        "norms.forward:norm_forward", tensors, eps=1e-5, centred=True, config=asdict(config)
    )
    check(result, exact["output"], composed(**tensors), dtype="float32", longest=longest)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("label", ["9x100_residual", "1x33001_residual"], ids=["rows", "loop"])
def test_the_sum_comes_back_and_takes_a_gradient(name, label, interpreter, place, check):
    tensors, cotangent, _, longest = problem(name, label, 4, "bfloat16", place)
    of_sum = place(OPERATORS[name].from_label(label).cotangent(5, "bfloat16"), "bfloat16")

    def run(dtype):
        leaves = {key: tensor.detach().to(dtype).requires_grad_() for key, tensor in tensors.items()}
        s = leaves["x"] + leaves["residual"]
        y = composed(**{**leaves, "x": s, "residual": None})
        torch.autograd.backward((y, s), (cotangent.to(dtype), of_sum.to(dtype)))
        return [y.detach(), s.detach(), *(leaf.grad for leaf in leaves.values())]

    results = interpreter.gradients(f"norms.{name}:{name}", tensors, [cotangent, of_sum], return_sum=True)
    for result, exact, library in zip(results, run(torch.float64), run(torch.bfloat16), strict=True):
        check(result, exact, library, dtype="bfloat16", longest=longest)
    assert torch.equal(results[1], tensors["x"] + tensors["residual"])


@pytest.mark.parametrize("name", NORMS)
def test_a_sum_that_alone_is_used(name, interpreter):
    x, residual, of_sum = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    tensors = {"x": x, "weight": torch.ones(5), "residual": residual}
    *_, dx, dweight, dresidual = interpreter.gradients(
        f"norms.{name}:{name}", tensors, [None, of_sum], return_sum=True
    )
    assert torch.equal(dx, of_sum)
    assert torch.equal(dresidual, of_sum)
    assert dweight is None


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("columns", [24, 17001], ids=["rows", "loop"])
@pytest.mark.parametrize("wanted", [("x",), ("weight",), ("residual", "weight")], ids=" ".join)
def test_only_gradients_that_are_needed(name, columns, wanted, interpreter, place):
    tensors, cotangent, *_ = problem(name, f"1x{columns}_residual", 3, "float32", place)
    _, *every = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangent)
    _, *some = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangent, requires_grad=wanted)
    for key, alone, among in zip(tensors, some, every, strict=True):
        assert (alone is None) == (key not in wanted)
        assert alone is None or torch.equal(alone, among)


@pytest.mark.parametrize("name", NORMS)
def test_gradients_are_the_same_bits_again(name, interpreter, place):
    tensors, cotangent, *_ = problem(name, "70x33_residual", 6, "float32", place)
    first, second = (interpreter.gradients(f"norms.{name}:{name}", tensors, cotangent) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NORMS)
def test_no_kernel_uses_atomics(name):
    """Deterministic on a GPU, too, where the order of programs is not fixed."""
    kernels = {launch.kernel for launch in LAUNCHES[name](torch.bfloat16)}
    assert {kernel.__name__ for kernel in kernels} == {
        "norm_rows_kernel", "norm_loop_kernel",
        "norm_backward_kernel", "norm_row_sums_kernel", "norm_column_sums_kernel",
    }  # fmt: skip
    assert not any("atomic" in kernel.src for kernel in kernels)


@pytest.mark.parametrize("name", NORMS)
def test_every_config_is_compiled_ahead_of_time(name):
    labels = [launch.label for launch in LAUNCHES[name](torch.bfloat16)]
    assert len(labels) == len(set(labels))
    whole = sum("-forward-" in label for label in labels), sum("-backward-" in label for label in labels)
    assert whole >= (len(FORWARD_CONFIGS), len(BACKWARD_CONFIGS))


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.sum(0, keepdim=True).expand(6, 40),
        lambda t: t[:1, :1].expand(6, 40),
        lambda t: t.t().contiguous().t(),
    ],
    ids=["one row", "one number", "columns first"],
)
@pytest.mark.parametrize("name", NORMS)
def test_cotangents_of_any_strides(name, view, interpreter):
    tensors, cotangent, *_ = problem(name, "6x40", 7, "float32", lambda array, _: torch.from_numpy(array))
    cotangent = view(cotangent)
    results = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangent)
    again = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangent.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(results, again, strict=True))


@pytest.mark.parametrize("name", NORMS)
def test_expanded_rows_and_residual(name, interpreter):
    x, residual, dy = torch.randn(3, 6, 40, generator=torch.Generator().manual_seed(0))
    tensors = {"x": x[:1].expand(6, 40), "weight": torch.ones(40), "residual": residual[:1].expand(6, 40)}
    strided = interpreter.gradients(f"norms.{name}:{name}", tensors, dy)
    plain = {key: tensor.contiguous() for key, tensor in tensors.items()}
    assert all(
        torch.equal(a, b)
        for a, b in zip(strided, interpreter.gradients(f"norms.{name}:{name}", plain, dy), strict=True)
    )


@pytest.mark.parametrize("name", NORMS)
def test_torch_compile_has_no_graph_break(name, interpreter):
    tensors, cotangent, *_ = problem(name, "12x24_residual", 8, "float32", lambda a, _: torch.from_numpy(a))
    options = {"return_sum": True}
    cotangents = [cotangent.view(3, 4, 24), cotangent.flip(0).view(3, 4, 24)]
    tensors |= {key: tensors[key].view(3, 4, 24) for key in ("x", "residual")}
    compiled = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangents, compiled=True, **options)
    eager = interpreter.gradients(f"norms.{name}:{name}", tensors, cotangents, **options)
    assert all(torch.equal(a, b) for a, b in zip(compiled, eager, strict=True))


@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("name", NORMS)
def test_registrations_hold(name, residual, interpreter):
    generator = torch.Generator().manual_seed(0)
    x, r, dy = torch.randn(3, 4, 3, 8, generator=generator)
    weight = torch.randn(8, generator=generator).requires_grad_()
    bias = torch.zeros(8).requires_grad_() if name == "layer_norm" else None
    x.requires_grad_()
    given = r if residual else None
    interpreter.opcheck(f"norms.{name}", name, x, weight, bias, given, 1e-5, residual)
    saved = torch.rand(2 if name == "layer_norm" else 1, 12, generator=generator)
    wanted = [True, True, name == "layer_norm"]
    interpreter.opcheck(
        f"norms.{name}", f"{name}_backward", dy, dy if residual else None, x.detach(), given,
        weight.detach(), saved, torch.float32, wanted,
    )  # fmt: skip


def test_second_derivatives_are_refused():
    """On the meta device, where nothing runs and autograd still does."""
    for name in NORMS:
        function = getattr(importlib.import_module(f"fuseproof.kernels.triton.ops.norms.{name}"), name)
        x, weight = (torch.randn(*shape, device="meta").requires_grad_() for shape in ((4, 8), (8,)))
        y = function(x, weight)
        [dx] = torch.autograd.grad(y, x, torch.ones_like(y).requires_grad_(), create_graph=True)
        with pytest.raises(NotImplementedError, match=rf"{name}: second derivatives are not implemented"):
            dx.backward(torch.ones_like(dx))


@pytest.mark.parametrize("columns", [1000, 40_000], ids=["rows", "loop"])
def test_statistics_survive_a_large_mean(columns, interpreter):
    """E[s²] − E[s]² in float32 has no correct digit here: the mean is 10⁴ standard deviations."""
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(0)) + 1e4
    tensors = {"x": x, "weight": torch.ones(columns)}
    y, _, saved = interpreter("norms.forward:norm_forward", tensors, eps=1e-5, centred=True)
    exact = x.double()
    assert saved.dtype == torch.float32
    torch.testing.assert_close(saved[0].double(), exact.mean(-1), rtol=1e-6, atol=0)
    variance = exact.var(-1, correction=0)
    torch.testing.assert_close(saved[1].double(), (variance + 1e-5).rsqrt(), rtol=1e-4, atol=0)
    # One rounding of the mean, 2⁻²⁴ · 10⁴ = 6e-4 standard deviations, is what float32 allows.
    expected = (exact - exact.mean(-1, keepdim=True)) / variance.sqrt()[:, None]
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", NORMS)
def test_float32_weights_with_bfloat16_rows_in_three_dimensions(name, interpreter, place, check):
    operator = OPERATORS[name].from_label("12x100")
    arrays, cotangent = operator.inputs(3, "bfloat16"), operator.cotangent(3, "bfloat16")
    tensors = {key: torch.from_numpy(arrays[key]) for key in arrays}
    tensors["x"] = place(arrays["x"], "bfloat16").unflatten(0, (3, 4))
    dy = place(cotangent, "bfloat16").unflatten(0, (3, 4))
    results = interpreter.gradients(f"norms.{name}:{name}", tensors, dy)
    rounded = {key: tensor.bfloat16() for key, tensor in tensors.items()}
    library, exact = with_gradients(rounded, dy), operator.reference(arrays, cotangent)
    for key, result in zip(library, results, strict=True):
        if key in ("output", "grad_x"):
            assert result.shape == (3, 4, 100)
            check(result.flatten(0, 1), exact[key], library[key].flatten(0, 1), dtype="bfloat16", longest=100)
        else:  # not rounded to bfloat16 on the way: as good as float32
            assert result.dtype == torch.float32
            assert np.allclose(result.numpy(), exact[key].values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NORMS)
def test_no_bias_and_another_eps(name, interpreter):
    x = torch.randn(4, 33, generator=torch.Generator().manual_seed(0))
    tensors = {"x": x, "weight": torch.full((33,), 2.0)}
    [result] = interpreter(f"norms.{name}:{name}", tensors, eps=0.5)
    bias = {"bias": torch.zeros(33)} if name == "layer_norm" else {}
    torch.testing.assert_close(result, composed(**tensors, **bias, eps=0.5))


@pytest.mark.parametrize("name", NORMS)
def test_no_rows_give_an_empty_result_and_no_gradient(name, interpreter):
    tensors = {"x": torch.empty(0, 8), "weight": torch.ones(8)}
    result, dx, dweight = interpreter.gradients(f"norms.{name}:{name}", tensors, torch.empty(0, 8))
    assert result.shape == dx.shape == (0, 8)
    assert torch.equal(dweight, torch.zeros(8))
