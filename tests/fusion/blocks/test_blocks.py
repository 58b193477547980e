"""Every block is the same in every framework: outputs, and of a training step the loss, all gradients and all
updated parameters, by the project's own check.

One worker process for each framework; the reference is PyTorch's code in float64, which JAX's and
TensorFlow's, written apart, have to agree with.
"""

from __future__ import annotations

import os
import re

import pytest

from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS, Implementation
from fuseproof.measure import checks, planning, reasons
from fuseproof.measure.worker_process import WorkerError
from fuseproof.workloads.blocks import BLOCKS

# Odd lengths, several heads, heads that share keys.
LABELS = {
    "mlp_block": ("3x7x16x24",),
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
PAIRS = (("float32", "inference"), ("float32", "training_step"), ("bfloat16", "inference"))
GROUPS = [
    f"{name}[{label}-{dtype}-{pass_}]"
    for name, labels in LABELS.items()
    for label in labels
    for dtype, pass_ in PAIRS
    if pass_ in BLOCKS[name].passes
]
SLOW = ("torch.compile", "tf.xla", "keras.xla")


def implementations_of(case, framework):
    for implementation in IMPLEMENTATIONS:
        if (implementation.workload, implementation.framework) != (case.workload.name, framework):
            continue
        if not implementation.takes(case.pass_):
            continue
        narrow, trained = case.dtype == "bfloat16", case.workload.passes[-1] == case.pass_
        if implementation.name in SLOW and not FULL and (narrow or not trained):
            continue
        if framework == "jax" and implementation.compiled is None and narrow and not FULL:
            continue  # each of its operations is compiled
        yield implementation


@pytest.fixture(scope="module")
def cases():
    """As a plan has them: what each module holds is found out in one process."""
    if (reason := reasons.reason_without_framework("torch")) is not None:
        pytest.skip(reason)
    return dict(zip(GROUPS, planning.named_cases(GROUPS, (), IMPLEMENTATIONS), strict=True))


@pytest.fixture(scope="module", params=FRAMEWORKS)
def worker(request, start_worker):
    return request.param, start_worker(request.param)


@pytest.mark.parametrize("group", GROUPS)
def test_it_computes_the_block_and_a_training_step_of_every_parameter(worker, cases, group, record_property):
    (framework, process), case = worker, cases[group]
    process.open_case(group, workload=case.workload.to_json())
    errors = {}
    for implementation in implementations_of(case, framework):
        process.prepare(implementation)
        found = errors[implementation.name] = process.errors(implementation.name)
        assert found.keys() == case.workload.results(case.pass_).keys()
        if case.pass_ == "training_step":
            parameters = BLOCKS[case.workload.name].from_label(case.workload.label).parameters
            assert {f"grad_{name}" for name in parameters} <= found.keys()
            assert {f"parameters.{name}" for name in parameters} <= found.keys()
        verdict = judged(case, implementation, found, errors)
        record_property(implementation.name, kinds(found))
        assert verdict.passed, f"{implementation.name}: {verdict.message}"
    assert errors or not FULL


def judged(case, implementation, found, errors):
    own = implementation.baseline == implementation.name
    return checks.judge(
        found,
        None if own else errors.get(implementation.baseline),
        dtype=case.dtype,
        longest=case.workload.longest_axis,
        sizes={name: tensor.size for name, tensor in case.workload.results(case.pass_).items()},
    )


def kinds(errors):
    """The largest error of the outputs, of the loss, of gradients and of updated parameters."""
    found = {}
    for name, error in errors.items():
        kind = "gradient" if name.startswith("grad_") else name.partition(".")[0]
        found[kind] = max(error, found.get(kind, 0.0))
    return found


# The encoder block once more, right and with three faults.
BLOCK = {
    "torch": """
import torch.nn.functional as F
from fuseproof.fusion.blocks.torch.parts import layer_norm, linear, self_attention

def block(p, x, heads, epsilon=1e-5):
    a = x + self_attention(layer_norm(x, p, "attention_norm"), p, heads)
    normed = F.layer_norm(a, a.shape[-1:], p["mlp_norm_scale"], p["mlp_norm_bias"], epsilon)
    return a + linear(F.gelu(linear(normed, p, "up")), p, "down")
""",
    "jax": """
import jax
from fuseproof.fusion.blocks.jax.parts import layer_norm, linear, self_attention

def block(p, x, heads, epsilon=1e-5):
    a = x + self_attention(layer_norm(x, p, "attention_norm"), p, heads)
    normed = jax.nn.standardize(a, epsilon=epsilon) * p["mlp_norm_scale"] + p["mlp_norm_bias"]
    return a + linear(jax.nn.gelu(linear(normed, p, "up"), approximate=False), p, "down")
""",
    "tensorflow": """
import tensorflow as tf
from fuseproof.fusion.blocks.tensorflow.parts import layer_norm, linear, self_attention

def block(p, x, heads, epsilon=1e-5):
    a = x + self_attention(layer_norm(x, p, "attention_norm"), p, heads)
    mean, variance = tf.nn.moments(a, axes=[-1], keepdims=True)
    normed = tf.nn.batch_normalization(a, mean, variance, p["mlp_norm_bias"], p["mlp_norm_scale"], epsilon)
    return a + linear(tf.nn.gelu(linear(normed, p, "up")), p, "down")
""",
}
VARIANTS = """
from fuseproof.fusion.blocks.{framework}.module import module_of
from fuseproof.workloads.blocks.encoder_block import EncoderBlock

@module_of(EncoderBlock)
def right(parameters, x, *, heads):
    return block(parameters, x, heads)

@module_of(EncoderBlock)
def missing_scale(parameters, x, *, heads):
    return block({{**parameters, "mlp_norm_scale": 0 * parameters["mlp_norm_scale"] + 1}}, x, heads)

@module_of(EncoderBlock)
def another_epsilon(parameters, x, *, heads):
    return block(parameters, x, heads, epsilon=1e-6)

@module_of(EncoderBlock)
def transposed_weight(parameters, x, *, heads):
    return block({{**parameters, "out": {transpose}(parameters["out"])}}, x, heads)
"""
TRANSPOSE = {"torch": "(lambda w: w.t())", "jax": "(lambda w: w.T)", "tensorflow": "tf.transpose"}


@pytest.mark.parametrize("pass_", ["inference", "training_step"])
def test_broken_variants_are_caught(worker, cases, tmp_path, pass_):
    framework, process = worker
    file = tmp_path / f"variants_of_{framework}.py"
    file.write_text(BLOCK[framework] + VARIANTS.format(framework=framework, transpose=TRANSPOSE[framework]))
    case = cases[f"encoder_block[2x7x16x2-float32-{pass_}]"]
    process.open_case(case.group, workload=case.workload.to_json())
    errors = {}
    for name in ("right", "missing_scale", "another_epsilon", "transposed_weight"):
        own = Implementation(
            "encoder_block", name, framework=framework, target=f"{file}:{name}", baseline="right"
        )
        process.prepare(own)
        errors[name] = process.errors(name)
        verdict = judged(case, own, errors[name], errors)
        assert verdict.passed == (name == "right"), f"{name}: {verdict}"


def test_parameters_of_another_name_or_shape_are_refused(worker, cases, tmp_path):
    framework, process = worker
    file = tmp_path / f"other_{framework}.py"
    file.write_text(
        BLOCK[framework]
        + f"""
from fuseproof.fusion.blocks.{framework}.module import module_of
from fuseproof.workloads.blocks.encoder_block import EncoderBlock

class Renamed(EncoderBlock):
    @property
    def parameters(self):
        return {{"outwards" if name == "out" else name: shape for name, shape in super().parameters.items()}}

class Turned(EncoderBlock):
    @property
    def parameters(self):
        return super().parameters | {{"up": (4 * self.hidden, self.hidden)}}

renamed, turned = (
    module_of(kind)(lambda parameters, x, *, heads: x) for kind in (Renamed, Turned)
)
"""
    )
    case = cases["encoder_block[2x7x16x2-float32-training_step]"]
    process.open_case(case.group, workload=case.workload.to_json())
    for name, words in (
        (
            "renamed",
            "its parameters are not those of the reference: out, outwards in one and not in the other",
        ),
        ("turned", r"its parameter up has shape (64, 16) instead of (16, 64)"),
    ):
        own = Implementation("encoder_block", name, framework=framework, target=f"{file}:{name}")
        with pytest.raises(WorkerError, match=re.escape(words)):
            process.prepare(own)
            process.errors(name)


def test_every_block_is_here():
    assert LABELS.keys() == BLOCKS.keys()
