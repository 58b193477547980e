"""A tf.Module named, called and trained, without Keras's layers; each test has a TensorFlow of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow; pip install tensorflow"
)

BEGIN = """
import numpy as np, tensorflow as tf
from fuseproof import frameworks
from fuseproof.child_process import PlainError
from fuseproof.frameworks.calling import Signature
from fuseproof.workloads.modules import State

fw = frameworks.load("tensorflow")
fw.configure(device="cpu", threads=1)
OPTIMIZER = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "epsilon": 1e-16}

class Dense(tf.Module):
    def __init__(self, into, out):
        super().__init__()
        self.w = tf.Variable(np.random.default_rng(into).standard_normal((into, out)).astype("float32"))

    def __call__(self, x):
        return x @ self.w

class Net(tf.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = [Dense(4, width), Dense(width, 4)]
        self.bias = tf.Variable([0.5] * 4)
        self.seen = tf.Variable([0.0] * 4, trainable=False)
        self.calls = tf.Variable(0, trainable=False)

    def __call__(self, x, training):
        if training:
            self.seen.assign(tf.reduce_mean(x, 0))
        return self.layers[1](tf.nn.gelu(self.layers[0](x))) + self.bias

def steps(target, pass_, compiled, count=1, dtype="float32"):
    module = fw.module(target, {"width": 6, "other": 1}, dtype, dict)
    parameters, buffers = fw.initial_state(module)
    state = State.of(parameters, buffers, OPTIMIZER)
    rng = np.random.default_rng(0)
    values = {name: state.draw(name, each.shape, rng) for name, each in parameters.items()}
    x, target = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    given = {"x": x, **{f"parameters.{name}": each for name, each in values.items()}}
    inputs = {name: fw.from_numpy(each, dtype) for name, each in given.items()}
    step = fw.module_step(module, Signature(arguments={"x": "x"}), state, pass_, compiled)
    targets = {"output": fw.from_numpy(target, dtype)} if pass_ == "training_step" else {}
    for _ in range(2):  # what a call changed is as it was after another bind
        call = step.bind(inputs, targets)
        for _ in range(count):
            found = step.unpack(call())
    assert all(fw.is_plain(each) for each in found.values())
    return {name: np.array(each, np.float64) for name, each in found.items()}, values, x, target
"""


def python(code):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr


def test_a_step_is_adamw_s_in_every_mode_and_variables_have_the_names_of_their_places():
    python(
        """
        for mode in (None, "function", "xla"):
            one, start, x, target = steps(Net, "training_step", mode)
            assert start.keys() == {"layers.0.w", "layers.1.w", "bias"}
            assert {name for name in one if name.startswith("buffers.")} == {"buffers.seen", "buffers.calls"}
            assert np.allclose(one["buffers.seen"], x.mean(0), atol=1e-6)
            for name, before in start.items():
                gradient, after = one[f"grad_{name}"], one[f"parameters.{name}"]
                right = before * (1 - 0.01 * 0.1) - 0.01 * np.sign(gradient)
                assert np.allclose(after, right, atol=1e-6), (mode, name, np.abs(after - right).max())
            two = steps(Net, "training_step", mode, count=2)[0]
            assert not np.allclose(two["parameters.bias"], one["parameters.bias"])
        """
    )


def test_variables_have_the_dtype_of_the_case_unless_they_are_made_with_one():
    python(
        """
        for dtype, near in (("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 0.1)):
            module = fw.module(Net, {"width": 6}, dtype, dict)
            kinds = {each.dtype.name for each in module.trainable_variables}
            assert kinds == {dtype} and module.calls.dtype == tf.int32, kinds
            found, start, x, _ = steps(Net, "inference", None, dtype=dtype)
            hidden = tf.nn.gelu(tf.constant(x @ start["layers.0.w"])).numpy()
            right = hidden @ start["layers.1.w"] + start["bias"]
            assert np.abs(found["output"] - right).max() < near * np.abs(right).max(), dtype

        class Own(tf.Module):
            def __init__(self):
                self.w = tf.Variable([1.0], dtype=tf.float32)

            def __call__(self, x):
                return x * self.w

        assert fw.module(Own, {}, "float64", dict).w.dtype == tf.float32
        """
    )


def test_a_module_that_is_there_already_and_what_is_none_are_refused():
    python(
        """
        for target, words in (
            (Net(6), "must be made anew for each case; give its class or a function that makes it"),
            (lambda: 3, "must be a keras.Layer or a tf.Module, or make one, not a int"),
        ):
            try:
                fw.module(target, {}, "float32", dict)
            except PlainError as error:
                assert words in str(error), error
            else:
                raise AssertionError("it was not refused")
        """
    )
