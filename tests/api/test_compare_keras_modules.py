"""Layers of Keras of a script, compared in fresh processes: honest ones pass, and what cheats is caught."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest

import fuseproof

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow; pip install tensorflow"
)

MODULES = """
import keras, numpy as np, tensorflow as tf, fuseproof
from keras import layers
from fuseproof import Variant

class Last(layers.Dense):
    pass

def net(last=Last, width=6, momentum=0.9):
    before = [layers.Dense(16), layers.BatchNormalization(momentum=momentum), layers.Activation("gelu")]
    return keras.Sequential([*before, last(width)])

class WrongGradient(Last):
    def call(self, x):
        more = self.bias - tf.stop_gradient(self.bias)  # nothing, but for its gradient
        return x @ self.kernel + self.bias + 0.01 * more

class Stale(Last):
    def call(self, x):
        if not hasattr(self, "kept"):
            self.kept = tf.identity(self.kernel), tf.identity(self.bias)
        return x @ self.kept[0] + self.kept[1]

class Skipping(Last):
    def build(self, shape):
        super().build(shape)
        honest, self.bias.value.assign_sub = self.bias.value.assign_sub, lambda *given, **named: None

class Missing(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return {}

def compiled(layer, mode="function"):
    return Variant(layer, compiled=mode)

def inputs(seed):
    return {"x": np.random.default_rng(seed).standard_normal((9, 6)).astype(np.float32)}

fuseproof.compare(
    {
        "right": net(), "again": compiled(net()), "xla": compiled(net(), "xla"),
        "wrong_gradient": compiled(net(WrongGradient)), "frozen_statistic": compiled(net(momentum=1.0)),
        "stale": net(Stale), "skipped_step": net(Skipping), "missing": compiled(Missing(net().layers)),
        "other": compiled(net(width=7)),
    },
    inputs=inputs, passes=("inference", "training_step"), blocks=1, palindromes=1, threads=1, directory="run",
    progress=False,
)
"""
CAUGHT = {
    "wrong_gradient": "grad_3.bias is wrong: relative RMS error 0.0",
    "frozen_statistic": "buffers.1.",
    "stale": "the parameter 3.kernel has no gradient",
    # After several steps the parameter that stayed has made others wrong too, and the worst is named.
    "skipped_step": "parameters.3.bias is wrong|grad_",
    "missing": "of the results output is missing",
    "other": "its parameter 3.kernel has shape",
}


def test_modules_are_trained_and_what_cheats_is_caught(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(MODULES))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = fuseproof.load(tmp_path / "run")
    timed = {(each.pass_, each.implementation) for each in found.benchmarks}
    assert not {name for pass_, name in timed if pass_ == "training_step"} & CAUGHT.keys()
    # A machine that is busy with other tests may make a time unbelievable, but no result wrong.
    messages = {}
    for each in (one for one in found.failures if one.stage == "check"):
        messages.setdefault(each.implementation, []).append((each.group, each.message))
    honest = {"right", "again", "xla"}
    assert not honest & messages.keys(), messages
    assert (
        len([each for each in found.check if each.status == "passed" and each.implementation in honest]) == 6
    )
    for name, message in CAUGHT.items():
        trained = [text for group, text in messages[name] if "training_step" in group]
        assert trained and any(part in trained[0] for part in message.split("|")), (name, messages[name])
    stale = [text for group, text in messages["stale"] if "inference" in group]
    assert stale and "output is wrong" in stale[0], "its parameters are those of an earlier draw"
