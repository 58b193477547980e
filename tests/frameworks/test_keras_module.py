"""Layers and models of Keras named, built, called and trained; each test has a TensorFlow of its own."""

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
import numpy as np, keras, tensorflow as tf
from keras import layers
from fuseproof import frameworks
from fuseproof.child_process import PlainError
from fuseproof.frameworks.calling import Signature
from fuseproof.workloads.modules import State

fw = frameworks.load("tensorflow")
fw.configure(device="cpu", threads=1)
ADAMW = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
SGD = {"name": "sgd", "learning_rate": 0.01}
SIGNATURE = Signature(arguments={"x": "x"})

def made(target, dtype="float32", **fields):
    return fw.module(target, fields, dtype, lambda: {"x": fw.from_numpy(np.zeros((5, 4)), dtype)})

def steps(module, pass_, compiled, optimizer=ADAMW, count=1, dtype="float32"):
    parameters, buffers = fw.initial_state(module)
    state = State.of(parameters, buffers, optimizer)
    rng = np.random.default_rng(0)
    values = {name: state.draw(name, each.shape, rng) for name, each in parameters.items()}
    x, target = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    given = {"x": x, **{f"parameters.{name}": each for name, each in values.items()}}
    inputs = {name: fw.from_numpy(each, dtype) for name, each in given.items()}
    step = fw.module_step(module, SIGNATURE, state, pass_, compiled)
    targets = {"output": fw.from_numpy(target, dtype)} if pass_ == "training_step" else {}
    for _ in range(2):  # what a call changed is as it was after another bind
        call = step.bind(inputs, targets)
        for _ in range(count):
            found = step.unpack(call())
    assert all(fw.is_plain(each) for each in found.values())
    return {name: np.array(each, np.float64) for name, each in found.items()}, values, x, target

def refused(call, *words):
    try:
        call()
    except (PlainError, NotImplementedError, frameworks.WrongResultError) as error:
        assert all(word in str(error) for word in words), error
        assert "\\n" not in str(error)
    else:
        raise AssertionError("it was not refused")

def net(rate=0.0, **more):
    parts = [layers.Dense(8, **more), layers.BatchNormalization(momentum=0.9), layers.Activation("gelu")]
    return keras.Sequential([*parts, layers.Dropout(rate), layers.Dense(4)])
"""


def python(code):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr


def test_a_step_is_one_of_the_optimizer_in_every_mode():
    """Against AdamW and SGD written out; Keras adds ε before it corrects the mean of the squares."""
    python(
        """
        for optimizer in (ADAMW, SGD):
            eager, start, *_ = steps(made(net), "training_step", None, optimizer, count=3)
            for mode in ("function", "xla"):
                found = steps(made(net), "training_step", mode, optimizer, count=3)[0]
                # The gradient of a bias before a batch norm is rounding alone, which AdamW follows.
                for name in eager.keys() - {"parameters.0.bias", "buffers.1.moving_mean"}:
                    assert np.allclose(eager[name], found[name], rtol=2e-3, atol=2e-5), (mode, name)
            one, *_ = steps(made(net), "training_step", "function", optimizer)
            assert {name[5:] for name in one if name.startswith("grad_")} == start.keys()
            for name, before in start.items():
                gradient, after = one[f"grad_{name}"], one[f"parameters.{name}"]
                if optimizer is SGD:
                    right = before - 0.01 * gradient
                else:  # the first step
                    epsilon = 1e-8 / np.sqrt(1 - 0.999)
                    right = before * (1 - 0.01 * 0.1) - 0.01 * gradient / (np.abs(gradient) + epsilon)
                assert np.allclose(after, right, atol=5e-6), (name, np.abs(after - right).max())
        """
    )


def test_the_statistics_move_in_training_and_are_used_in_inference_in_float64_too():
    python(
        """
        one, start, x, target = steps(made(net), "training_step", "function")
        moved = 0.1 * (x @ start["0.kernel"] + start["0.bias"]).mean(0)
        assert np.allclose(one["buffers.1.moving_mean"], moved, atol=1e-5)
        for dtype, mode, near in (("float32", None, 1e-4), ("float32", "xla", 1e-4), ("float64", None, 1e-6)):
            given = steps(made(net, dtype), "inference", mode, dtype=dtype)
            found, start = given[0]["output"], given[1]
            hidden = x @ start["0.kernel"] + start["0.bias"]
            after = hidden / np.sqrt(1 + 1e-3) * start["1.gamma"] + start["1.beta"]
            gelu = keras.activations.gelu(tf.constant(after)).numpy()  # exact, in float64
            assert np.allclose(found, gelu @ start["4.kernel"] + start["4.bias"], atol=near), (dtype, mode)
        exact = steps(made(net, "float64"), "training_step", None, dtype="float64")[0]
        layer = made(net)
        layer.set_weights(made(net, "float64").get_weights())
        assert np.isclose(exact["loss"], steps(layer, "training_step", "xla")[0]["loss"], rtol=1e-5)
        """
    )


def test_the_loss_has_regularizers_or_is_the_output_of_that_name():
    python(
        """
        class Loss(layers.Layer):
            def build(self, shape):
                self.w = self.add_weight(shape=(shape[-1],), name="w")
            def call(self, x):
                return {"loss": tf.reduce_sum(x * self.w), "output": x}

        found, start, x, target = steps(made(Loss), "training_step", "xla", SGD)
        assert np.allclose(found["grad_w"], x.sum(0), atol=1e-5)
        plain, start, *_ = steps(made(net), "training_step", "function", SGD)
        more, *_ = steps(made(lambda: net(kernel_regularizer="l2")), "training_step", "function", SGD)
        assert np.isclose(more["loss"] - plain["loss"], 0.01 * (start["0.kernel"] ** 2).sum(), rtol=1e-3)

        class Lacks(Loss):
            def call(self, x):
                return {}

        class Unused(Loss):
            def call(self, x):
                return x

        for mode in (None, "xla"):
            refused(lambda: steps(made(Lacks), "training_step", mode), "of the results output is missing")
            refused(lambda: steps(made(Unused), "training_step", mode), "the parameter w has no gradient")
        """
    )


def test_names_are_places_and_attributes_however_many_layers_were_made_before():
    python(
        """
        class Block(layers.Layer):
            def __init__(self):
                super().__init__()
                self.norm, self.parts = layers.LayerNormalization(), [layers.Dense(4), net()]
            def call(self, x, training=False):
                return self.parts[1](self.parts[0](self.norm(x)), training=training)

        def functional():
            x = keras.Input((4,))
            return keras.Model(x, layers.Dense(4)(layers.Dense(3)(x)))

        for _ in range(2):
            parameters, buffers = fw.initial_state(made(Block))
            assert list(parameters)[:4] == ["norm.gamma", "norm.beta", "parts.0.kernel", "parts.0.bias"]
            assert list(parameters)[4:6] == ["parts.1.0.kernel", "parts.1.0.bias"], list(parameters)
            assert list(buffers) == ["parts.1.1.moving_mean", "parts.1.1.moving_variance"]
            assert list(fw.initial_state(made(functional))[0])[::2] == ["1.kernel", "2.kernel"]
        layer = layers.Dense(4)
        first, second = made(layer), made(layer, "float64")  # an object, not built yet
        assert first is not layer and not layer.built
        assert (first.kernel.dtype, second.kernel.dtype) == ("float32", "float64")
        assert steps(second, "inference", None, dtype="float64")[0]["output"].dtype == np.float64
        """
    )


def test_a_functional_model_of_several_inputs_takes_them_as_one():
    python(
        """
        a, b = keras.Input((4,), name="a"), keras.Input((3,), dtype="int32", name="b")
        sums = layers.Flatten()(layers.Embedding(9, 2)(b))
        model = keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([a, sums])))
        tensors = {"a": fw.from_numpy(np.ones((5, 4)), "float64"), "b": tf.ones((5, 3), tf.int32)}
        exact = fw.module(model, {}, "float64", lambda: tensors)
        parameters, buffers = fw.initial_state(exact)
        signature = Signature(arguments={"a": "a", "b": "b"})
        given = tensors | {f"parameters.{name}": tf.constant(each) for name, each in parameters.items()}
        for mode in (None, "function"):
            step = fw.module_step(exact, signature, State.of(parameters, buffers, SGD), "inference", mode)
            found = step.unpack(step.bind(given, {})())["output"]
            assert np.allclose(found, model([np.ones((5, 4)), np.ones((5, 3))]), atol=1e-6)
        """
    )


def test_what_cannot_be_compared_is_one_line_and_dropout_is_off_in_inference():
    python(
        """
        half = lambda: net(0.5)
        one, two, three = (
            steps(made(half), "inference", mode, count=2)[0]["output"] for mode in (None, "function", "xla")
        )
        assert np.allclose(one, two, atol=1e-5) and np.allclose(one, three, atol=1e-5)
        for mode in (None, "function"):
            refused(lambda: steps(made(half), "training_step", mode), "draws random numbers", "rate to 0")
        refused(lambda: made(lambda: 3), "must be a keras.Layer or a tf.Module, or make one, not a int")
        refused(lambda: steps(made(net), "inference", "jit"), "TensorFlow has no compile mode 'jit'")
        other = State.of({"kernel": np.eye(4)}, {}, ADAMW)
        dense = made(lambda: layers.Dense(4))
        refused(lambda: fw.module_step(dense, SIGNATURE, other, "inference", None), "not those of the ref")
        lion = {"name": "lion", "learning_rate": 1}
        refused(lambda: steps(dense, "training_step", None, lion), "unknown optimizer 'lion'")
        """
    )
    # Which framework Keras runs on is decided when it is imported.
    code = """
        import os
        os.environ["KERAS_BACKEND"] = "numpy"
        import keras  # before a worker's framework could choose
        from fuseproof import frameworks
        fw = frameworks.load("tensorflow")
        try:
            fw.module(lambda: 3, {}, "float32", dict)
        except NotImplementedError as error:
            assert "Keras runs on numpy here; set the environment variable KERAS_BACKEND" in str(error)
        else:
            raise AssertionError
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_compiled_step_shows_its_program():
    python(
        """
        dense = made(lambda: layers.Dense(4))
        state = State.of(*fw.initial_state(dense), ADAMW)
        x, w = fw.from_numpy(np.ones((5, 4)), "float32"), fw.from_numpy(np.eye(4), "float32")
        given = {"x": x, "parameters.kernel": w, "parameters.bias": w[0]}
        for pass_, targets in (("inference", {}), ("training_step", {"output": x})):
            step = fw.module_step(dense, SIGNATURE, state, pass_, "xla")
            call = step.bind(given, targets)
            text = call.func.experimental_get_compiler_ir(*call.args, **call.keywords)(stage="optimized_hlo")
            assert "dot" in text
        """
    )
