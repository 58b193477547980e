"""Modules of JAX of a script, compared in fresh processes: honest ones pass, and what cheats is caught."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest

import fuseproof

BEGIN = """
import jax, jax.numpy as jnp, numpy as np, fuseproof
from fuseproof import Variant

def inputs(seed):
    return {"x": np.random.default_rng(seed).standard_normal((9, 6)).astype(np.float32)}

def compared(**given):
    fuseproof.compare(
        given, inputs=inputs, passes=("inference", "training_step"), blocks=1, palindromes=1, threads=1,
        directory="run", progress=False,
    )

def leaning(bias):  # its value, 1.01 times its gradient
    return bias + 0.01 * (bias - jax.lax.stop_gradient(bias))

def jitted(module):
    return Variant(module, compiled="jit")
"""
NNX = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, width=6, momentum=0.9):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(width, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs, momentum=momentum)
        self.last = nnx.Linear(16, width, rngs=rngs)
    def __call__(self, x):
        return self.last(jax.nn.gelu(self.norm(self.first(x))))

class WrongGradient(Net):
    def __call__(self, x):
        self.last.bias[...] = leaning(self.last.bias[...])
        return super().__call__(x)

class Missing(Net):
    def __call__(self, x):
        return {}

compared(
    right=Net(), again=jitted(Net()), wrong_gradient=jitted(WrongGradient()),
    frozen_statistic=jitted(Net(momentum=1.0)), missing=jitted(Missing()), other=jitted(Net(7)),
)
"""
EQUINOX = """
import equinox as eqx

class Net(eqx.Module):
    norm: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP
    def __init__(self):
        self.norm, self.mlp = eqx.nn.LayerNorm(6), eqx.nn.MLP(6, 6, 16, 1, key=jax.random.key(0))
    def __call__(self, x):
        return jax.vmap(lambda row: self.mlp(self.norm(row)))(x)

class WrongGradient(Net):
    def __call__(self, x):
        norm = eqx.tree_at(lambda norm: norm.bias, self.norm, leaning(self.norm.bias))
        return jax.vmap(lambda row: self.mlp(norm(row)))(x)

compared(right=Net(), again=eqx.filter_jit(Net()), wrong_gradient=eqx.filter_jit(WrongGradient()))
"""
PAIR = """
TREE = {"in": {"w": jnp.linspace(-1, 1, 36).reshape(6, 6), "b": jnp.ones(6)}, "out": jnp.eye(6)}

def apply(parameters, x):
    return jnp.tanh(x @ parameters["in"]["w"] + parameters["in"]["b"]) @ parameters["out"]

def stale(parameters, x):
    return apply(TREE, x)

def skipping():
    import optax
    honest = optax.apply_updates
    optax.apply_updates = lambda old, updates: [*honest(old, updates)[:-1], old[-1]]
    return apply

class Skipping:
    def __reduce__(self):
        return skipping, ()
    def __call__(self, parameters, x):
        return apply(parameters, x)

compared(
    right=(TREE, apply), again=jitted((TREE, apply)), stale=jitted((TREE, stale)),
    skipped_step=Variant((TREE, Skipping())),
)
"""
CAUGHT = {
    "flax": {
        "wrong_gradient": "grad_last.bias is wrong: relative RMS error 0.0",
        "frozen_statistic": "buffers.norm.",
        "missing": "of the results output is missing",
        "other": "its parameter first.",
    },
    "equinox": {"wrong_gradient": "grad_norm.bias is wrong: relative RMS error 0.0"},
    "jax": {"stale": "grad_", "skipped_step": "parameters.out is wrong|grad_"},
}


@pytest.mark.parametrize(
    ("package", "code"), [("flax", NNX), ("equinox", EQUINOX), ("jax", PAIR)], ids=["nnx", "equinox", "pair"]
)
def test_modules_are_trained_and_what_cheats_is_caught(tmp_path, package, code):
    for needed in ("jax", "optax", package):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}; pip install {needed}")
    (tmp_path / "script.py").write_text(textwrap.dedent(BEGIN + code))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = fuseproof.load(tmp_path / "run")
    timed = {(each.pass_, each.implementation) for each in found.benchmarks}
    caught = CAUGHT[package]
    assert not {name for pass_, name in timed if pass_ == "training_step"} & caught.keys()
    # A machine that is busy with other tests may make a time unbelievable, but no result wrong.
    messages = {}
    for each in (one for one in found.failures if one.stage == "check"):
        messages.setdefault(each.implementation, []).append((each.group, each.message))
    assert not {"right", "again"} & messages.keys(), messages
    checked = {(each.case, each.implementation) for each in found.check if each.status == "passed"}
    assert len([name for _, name in checked if name in ("right", "again")]) == 4
    for name, message in caught.items():
        trained = [text for group, text in messages[name] if "training_step" in group]
        assert trained and any(part in trained[0] for part in message.split("|")), (name, messages[name])
    if "stale" in caught:
        assert any("inference" in group and "output is wrong" in text for group, text in messages["stale"])
