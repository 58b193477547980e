"""Modules of JAX taken apart, called and trained; each test has a process of its own for JAX."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax; pip install jax")

BEGIN = """
import numpy as np
import jax, jax.numpy as jnp
from fuseproof import frameworks
from fuseproof.child_process import PlainError
from fuseproof.frameworks.calling import Signature
from fuseproof.workloads.modules import State

jx = frameworks.load("jax")
jx.configure(device="cpu", threads=1)
ADAMW = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
SGD = {"name": "sgd", "learning_rate": 0.01}

def made(target, dtype="float32", **fields):
    return jx.module(target, fields, dtype, dict)

def steps(module, pass_, compiled, optimizer=ADAMW, count=1, dtype="float32", seed=0):
    parameters, buffers = jx.initial_state(module)
    state = State.of(parameters, buffers, optimizer)
    rng = np.random.default_rng(seed)
    values = {name: state.draw(name, each.shape, rng) for name, each in parameters.items()}
    x, target = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    given = {"x": x, **{f"parameters.{name}": each for name, each in values.items()}}
    inputs = {name: jx.from_numpy(each, dtype) for name, each in given.items()}
    step = jx.module_step(module, Signature(arguments={"x": "x"}), state, pass_, compiled)
    call = step.bind(inputs, {"output": jx.from_numpy(target, dtype)} if pass_ == "training_step" else {})
    for _ in range(count):
        found = step.unpack(jx.synchronize(raw := call()) or raw)
    return {name: np.asarray(each, np.float64) for name, each in found.items()}, values, x, target

def refused(call, *words):
    try:
        call()
    except (PlainError, NotImplementedError, frameworks.WrongResultError) as error:
        assert all(word in str(error) for word in words), error
        assert "\\n" not in str(error)
    else:
        raise AssertionError("it was not refused")
"""
NNX = """
from flax import nnx

def net(rate=0.0):
    rngs = nnx.Rngs(0)
    parts = [nnx.Linear(4, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs, momentum=0.9), jax.nn.gelu]
    return nnx.Sequential(*parts, nnx.Dropout(rate, rngs=rngs), nnx.Linear(8, 4, rngs=rngs))
"""
EQUINOX = """
import equinox as eqx

class Net(eqx.Module):
    mlp: eqx.nn.MLP
    norm: eqx.nn.LayerNorm
    places: jax.Array
    drop: eqx.nn.Dropout
    def __call__(self, x):
        return jax.vmap(lambda row: self.drop(self.norm(self.mlp(row))[self.places]))(x)

def net(rate=0.0):
    mlp = eqx.nn.MLP(4, 4, 8, 1, key=jax.random.key(0))
    return Net(mlp, eqx.nn.LayerNorm(4), jnp.array([3, 2, 1, 0]), eqx.nn.Dropout(rate))
"""
PAIR = """
def net():
    tree = {"layers": [{"w": jnp.eye(4), "b": jnp.zeros(4)}] * 2, "kind": 3, "order": jnp.arange(4)}
    def apply(parameters, x):
        for layer in parameters["layers"]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return x[:, parameters["order"]] * parameters["kind"]
    return tree, apply
"""


def python(code, *, needs=("optax",)):
    for name in needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}; pip install {name}")
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr


KINDS = pytest.mark.parametrize(
    ("code", "package"),
    [(NNX, "flax"), (EQUINOX, "equinox"), (PAIR, "jax")],
    ids=["nnx", "equinox", "pair"],
)


@KINDS
def test_a_step_is_one_of_the_optimizer_in_every_mode_and_precision(code, package):
    """Against AdamW and SGD written out (Loshchilov and Hutter, 2019), with gradients of JAX in float64."""
    python(
        code
        + """
names = set(jx.initial_state(made(net))[0])
for optimizer in (ADAMW, SGD):
    eager, start, x, target = steps(made(net), "training_step", None, optimizer, count=3)
    jitted, *_ = steps(made(net), "training_step", "jit", optimizer, count=3)
    one, *_ = steps(made(net), "training_step", "jit", optimizer)
    assert eager.keys() == jitted.keys()
    assert {name[5:] for name in eager if name.startswith("grad_")} == names
    # The gradient of a bias before a batch norm is rounding alone, which AdamW follows at full speed.
    for name in eager.keys() - {"parameters.layers.0.bias", "buffers.layers.1.mean"}:
        assert np.allclose(eager[name], jitted[name], rtol=2e-3, atol=2e-5), name
    for name, before in start.items():
        gradient, after = one[f"grad_{name}"], one[f"parameters.{name}"]
        if optimizer is SGD:
            right = before - 0.01 * gradient
        else:  # the first step: both means are the gradient, after their correction
            right = before * (1 - 0.01 * 0.1) - 0.01 * gradient / (np.abs(gradient) + 1e-8)
        assert np.allclose(after, right, atol=2e-6), (name, np.abs(after - right).max())
inference, *_ = steps(made(net), "inference", None)
assert np.allclose(inference["output"], steps(made(net), "inference", "jit")[0]["output"], atol=1e-5)
half = steps(made(net, dtype="bfloat16"), "training_step", "jit", dtype="bfloat16", count=2)[0]
assert half.keys() == eager.keys()

jx.in_float64(net)
exact, start, x, target = steps(made(net, "float64"), "training_step", None, ADAMW, count=3, dtype="float64")
near = steps(made(net), "training_step", "jit", ADAMW, count=3)[0]
assert np.isclose(near["loss"], exact["loss"], rtol=1e-4)
""",
        needs=("optax", package),
    )


def test_the_loss_is_the_mean_squared_distance_or_the_output_of_that_name():
    python(
        """
        tree = {"w": jnp.eye(4)}
        module = made((tree, lambda p, x: x @ p["w"]))
        found, start, x, target = steps(module, "training_step", "jit", SGD)
        distance = x @ start["w"] - target
        assert np.isclose(found["loss"], (distance**2).mean(), rtol=1e-5)
        assert np.allclose(found["grad_w"], 2 * x.T @ distance / distance.size, rtol=1e-4, atol=1e-6)
        named = lambda: (tree, lambda p, x: {"loss": (x @ p["w"]).sum(), "output": x})
        assert np.allclose(steps(made(named), "training_step", None, SGD)[0]["grad_w"], x.sum(0)[:, None])
        lacks = made(lambda: (tree, lambda p, x: {"other": x @ p["w"]}))
        refused(lambda: steps(lacks, "training_step", "jit", SGD), "of the results output is missing")
        """
    )


@KINDS
def test_what_a_module_holds_is_named_by_its_place(code, package):
    wanted = {
        "flax": (["layers.0.bias", "layers.0.kernel", "layers.1.bias"], ["layers.1.mean", "layers.1.var"]),
        "equinox": (["mlp.layers.0.weight", "mlp.layers.0.bias", "mlp.layers.1.weight"], []),
        "jax": (["layers.0.b", "layers.0.w", "layers.1.b"], []),
    }
    parameters, buffers = wanted[package]
    python(
        code
        + f"""
parameters, buffers = jx.initial_state(made(net))
assert list(parameters)[:3] == {parameters} and list(buffers) == {buffers}, (list(parameters), list(buffers))
assert all(each.dtype == np.float32 for each in (*parameters.values(), *buffers.values()))
assert jx.initial_state(made(lambda: (jnp.ones(3), print)))[0].keys() == {{"value"}}
""",
        needs=(package,),
    )


def test_a_training_step_moves_the_statistics_and_inference_uses_them():
    python(
        NNX
        + """
one, start, x, _ = steps(made(net), "training_step", "jit")
mean = (x @ start["layers.0.kernel"] + start["layers.0.bias"]).mean(0)
assert np.allclose(one["buffers.layers.1.mean"], 0.1 * mean, atol=1e-5)
two = steps(made(net), "training_step", "jit", count=2)[0]
assert not np.allclose(two["buffers.layers.1.var"], one["buffers.layers.1.var"])
hidden = x @ start["layers.0.kernel"] + start["layers.0.bias"]
hidden = hidden / np.sqrt(1 + 1e-5) * start["layers.1.scale"] + start["layers.1.bias"]
right = np.asarray(jax.nn.gelu(hidden)) @ start["layers.4.kernel"] + start["layers.4.bias"]
assert np.allclose(steps(made(net), "inference", "jit")[0]["output"], right, atol=1e-4)
# An object, not what makes it: one case must not change it for the next.
module = net()
assert np.allclose(steps(made(module), "inference", None)[0]["output"], right, atol=1e-4)
steps(made(module), "training_step", None)
assert np.allclose(steps(made(module), "inference", None)[0]["output"], right, atol=1e-4)
""",
        needs=("optax", "flax"),
    )


def test_dropout_is_off_in_inference_and_said_to_be_incomparable_in_training():
    python(
        NNX
        + """
assert np.allclose(*(steps(made(net, rate=rate), "inference", "jit")[0]["output"] for rate in (0.0, 0.5)))
for mode in (None, "jit"):
    refused(lambda: steps(made(net, rate=0.5), "training_step", mode), "draws random numbers", "rate to 0")
""",
        needs=("optax", "flax"),
    )


def test_what_is_no_module_or_another_one_is_one_line():
    python(
        """
        tree = {"w": jnp.eye(4)}
        refused(lambda: made(lambda: 3), "a flax.nnx.Module, a keras.Layer or a pair", "not a int")
        dotted = made(lambda: ({"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, print))
        refused(lambda: jx.initial_state(dotted), "two of its arrays are named a.b")
        module = made(lambda: (tree, lambda p, x: x @ p["w"]))
        signature = Signature(arguments={"x": "x"})
        for other, words in (
            ({"v": np.eye(4)}, "its parameters are not those of the reference: v, w"),
            ({"w": np.eye(3)}, "its parameter w has shape (4, 4) instead of (3, 3)"),
        ):
            state = State.of(other, {}, ADAMW)
            refused(lambda: jx.module_step(module, signature, state, "inference", None), words)
        refused(lambda: steps(module, "inference", "default"), "JAX has no compile mode 'default'")
        lion = {"name": "lion", "learning_rate": 1}
        refused(lambda: steps(module, "training_step", None, lion), "unknown optimizer 'lion'")
        """
    )


def test_what_a_library_cannot_give_is_said_with_what_to_do():
    python(
        EQUINOX
        + """
from flax import linen
def stateful():
    return eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, axis_name="b", mode="batch")[0]
refused(lambda: jx.initial_state(made(stateful)), "equinox.nn.State is not supported", "Flax NNX")
refused(lambda: made(lambda: linen.Dense(3)), "flax.linen.Module holds no parameters", "module.apply)")
import sys
sys.modules["optax"] = None
refused(lambda: steps(made(net), "training_step", None), "needs Optax; pip install optax")
assert steps(made(net), "inference", None)
""",
        needs=("equinox", "flax"),
    )


def test_a_jitted_step_shows_its_program():
    python(
        """
        module = made(lambda: ({"w": jnp.eye(4)}, lambda p, x: x @ p["w"]))
        state = State.of(*jx.initial_state(module), ADAMW)
        x = jx.from_numpy(np.ones((5, 4)), "float32")
        for pass_, targets in (("inference", {}), ("training_step", {"output": x})):
            step = jx.module_step(module, Signature(arguments={"x": "x"}), state, pass_, "jit")
            call = step.bind({"x": x, "parameters.w": jx.from_numpy(np.eye(4), "float32")}, targets)
            assert "dot" in call.func.lower(*call.args, **call.keywords).compile().as_text()
        """
    )
