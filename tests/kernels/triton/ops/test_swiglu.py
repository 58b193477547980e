"""SwiGLU, both passes, in Triton's interpreter against float64."""

from dataclasses import asdict

import pytest
import torch
from torch.nn import functional

from fuseproof.kernels.triton.ops.swiglu import compile_list
from fuseproof.kernels.triton.ops.swiglu.api import silu_product
from fuseproof.kernels.triton.ops.swiglu.configs import CONFIGS
from fuseproof.workloads.operators.swiglu import SwiGLU

SWIGLU, PRODUCT = "swiglu.api:swiglu", "swiglu.api:silu_product"
DTYPES = ("float32", "float16", "bfloat16")


def layer(x, gate, up, down):
    return (functional.silu(x @ gate) * (x @ up)) @ down


def with_gradients(function, tensors, cotangent, dtype=None):
    """Output and gradients of PyTorch's operations, in the dtype of the tensors or in another."""
    leaves = [tensor.detach().to(dtype or tensor.dtype).requires_grad_() for tensor in tensors.values()]
    output = function(*leaves)
    output.backward(cotangent.to(output.dtype))
    return [output.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", ["1x1x1", "7x5x11", "33x24x40"])
def test_both_passes_match_float64(label, dtype, interpreter, place, check):
    operator = SwiGLU.from_label(label)
    arrays, upstream = operator.inputs(0, dtype), operator.cotangent(0, dtype)
    exact = operator.reference(arrays, upstream)
    tensors = {name: place(array, dtype) for name, array in arrays.items()}
    cotangent = place(upstream, dtype)
    found = interpreter.gradients(SWIGLU, tensors, cotangent)
    names = ("output", *(f"grad_{name}" for name in tensors))
    for name, result, baseline in zip(names, found, with_gradients(layer, tensors, cotangent), strict=True):
        check(result, exact[name], baseline, dtype=dtype, longest=operator.longest_axis)


def elements(count, dtype, place):
    """The gate, the other factor and a cotangent; the gate also where σ is 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    g, u, dh = torch.randn(3, count, generator=generator).to(getattr(torch, dtype)).float()
    g[:6] = torch.tensor([-1e4, -100.0, 0.0, 20.0, 100.0, 1e4])[:count]
    return {"g": place(g.numpy(), dtype), "u": place(u.numpy(), dtype)}, place(dh.numpy(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [13, 5003, 8192])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.BLOCK}w{config.warps}")
def test_every_block(config, count, dtype, interpreter, place, check):
    tensors, dh = elements(count, dtype, place)
    [h] = interpreter("swiglu.launches:silu_product_forward", tensors, config=asdict(config))
    gradients = interpreter(
        "swiglu.launches:silu_product_backward", {"dh": dh, **tensors}, config=asdict(config)
    )
    exact, baseline = (
        with_gradients(lambda g, u: functional.silu(g) * u, tensors, dh, dtype)
        for dtype in (torch.float64, None)
    )
    for result, right, by_pytorch in zip((h, *gradients), exact, baseline, strict=True):
        check(result, right, by_pytorch, dtype=dtype, longest=1)


@pytest.mark.parametrize("view", [lambda t: t.t(), lambda t: t[:1].expand(5, 7)], ids=["columns", "one row"])
def test_any_strides(view, interpreter):
    g, u, dh = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    strided = interpreter.gradients(PRODUCT, {"g": view(g), "u": view(u)}, view(dh))
    plain = {"g": view(g).contiguous(), "u": view(u).contiguous()}
    again = interpreter.gradients(PRODUCT, plain, view(dh).contiguous())
    assert all(torch.equal(a, b) for a, b in zip(strided, again, strict=True))


def test_tokens_in_three_dimensions_without_a_graph_break(interpreter):
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, 2, 3, 8, generator=generator)
    gate, up = torch.randn(2, 8, 12, generator=generator)
    tensors = {"x": x, "gate": gate, "up": up, "down": torch.randn(12, 8, generator=generator)}
    eager = interpreter.gradients(SWIGLU, tensors, dy)
    compiled = interpreter.gradients(SWIGLU, tensors, dy, compiled=True)
    for result, again, right in zip(eager, compiled, with_gradients(layer, tensors, dy), strict=True):
        torch.testing.assert_close(result, right)
        torch.testing.assert_close(again, right)


def test_no_tokens(interpreter):
    empty = torch.empty(0, 4)
    h, dg, du = interpreter.gradients(PRODUCT, {"g": empty, "u": empty}, empty)
    assert h.shape == dg.shape == du.shape == (0, 4)


def test_registrations_hold(interpreter):
    g, u, dh = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    interpreter.opcheck("swiglu.api", "silu_product_backward", dh, g, u)
    interpreter.opcheck("swiglu.api", "silu_product", g.requires_grad_(), u.requires_grad_())


def test_second_derivatives_are_refused():
    """On the meta device, where nothing runs and autograd still does."""
    g = torch.randn(4, 8, device="meta").requires_grad_()
    h = silu_product(g, g)
    [dg] = torch.autograd.grad(h, g, torch.ones_like(h).requires_grad_(), create_graph=True)
    with pytest.raises(NotImplementedError, match="swiglu: second derivatives are not implemented"):
        dg.backward(torch.ones_like(dg))


def test_every_config_is_compiled_ahead_of_time():
    labels = [launch.label for launch in compile_list.launches(torch.bfloat16)]
    assert len(labels) == len(set(labels)) == 2 * (len(CONFIGS) + 1)
