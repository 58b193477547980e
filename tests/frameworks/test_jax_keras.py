"""Layers and models of Keras on JAX: named, called and trained as they are on TensorFlow."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("jax", "keras")),
    reason="needs jax and keras; pip install jax keras",
)

# The same values of the same variables on each framework, which is the first argument.
CODE = """
import sys
import numpy as np
from fuseproof import frameworks
from fuseproof.child_process import PlainError
from fuseproof.frameworks.calling import Signature
from fuseproof.workloads.modules import State

fw = frameworks.load(sys.argv[1])
fw.configure(device="cpu", threads=1)
import keras
from keras import layers

ADAMW = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
SGD = {"name": "sgd", "learning_rate": 0.01}

class Net(keras.Model):
    def __init__(self, rate=0.0):
        super().__init__()
        self.first = layers.Dense(8, kernel_regularizer="l2")
        self.rest = [layers.BatchNormalization(momentum=0.9), layers.Activation("gelu"), layers.Dropout(rate)]
        self.last = layers.Dense(4)

    def call(self, x, training=False):
        x = self.first(x)
        for each in self.rest:
            x = each(x, training=training) if isinstance(each, layers.Dropout) else each(x)
        return self.last(x)

class Scale(layers.Layer):  # its author did not name the weight
    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.gamma

def two():  # a functional model of two inputs, in another order than the workload's
    y, x = keras.Input((4,), name="y"), keras.Input((4,), name="x")
    return keras.Model([y, x], layers.Dense(4)(layers.Concatenate()([y, x])))

def made(target, dtype="float32", names=("x",)):
    arrays = lambda: {name: fw.from_numpy(np.zeros((5, 4)), dtype) for name in names}
    return fw.module(target, {}, dtype, arrays)

def steps(module, pass_, compiled, optimizer=ADAMW, count=1, dtype="float32", names=("x",)):
    parameters, buffers = fw.initial_state(module)
    state = State.of(parameters, buffers, optimizer)
    rng = np.random.default_rng(0)
    given = {f"parameters.{name}": rng.standard_normal(parameters[name].shape) for name in sorted(parameters)}
    given |= {name: rng.standard_normal((5, 4)) for name in names}
    inputs = {name: fw.from_numpy(each, dtype) for name, each in given.items()}
    step = fw.module_step(module, Signature(arguments={name: name for name in names}), state, pass_, compiled)
    targets = {"output": fw.from_numpy(rng.standard_normal((5, 4)), dtype)}
    call = step.bind(inputs, targets if pass_ == "training_step" else {})
    for _ in range(count):
        raw = call()
        fw.synchronize(raw)
        found = step.unpack(raw)
    return {name: np.asarray(each, np.float64) for name, each in found.items()}

def refused(call, *words):
    try:
        call()
    except (PlainError, NotImplementedError, frameworks.WrongResultError) as error:
        assert all(word in str(error) for word in words), error
        assert "\\n" not in str(error)
    else:
        raise AssertionError("it was not refused")
"""
ON_BOTH = """
jit = {"jax": "jit", "tensorflow": "function"}[sys.argv[1]]
found = {}
for label, optimizer in (("adamw", ADAMW), ("sgd", SGD)):
    for mode in (None, jit):
        got = steps(made(Net), "training_step", mode, optimizer, count=3)
        found |= {f"{label} {mode and 'compiled'} {name}": each for name, each in got.items()}
for mode in (None, jit):
    found[f"inference {mode and 'compiled'}"] = steps(made(Net), "inference", mode)["output"]
    two_of = steps(made(two, names=("x", "y")), "inference", mode, names=("x", "y"))
    found[f"two {mode and 'compiled'}"] = two_of["output"]
found["dropout off"] = steps(made(lambda: Net(0.5)), "inference", jit)["output"]
fw.in_float64(Net)
# AdamW's constants go through float32 on TensorFlow, whatever the dtype.
exact = steps(made(Net, "float64"), "training_step", None, SGD, count=3, dtype="float64")
found |= {f"float64 {name}": each for name, each in exact.items()}
np.savez(sys.argv[2], **found)
"""


def run(code: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr


def test_a_layer_gives_the_same_in_both_frameworks_under_the_same_names(tmp_path: Path):
    """Outputs, gradients, statistics and three steps of AdamW and SGD, eager, compiled and in float64."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow; pip install tensorflow")
    run(ON_BOTH, "jax", tmp_path / "jax.npz")
    run(ON_BOTH, "tensorflow", tmp_path / "tensorflow.npz")
    one, other = np.load(tmp_path / "jax.npz"), np.load(tmp_path / "tensorflow.npz")
    assert {*one} == {*other} >= {"adamw compiled grad_first.kernel", "float64 buffers.rest.0.moving_mean"}
    for name in one:
        # The gradient of a bias before a batch norm is rounding alone, which AdamW follows at full speed.
        if "first.bias" in name or "moving_mean" in name:
            continue
        near = (1e-6, 1e-7) if name.startswith("float64") else (1e-3, 1e-4)
        assert np.allclose(one[name], other[name], *near), name


def test_what_cannot_be_measured_is_one_line():
    run(
        """
        half = made(lambda: Net(0.5))
        refused(lambda: steps(half, "training_step", "jit"), "draws random numbers", "rate to 0")
        refused(lambda: steps(half, "inference", "xla"), "JAX has no compile mode 'xla'")
        refused(lambda: made(lambda: 3), "a keras.Layer or a pair (parameters, apply)", "not a int")
        lion = {"name": "lion", "learning_rate": 1}
        refused(lambda: steps(made(Net), "training_step", "jit", lion), "unknown optimizer 'lion'")
        other = State.of({"kernel": np.eye(4)}, {}, ADAMW)
        net, signature = made(Net), Signature(arguments={"x": "x"})
        refused(lambda: fw.module_step(net, signature, other, "inference", None), "those of the reference")
        for _ in range(2):
            assert {*fw.initial_state(made(Scale))[0]} == {"gamma"}
        # A layer that is there is made again, so that no case meets what another made of it.
        layer = layers.Dense(4)
        layer.build((5, 4))
        assert made(layer) is not layer
        """,
        "jax",
    )


def test_keras_on_another_framework_is_one_line_and_a_worker_chooses_its_own():
    run(
        """
        import os
        assert os.environ["KERAS_BACKEND"] == keras.backend.backend() == "jax"
        frameworks.load("torch") if __import__("importlib").util.find_spec("torch") else None
        assert os.environ["KERAS_BACKEND"] == "jax"
        keras.backend.backend = lambda: "numpy"
        refused(lambda: made(Net), "Keras runs on numpy here", "KERAS_BACKEND=jax", "in another run")
        """,
        "jax",
    )
