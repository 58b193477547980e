"""Every block is the same in every framework: outputs and all gradients, by the project's own check.

One worker process for each framework; the reference is PyTorch's code in float64, which JAX's and
TensorFlow's, written apart, have to agree with.
"""

from __future__ import annotations

import os

import pytest

from fuseproof.cases import Case
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS, Implementation
from fuseproof.measure import checks
from fuseproof.measure.worker_process import WorkerError
from fuseproof.workloads.blocks import BLOCKS

# Odd lengths, several heads, heads that share keys.
LABELS = {
    "mlp_block": ("7x16x24",),
    "encoder_block": ("2x7x16x2",),
    "decoder_block": ("2x7x16x4x2x24",),
    "conv_residual": ("2x6x16", "2x6x16_frozen"),
    "unet_block": ("2x6x32",),
    "lstm": ("3x5x8",),
    "dlrm": ("6x3x20x8",),
    "conformer_block": ("2x7x16x2",),
    "decode": ("2x3x16x4x2x24",),
}
FULL = os.environ.get("FUSEPROOF_MATRIX") == "full"
# Eager code is checked in every case; compilers, which take seconds for each, in one dtype of each pass, and
# over the blocks in both. FUSEPROOF_MATRIX=full checks all in all (minutes).
CASES = [
    Case.from_group(f"{name}[{label}-{dtype}-{pass_}]")
    for name, labels in LABELS.items()
    for label in labels
    for dtype in ("float32", "bfloat16")
    for pass_ in BLOCKS[name].passes
]
SLOW = ("torch.compile", "tf.xla")


def implementations_of(case, framework):
    names = list(BLOCKS)
    for implementation in IMPLEMENTATIONS:
        if (implementation.workload, implementation.framework) != (case.workload.name, framework):
            continue
        turn = names.index(case.workload.name) % 2
        wanted = ("float32", "bfloat16")[turn], case.workload.passes[-1]
        if implementation.name in SLOW and not FULL and (case.dtype, case.pass_) != wanted:
            continue
        if framework == "jax" and implementation.compiled is None and case.dtype == "bfloat16" and not FULL:
            continue  # each of its operations is compiled
        yield implementation


@pytest.fixture(scope="module", params=FRAMEWORKS)
def worker(request, start_worker):
    return request.param, start_worker(request.param)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_it_computes_the_block_and_the_gradient_of_every_parameter(worker, case):
    framework, process = worker
    process.open_case(case.group)
    errors = {}
    for implementation in implementations_of(case, framework):
        process.prepare(implementation)
        found = errors[implementation.name] = process.errors(implementation.name)
        assert found.keys() == case.workload.results(case.pass_).keys()
        own = implementation.baseline == implementation.name
        baseline = None if own else errors.get(implementation.baseline)
        verdict = checks.judge(found, baseline, dtype=case.dtype, longest=case.workload.longest_axis)
        assert verdict.passed, f"{implementation.name}: {verdict.message}"
    assert errors


BROKEN = {
    "torch": '''
import torch
from fuseproof.fusion.blocks.torch.encoder_block import encoder_block

def missing_scale(x, parameters, *, heads):
    none = {**parameters, "mlp_norm_scale": torch.ones_like(parameters["mlp_norm_scale"])}
    return encoder_block(x, none, heads=heads)

def another_epsilon(x, parameters, *, heads):
    from torch.nn import functional as F
    from fuseproof.fusion.blocks.torch.parts import layer_norm, linear, self_attention
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    scale, bias = parameters["mlp_norm_scale"], parameters["mlp_norm_bias"]
    normed = F.layer_norm(a, a.shape[-1:], scale, bias, 1e-6)  # 1e-5 is right
    return a + linear(F.gelu(linear(normed, parameters, "up")), parameters, "down")

def transposed_weight(x, parameters, *, heads):
    return encoder_block(x, {**parameters, "out": parameters["out"].t()}, heads=heads)
''',
    "jax": '''
import jax
import jax.numpy as jnp
from fuseproof.fusion.blocks.jax.encoder_block import encoder_block
from fuseproof.fusion.blocks.jax.parts import layer_norm, linear, self_attention

def missing_scale(x, parameters, *, heads):
    none = {**parameters, "mlp_norm_scale": jnp.ones_like(parameters["mlp_norm_scale"])}
    return encoder_block(x, none, heads=heads)

def another_epsilon(x, parameters, *, heads):
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    normed = jax.nn.standardize(a, epsilon=1e-6) * parameters["mlp_norm_scale"] + parameters["mlp_norm_bias"]
    return a + linear(jax.nn.gelu(linear(normed, parameters, "up"), approximate=False), parameters, "down")

def transposed_weight(x, parameters, *, heads):
    return encoder_block(x, {**parameters, "out": parameters["out"].T}, heads=heads)
''',
    "tensorflow": '''
import tensorflow as tf
from fuseproof.fusion.blocks.tensorflow.encoder_block import encoder_block
from fuseproof.fusion.blocks.tensorflow.parts import layer_norm, linear, self_attention

def missing_scale(x, parameters, *, heads):
    none = {**parameters, "mlp_norm_scale": tf.ones_like(parameters["mlp_norm_scale"])}
    return encoder_block(x, none, heads=heads)

def another_epsilon(x, parameters, *, heads):
    a = x + self_attention(layer_norm(x, parameters, "attention_norm"), parameters, heads)
    mean, variance = tf.nn.moments(a, axes=[-1], keepdims=True)
    scale, bias = parameters["mlp_norm_scale"], parameters["mlp_norm_bias"]
    normed = tf.nn.batch_normalization(a, mean, variance, bias, scale, 1e-6)
    return a + linear(tf.nn.gelu(linear(normed, parameters, "up")), parameters, "down")

def transposed_weight(x, parameters, *, heads):
    return encoder_block(x, {**parameters, "out": tf.transpose(parameters["out"])}, heads=heads)
''',
}  # fmt: skip


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
@pytest.mark.parametrize("fault", ["missing_scale", "another_epsilon", "transposed_weight"])
def test_a_broken_variant_is_caught(worker, tmp_path, fault, pass_):
    framework, process = worker
    file = tmp_path / f"broken_{framework}.py"
    file.write_text(BROKEN[framework])
    case = Case.from_group(f"encoder_block[2x7x16x2-float32-{pass_}]")
    process.open_case(case.group)
    (right,) = (
        each
        for each in IMPLEMENTATIONS
        if (each.workload, each.name) == ("encoder_block", FRAMEWORKS[framework])
    )
    process.prepare(right)
    baseline = process.errors(right.name)
    wrong = Implementation("encoder_block", "broken", framework=framework, target=f"{file}:{fault}")
    try:
        process.prepare(wrong)
        found = process.errors("broken")
    except WorkerError as error:  # a scale that is not read has no gradient, which JAX alone calls zero
        assert (fault, pass_) == ("missing_scale", "forward_backward"), error
        return
    verdict = checks.judge(found, baseline, dtype="float32", longest=case.workload.longest_axis)
    assert not verdict.passed, verdict
    assert checks.judge(baseline, None, dtype="float32", longest=1).passed


def test_every_block_is_here():
    assert LABELS.keys() == BLOCKS.keys()
