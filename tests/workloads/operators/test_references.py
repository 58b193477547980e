"""The float64 references against PyTorch's autograd in float64."""

import pytest

from fuseproof.measure import checks
from fuseproof.workloads import operators, trees
from fuseproof.workloads.operators import OPERATORS

torch = pytest.importorskip("torch", reason="the independent computation is PyTorch's")
F = torch.nn.functional

SHAPES = [
    ("attention", "b1_h1_s1_k5_d3"),
    ("attention", "b2_h3_s7_d5"),
    ("attention", "b2_h3_s7_d5_causal"),
    ("attention", "b1_h2_s5_k9_d4_causal"),
    ("attention", "b1_h2_s9_k5_d4_causal"),
    ("attention", "b3_h6_kv3_s5_k7_d3"),  # 9 groups, of which 4 are sampled
    ("attention", "b1_h6_kv2_s1030_k3_d2"),  # more rows than are held at once
    ("matmul", "7x5x3"),
    ("matmul", "1x1x1"),
    ("matmul", "131x7x97"),
    ("matmul", "7x5x3_bias_gelu_tanh"),
    ("matmul", "131x7x97_bias_gelu_tanh"),
    ("layer_norm", "7x13"),
    ("layer_norm", "1030x3"),
    ("layer_norm", "1x129"),
    ("layer_norm", "7x13_residual"),
    ("layer_norm", "131x3_residual"),
    ("rms_norm", "7x13"),
    ("rms_norm", "1030x3_residual"),
    ("rms_norm", "1x1"),
    ("softmax", "7x13"),
    ("softmax", "131x3"),
    ("softmax", "1x1"),
    ("cross_entropy", "7x13"),
    ("cross_entropy", "131x5"),
    ("cross_entropy", "131x5_mean"),  # more rows than are held at once
    ("cross_entropy", "3x1_mean"),
    ("rotary", "b2_h6_kv3_s7_d10"),  # 12 heads, of which 8 are sampled
    ("rotary", "b1_h1_s70_d2"),
    ("swiglu", "7x5x11"),
    ("swiglu", "67x3x1030"),  # more inner columns than are held at once
    ("embedding", "7x5x3"),
    ("embedding", "1500x90x2"),  # more tokens than are added at once, and rows that are not sampled
    ("embedding", "3x1x1"),
]


def in_pytorch(operator, tensors):
    """The operator's equation in PyTorch's own words, not through the implementations that are measured."""
    if operator.name == "matmul":
        product = tensors["a"] @ tensors["b"]
        return F.gelu(product + tensors["bias"], approximate="tanh") if operator.bias_gelu_tanh else product
    if operator.name == "layer_norm":
        s = tensors["x"] + tensors["residual"] if operator.residual else tensors["x"]
        return F.layer_norm(s, (operator.columns,), tensors["weight"], tensors["bias"], eps=1e-5)
    if operator.name == "rms_norm":
        s = tensors["x"] + tensors["residual"] if operator.residual else tensors["x"]
        mean_square = torch.linalg.vector_norm(s, dim=1, keepdim=True) ** 2 / operator.columns
        return s / (mean_square + 1e-6).sqrt() * tensors["weight"]
    if operator.name == "softmax":
        return torch.special.softmax(tensors["x"], dim=1)
    if operator.name == "cross_entropy":
        certain = F.one_hot(tensors["targets"], operator.vocabulary).double()
        losses = -(certain * F.log_softmax(tensors["logits"], dim=1)).sum(dim=1)
        return losses.mean() if operator.mean else losses
    if operator.name == "rotary":  # a product of complex numbers
        angle = torch.complex(tensors["cos"], tensors["sin"])
        turned = [torch.complex(*tensors[name].chunk(2, dim=-1)) * angle for name in operator.differentiable]
        return tuple(torch.cat([each.real, each.imag], dim=-1) for each in turned)
    if operator.name == "swiglu":
        gated = tensors["x"] @ tensors["gate"]
        return (gated * torch.sigmoid(gated) * (tensors["x"] @ tensors["up"])) @ tensors["down"]
    if operator.name == "embedding":
        return F.one_hot(tensors["indices"], operator.vocabulary).double() @ tensors["table"]
    share = operator.query_heads // operator.key_value_heads
    k, v = (tensors[name].repeat_interleave(share, dim=1) for name in ("k", "v"))
    mask = torch.ones(operator.query_length, operator.key_length, dtype=torch.bool)
    # Without the choice of a kernel: math's is the only one for float64 on every machine.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(
            tensors["q"], k, v, attn_mask=mask.tril() if operator.causal else mask
        )


@pytest.mark.parametrize(("name", "label"), SHAPES, ids=[f"{name}-{label}" for name, label in SHAPES])
def test_references_are_those_of_autograd(name, label):
    operator = operators.get(name).from_label(label)
    inputs, cotangent = operator.inputs(5, "float32"), operator.cotangent(5, "float32")
    tensors = {
        key: torch.tensor(array, dtype=torch.float64 if array.dtype.kind == "f" else None)
        for key, array in inputs.items()
    }
    leaves = {key: tensors[key].requires_grad_() for key in operator.differentiable}
    outputs = trees.results(in_pytorch(operator, tensors))
    upstream = cotangent if isinstance(cotangent, dict) else {"output": cotangent}
    torch.autograd.backward(
        list(outputs.values()), [torch.tensor(upstream[key], dtype=torch.float64) for key in outputs]
    )
    expected = {key: output.detach() for key, output in outputs.items()}
    expected |= {f"grad_{key}": leaf.grad for key, leaf in leaves.items()}

    sampled = operator.reference(inputs, cotangent)
    assert sampled.keys() == expected.keys()
    for key, part in sampled.items():
        exact = expected[key].numpy()[part.index]
        assert part.values.shape == exact.shape
        # float64 rounding: sums of at most a thousand terms of size one
        assert part.values == pytest.approx(exact, rel=1e-10, abs=1e-11), key

    forward_only = operator.reference(inputs, None)
    assert forward_only.keys() == outputs.keys()
    for key, part in forward_only.items():  # of fewer rows than with gradients, where there are many
        assert part.values == pytest.approx(expected[key].numpy()[part.index], rel=1e-10, abs=1e-11)


def test_every_operator_has_a_reference_tested():
    assert {name for name, _ in SHAPES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("name", "label", "vanishing"),
    [
        ("attention", "b2_h4_kv2_s7_k1_d5", {"grad_q", "grad_k"}),
        ("layer_norm", "9x1_residual", {"grad_x", "grad_residual"}),
        ("rms_norm", "9x1_residual", {"grad_x", "grad_residual"}),
        ("softmax", "9x1", {"grad_x"}),
        ("cross_entropy", "9x1", {"output", "grad_logits"}),
    ],
)
def test_gradients_that_cancel_are_measured_against_what_cancels(name, label, vanishing):
    """They are zero in exact arithmetic: relative to their own size any rounding would be a wrong result."""
    operator = operators.get(name).from_label(label)
    sampled = operator.reference(operator.inputs(5, "float32"), operator.cotangent(5, "float32"))
    assert {key for key, part in sampled.items() if part.scale is not None} == vanishing
    for key in vanishing:
        part = sampled[key]
        assert checks.rms(part.values) < 1e-4 * part.scale, "what epsilon leaves, or nothing"
        noise = (part.values + 1e-6 * part.scale).astype("float32")
        whole = torch.zeros(operator.results("forward_backward")[key].shape).numpy()
        whole[part.index] = noise
        assert checks.relative_rms(whole, part) == pytest.approx(1e-6, rel=0.1)
        whole[part.index] += part.scale
        assert checks.relative_rms(whole, part) == pytest.approx(1, rel=1e-3), "a wrong one is still seen"
