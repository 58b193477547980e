"""The rotary embedding, both passes, in Triton's interpreter against float64."""

from dataclasses import asdict

import pytest
import torch

from fuseproof.kernels.triton.ops.rotary import compile_list
from fuseproof.kernels.triton.ops.rotary.api import rotary
from fuseproof.kernels.triton.ops.rotary.configs import CONFIGS
from fuseproof.workloads.operators.rotary import Rotary

ROTARY = "rotary.api:rotary"
RESULTS = ("output_0", "output_1", "grad_q", "grad_k")


def by_pytorch(q, k, cos, sin):
    """As model code has it."""
    cos, sin = torch.cat((cos, cos), -1), torch.cat((sin, sin), -1)
    half = q.shape[-1] // 2
    return tuple(x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin for x in (q, k))


def library(tensors, cotangents):
    """Outputs and gradients of PyTorch's operations, in the dtype of the tensors."""
    leaves = {name: tensors[name].detach().clone().requires_grad_() for name in ("q", "k")}
    outputs = by_pytorch(**{**tensors, **leaves})
    torch.autograd.backward(outputs, cotangents)
    return [*(output.detach() for output in outputs), *(leaf.grad for leaf in leaves.values())]


def problem(label, seed, dtype, place, order=(0, 1, 2, 3)):
    """Placed inputs, placed cotangents and the float64 reference of both passes."""
    operator = Rotary.from_label(label)
    arrays, upstream = operator.inputs(seed, dtype), operator.cotangent(seed, dtype)
    tensors = {name: place(arrays[name], dtype, order) for name in ("q", "k")}
    tensors |= {name: place(arrays[name], dtype) for name in ("cos", "sin")}
    cotangents = [place(upstream[name], dtype) for name in RESULTS[:2]]
    return tensors, cotangents, operator.reference(arrays, upstream)


LABELS = ("b1_h1_s1_d2", "b2_h3_kv2_s5_d6", "b1_h9_kv4_s37_d64", "b2_h5_s17_d128", "b1_h2_kv1_s11_d256")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("label", LABELS)
def test_both_passes_match_float64(label, dtype, interpreter, place, check):
    tensors, cotangents, exact = problem(label, 0, dtype, place)
    *found, dcos, dsin = interpreter.gradients(ROTARY, tensors, cotangents, requires_grad=("q", "k"))
    assert dcos is None
    assert dsin is None
    for key, result, baseline in zip(RESULTS, found, library(tensors, cotangents), strict=True):
        check(result, exact[key], baseline, dtype=dtype, longest=2)


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"{config.BLOCK_S}x{config.half}h{config.heads}"
)
def test_every_tile(config, interpreter, place, check):
    label = f"b1_h{config.heads + 1}_kv{config.heads}_s{config.BLOCK_S + 1}_d{2 * config.half - 2}"
    tensors, cotangents, exact = problem(label, 1, "bfloat16", place)
    outputs = interpreter("rotary.launches:rotate", tensors, config=asdict(config))
    given = {"q": cotangents[0], "k": cotangents[1], "cos": tensors["cos"], "sin": tensors["sin"]}
    gradients = interpreter("rotary.launches:rotate", given, backward=True, config=asdict(config))
    found = [*outputs, *gradients]
    for key, result, baseline in zip(RESULTS, found, library(tensors, cotangents), strict=True):
        check(result, exact[key], baseline, dtype="bfloat16", longest=2)


def test_heads_may_lie_behind_positions(interpreter, place, check):
    """As a projection leaves them: (batch, length, heads, head dim) in memory."""
    tensors, cotangents, exact = problem("b2_h6_kv2_s19_d64", 2, "bfloat16", place, order=(0, 2, 1, 3))
    found = interpreter.gradients(ROTARY, tensors, cotangents, requires_grad=("q", "k"))
    for key, result, baseline in zip(RESULTS, found, library(tensors, cotangents), strict=False):
        check(result, exact[key], baseline, dtype="bfloat16", longest=2)
        assert result.is_contiguous() or key.startswith("grad")


def test_float32_tables_with_16_bit_heads(interpreter, place, check):
    tensors, cotangents, exact = problem("b1_h2_s9_d64", 3, "bfloat16", place)
    baseline = library(tensors, cotangents)
    tensors |= {name: tensors[name].float() for name in ("cos", "sin")}
    found = interpreter.gradients(ROTARY, tensors, cotangents, requires_grad=("q", "k"))
    for key, result, by_library in zip(RESULTS, found, baseline, strict=False):
        check(result, exact[key], by_library, dtype="bfloat16", longest=2)


@pytest.mark.parametrize(
    "view",
    [lambda t: t.transpose(1, 2).contiguous().transpose(1, 2), lambda t: t.mT.contiguous().mT],
    ids=["heads last", "columns first"],
)
def test_cotangents_of_any_strides(view, interpreter):
    generator = torch.Generator().manual_seed(0)
    q, k, dq, dk = torch.randn(4, 2, 3, 5, 8, generator=generator)
    cos, sin = torch.randn(2, 5, 4, generator=generator)
    tensors = {"q": q, "k": k, "cos": cos, "sin": sin}
    strided = interpreter.gradients(ROTARY, tensors, [view(dq), view(dk)], requires_grad=("q", "k"))
    plain = interpreter.gradients(ROTARY, tensors, [dq, dk], requires_grad=("q", "k"))
    assert all(torch.equal(a, b) for a, b in zip(strided[:4], plain[:4], strict=True))


def test_one_result_alone_may_be_used(interpreter):
    generator = torch.Generator().manual_seed(0)
    q, k, dq = torch.randn(3, 2, 3, 5, 8, generator=generator)
    cos, sin = torch.randn(2, 5, 4, generator=generator)
    tensors = {"q": q, "k": k, "cos": cos, "sin": sin}
    found = interpreter.gradients(ROTARY, tensors, [dq, None], requires_grad=("q", "k"))
    expected = library(tensors, [dq, torch.zeros_like(k)])
    for result, right in zip(found[:4], expected, strict=True):
        torch.testing.assert_close(result, right)


def test_torch_compile_has_no_graph_break(interpreter):
    generator = torch.Generator().manual_seed(0)
    q, k, dq, dk = torch.randn(4, 2, 3, 5, 8, generator=generator)
    cos, sin = torch.randn(2, 5, 4, generator=generator)
    tensors, options = {"q": q, "k": k, "cos": cos, "sin": sin}, {"requires_grad": ("q", "k")}
    eager = interpreter.gradients(ROTARY, tensors, [dq, dk], **options)
    compiled = interpreter.gradients(ROTARY, tensors, [dq, dk], compiled=True, **options)
    assert all(torch.equal(a, b) for a, b in zip(eager[:4], compiled[:4], strict=True))


def test_no_positions(interpreter):
    empty, table = torch.empty(1, 2, 0, 8), torch.empty(0, 4)
    q, k = interpreter(ROTARY, {"q": empty, "k": empty, "cos": table, "sin": table})
    assert q.shape == k.shape == (1, 2, 0, 8)


def test_registrations_hold(interpreter):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 4, 3, 8, generator=generator).requires_grad_()
    k = torch.randn(1, 2, 3, 8, generator=generator).requires_grad_()
    cos, sin = torch.randn(2, 3, 4, generator=generator)
    interpreter.opcheck("rotary.api", "rotary", q, k, cos, sin)
    interpreter.opcheck("rotary.api", "rotary_backward", q.detach(), k.detach(), cos, sin)


def test_second_derivatives_are_refused():
    """On the meta device, where nothing runs and autograd still does."""
    q = torch.randn(1, 2, 3, 8, device="meta").requires_grad_()
    table = torch.randn(3, 4, device="meta")
    rotated, _ = rotary(q, q, table, table)
    cotangent = torch.ones_like(rotated).requires_grad_()
    [dq] = torch.autograd.grad(rotated, q, cotangent, create_graph=True)
    with pytest.raises(NotImplementedError, match="rotary: second derivatives are not implemented"):
        dq.backward(torch.ones_like(dq))


def test_every_config_is_compiled_ahead_of_time():
    labels = [launch.label for launch in compile_list.launches(torch.bfloat16)]
    assert len(labels) == len(set(labels)) == len(CONFIGS) + 2
