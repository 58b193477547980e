"""Matrix product, forward and backward, in Triton's interpreter against float64."""

import importlib
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, relu, silu

from fuseproof.kernels.triton import matmul
from fuseproof.kernels.triton.ops.matmul import api
from fuseproof.kernels.triton.ops.matmul.configs import CONFIGS
from fuseproof.workloads.operators import Matmul

TARGET = "matmul.api:matmul"
FORWARD = "matmul.api:matmul_forward"

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


def draw(seed, **shapes):
    """Standard normal tensors; b of variance 1/K, so that activations bend."""
    generator = np.random.default_rng(seed)
    arrays = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    if "b" in arrays:
        arrays["b"] *= arrays["b"].shape[0] ** -0.5
    return arrays


def place_for_descriptors(array, dtype, order=(0, 1)):
    """As `place`, but with rows that start at multiples of 16 bytes, as tensor descriptors need them."""
    source = torch.from_numpy(np.ascontiguousarray(array)).to(getattr(torch, dtype)).permute(order)
    pitch = 16 * (source.shape[1] // 16 + 1)
    room = torch.full((source.shape[0] + 3, pitch), float("nan")).to(source.dtype)
    room[: source.shape[0], : source.shape[1]] = source
    return room[: source.shape[0], : source.shape[1]].permute(order)


def float64(tensors):
    return {name: tensor.double() for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("dtype", "layouts"),
    [(dtype, layouts) for dtype in ("float32", "bfloat16") for layouts in ("nn", "nt", "tn", "tt")]
    + [("float16", "nt")],
)
@pytest.mark.parametrize(
    "label",
    [
        "1x1x1",
        "1x100x70",
        "7x1x98",
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


DTYPE_OF = {
    "half": "bfloat16",
    "float8": "float8_e4m3fn",
    "float8_fast": "float8_e4m3fn",
    "tf32": "float32",
    "ieee": "float32",
}


def name_of(value):
    if isinstance(value, int):
        return f"{value}-splits"
    flags = f"{'-aligned' * value.aligned}{'-tma' * value.tma}{'-specialized' * value.specialize}"
    blocks = f"{value.BLOCK_M}x{value.BLOCK_N}x{value.BLOCK_K}x{value.stages}"
    return f"{value.products}-{blocks}-m{value.m}{flags}"


@pytest.mark.parametrize(
    ("config", "splits"),
    [(config, 1) for config in CONFIGS]
    # Splitting is the same for every kind of product.
    + [(config, 2) for config in CONFIGS if config.products == "half"],
    ids=name_of,
)
def test_every_config(config, splits, interpreter, place, check):
    """More than GROUP_M rows of the smallest tiles, ragged at every edge, every split with blocks of K."""
    dtype = DTYPE_OF[config.products]
    result_dtype = "bfloat16" if dtype == "float8_e4m3fn" else dtype
    m = 150 if config.BLOCK_M == 16 else config.BLOCK_M + 30
    n, k = config.BLOCK_N + 24, 2 * config.BLOCK_K + 9
    arrays = draw(1, a=(m, k), b=(k, n), bias=(n,), residual=(m, n))
    put = place_for_descriptors if config.tma else place
    tensors = {name: put(arrays[name], dtype, ORDERS["t" if name == "b" else "n"]) for name in "ab"}
    tensors |= {name: place(arrays[name], result_dtype) for name in ("bias", "residual")}
    options = {"activation": "silu"}
    if config.products == "tf32":
        options["precision"] = "tf32"
    if config.products == "float8_fast":
        options["fast_accumulation"] = True
    chosen = asdict(replace(config, splits=splits))
    result, pre = interpreter(FORWARD, tensors, **options, save_pre=True, config=chosen)
    exact = float64(tensors)
    wide = {**tensors, "a": tensors["a"].float(), "b": tensors["b"].float()} if "8" in dtype else tensors
    common = {"dtype": result_dtype, "longest": k}
    baseline = composed(**wide, activation="silu").to(result.dtype)
    check(result, composed(**exact, activation="silu"), baseline, **common)
    del exact["residual"], wide["residual"]
    check(pre, composed(**exact), composed(**wide).to(pre.dtype), **common)


@pytest.mark.parametrize("layouts", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn"])
def test_layouts_through_descriptors(dtype, layouts, interpreter, check):
    """The persistent kernel is what is chosen here, so this also covers the choice."""
    arrays = draw(2, a=(98, 70), b=(70, 136))
    tensors = {
        name: place_for_descriptors(array, dtype, ORDERS[layout])
        for (name, array), layout in zip(arrays.items(), layouts, strict=True)
    }
    [result] = interpreter(TARGET, tensors, precision="tf32" if dtype == "float32" else "ieee")
    baseline = composed(**{name: tensor.float() for name, tensor in tensors.items()}).to(result.dtype)
    check(result, composed(**float64(tensors)), baseline, dtype=str(result.dtype)[6:], longest=70)


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
    exact = composed(**float64(tensors), activation=activation)
    check(result, exact, composed(**tensors, activation=activation), dtype=dtype, longest=operator.k)


def gradients(tensors, cotangent, activation):
    """Output and gradients of the same in PyTorch, in the tensors' own dtype."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    output = composed(**leaves, activation=activation)
    return [output.detach(), *torch.autograd.grad(output, list(leaves.values()), cotangent)]


@pytest.mark.parametrize(
    ("activation", "dtype", "descriptors"),
    [
        *((activation, dtype, False) for activation in ACTIVATIONS for dtype in ("float32", "bfloat16")),
        ("gelu", "float16", False),
        *((activation, "bfloat16", True) for activation in (None, "gelu_tanh")),
        ("silu", "float32", True),
    ],
)
def test_gradients(activation, dtype, descriptors, interpreter, place, check):
    m, k, n = (40, 72, 136) if descriptors else (98, 33, 67)
    arrays = draw(3, a=(m, k), b=(k, n), bias=(n,), residual=(m, n), cotangent=(m, n))
    put = place_for_descriptors if descriptors else place
    tensors = {
        "a": put(arrays["a"], dtype),
        "b": put(arrays["b"], dtype, (1, 0)),
        "bias": place(arrays["bias"], dtype),
        "residual": place(arrays["residual"], dtype, (1, 0)),
    }
    cotangent = place(arrays["cotangent"], dtype, (1, 0))  # not contiguous
    results = interpreter.gradients(TARGET, tensors, cotangent, activation=activation)
    exact = gradients(float64(tensors), cotangent.double(), activation)
    for result, value, baseline in zip(
        results, exact, gradients(tensors, cotangent, activation), strict=True
    ):
        check(result, value, baseline, dtype=dtype, longest=max(m, k, n))


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("wanted", ["a", "b", "bias", "residual"])
def test_only_the_gradients_that_are_wanted(wanted, activation, interpreter):
    arrays = draw(4, a=(5, 6), b=(6, 7), bias=(7,), residual=(5, 7))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    cotangent = torch.ones(()).expand(5, 7)  # as from a sum
    _, *given = interpreter.gradients(
        TARGET, tensors, cotangent, requires_grad=(wanted,), activation=activation
    )
    _, *expected = gradients(tensors, cotangent, activation)
    for name, gradient, value in zip(tensors, given, expected, strict=True):
        if name == wanted:
            torch.testing.assert_close(gradient, value)
        else:
            assert gradient is None


@pytest.mark.parametrize("shapes", [((0, 4), (4, 5)), ((3, 0), (0, 5)), ((3, 4), (4, 0))], ids=str)
def test_gradients_of_nothing_are_zeros(shapes, interpreter):
    a, b = (torch.ones(shape) for shape in shapes)
    tensors = {"a": a, "b": b, "bias": torch.ones(b.shape[1])}
    cotangent = torch.ones(a.shape[0], b.shape[1])
    results = interpreter.gradients(TARGET, tensors, cotangent, activation="relu")
    for result, expected in zip(results, gradients(tensors, cotangent, "relu"), strict=True):
        assert torch.equal(result, expected)


def test_gradients_are_the_same_bits_in_every_run(interpreter):
    """With K split in forward, and three programs that add up dbias."""
    arrays = draw(5, a=(40, 1032), b=(1032, 40), bias=(40,))
    tensors = {name: torch.from_numpy(array).bfloat16() for name, array in arrays.items()}
    cotangent = torch.from_numpy(draw(6, c=(40, 40))["c"]).bfloat16()
    first, second = (
        interpreter.gradients(TARGET, tensors, cotangent, activation="gelu_tanh") for _ in range(2)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("activation", [None, "silu"])
def test_compiled_without_a_graph_break(activation, interpreter):
    arrays = draw(7, a=(9, 16), b=(16, 24), bias=(24,), residual=(9, 24), cotangent=(9, 24))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    cotangent = tensors.pop("cotangent")
    eager, compiled = (
        interpreter.gradients(TARGET, tensors, cotangent, activation=activation, compiled=compiled)
        for compiled in (False, True)
    )
    assert all(torch.equal(one, other) for one, other in zip(eager, compiled, strict=True))


@pytest.mark.parametrize("save_pre", [False, True])
def test_operators_keep_the_rules_of_torch_library(save_pre, interpreter):
    a, b, bias = torch.randn(5, 6), torch.randn(6, 7), torch.randn(7)
    leaves = [tensor.requires_grad_(not save_pre) for tensor in (a, b, bias)]
    epilogue = (None, None, None, "gelu" if save_pre else None, "ieee", torch.float32, False, save_pre)
    interpreter.opcheck("matmul.api", "matmul", *leaves, *epilogue)
    dc, pre = torch.randn(5, 7), torch.randn(5, 7) if save_pre else None
    how = ("gelu" if save_pre else None, "ieee", save_pre)
    interpreter.opcheck("matmul.api", "matmul_backward", dc, a.detach(), b.detach(), pre, *how)


def test_second_derivative_is_refused():
    a, b = torch.empty(3, 4, device="meta", requires_grad=True), torch.empty(4, 5, device="meta")
    [da] = torch.autograd.grad(matmul(a, b, activation="gelu").sum(), a, create_graph=True)
    with pytest.raises(NotImplementedError, match="cannot be differentiated again"):
        da.sum().backward()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_at_their_limits(activation, interpreter):
    x = torch.tensor([[-1e30, -100.0, -0.0, 0.0, 100.0, 1e30, torch.nan, torch.inf]]).t()
    tensors = {"a": x, "b": torch.ones(1, 1)}
    result, slope, _ = interpreter.gradients(TARGET, tensors, torch.ones(8, 1), activation=activation)
    leaf = x.double().requires_grad_()
    expected = ACTIVATIONS[activation](leaf)
    [expected_slope] = torch.autograd.grad(expected.sum(), leaf)
    expected = expected.detach().float()
    expected[-1] = torch.inf  # torch's vectorised GELU gives NaN
    torch.testing.assert_close(result, expected, equal_nan=True, rtol=1e-6, atol=1e-20)
    # At infinity torch's slopes of smooth activations are NaN: 0 · inf.
    torch.testing.assert_close(slope[:-1], expected_slope[:-1].float(), equal_nan=True, rtol=1e-5, atol=1e-6)


def test_expanded_residual_is_a_row_or_a_column(interpreter):
    generator = torch.Generator().manual_seed(0)
    a, b, row, column = (torch.randn(s, generator=generator) for s in ((5, 7), (7, 9), (9,), (5, 1)))
    for vector in (row, column):
        [result] = interpreter(TARGET, {"a": a, "b": b, "residual": vector.expand(5, 9)})
        torch.testing.assert_close(result, a @ b + vector)


@pytest.mark.parametrize("out_dtype", [None, "float32"])
def test_float8_with_scales(out_dtype, interpreter, place, check):
    dtype = out_dtype or "bfloat16"
    arrays = draw(8, a=(33, 100), b=(100, 70), bias=(70,), residual=(33, 70))
    tensors = {name: place(8 * arrays[name], "float8_e4m3fn") for name in "ab"}
    tensors |= {name: place(arrays[name], dtype) for name in ("bias", "residual")}
    scales = {"scale_a": torch.tensor(0.125), "scale_b": torch.tensor([0.25])}
    options = {"activation": "gelu", "out_dtype": getattr(torch, dtype) if out_dtype else None}
    [result] = interpreter(TARGET, tensors | scales, **options)
    exact, wide = float64(tensors), {name: tensor.float() for name, tensor in tensors.items()}
    for inputs in (exact, wide):
        inputs["a"] = inputs["a"] * 0.03125
    baseline = composed(**wide, activation="gelu").to(getattr(torch, dtype))
    check(result, composed(**exact, activation="gelu"), baseline, dtype=dtype, longest=100)


def test_no_inner_dimension_leaves_the_epilogue(interpreter):
    bias = torch.arange(5.0)
    [result] = interpreter(TARGET, {"a": torch.empty(3, 0), "b": torch.empty(0, 5), "bias": bias})
    assert torch.equal(result, bias.expand(3, 5))


def test_no_rows_gives_an_empty_result(interpreter):
    [result] = interpreter(TARGET, {"a": torch.empty(0, 4), "b": torch.randn(4, 5)})
    assert result.shape == (0, 5)


def test_an_allocator_of_the_user_stays():
    """Descriptors made in a kernel need memory of Triton's allocator, one setting for all kernels."""
    allocation = importlib.import_module("triton.runtime._allocation")
    before = allocation._allocator.get()
    inside = []
    api._with_scratch_memory(lambda: inside.append(allocation._allocator.get()))
    assert inside == [api._allocate]
    assert allocation._allocator.get() is before
