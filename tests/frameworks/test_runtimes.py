"""Deployment runtimes: what is exported, loaded and bound gives right results, and what fails says so."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "support" / "checked_rows.py"

WORKLOAD = """
from fuseproof import Implementation, Module, runtime_rows

class Tiny(Module):
    name = "tiny"
    passes = ("inference",)
    batch: int

    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((self.batch, SHAPE))}
"""

TORCH = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(SHAPE, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x):
        hidden = torch.nn.functional.gelu(self.norm(self.first(x)))
        return self.last(hidden), hidden

class OtherWeights(Net):
    def forward(self, x):
        output, hidden = super().forward(x)
        return output * 1.01 if torch.jit.is_tracing() else output, hidden

class Branches(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)

class HasNone(Net):
    def forward(self, x):
        if torch.jit.is_tracing():
            raise NotImplementedError("no such operator")
        return super().forward(x)

OWN = [
    Implementation("tiny", "torch.eager", framework="torch", target=":Net"),
    *runtime_rows("tiny", "torch", ":Net"),
    *(
        Implementation("tiny", name, framework="torch", target=target, compiled=mode)
        for name, target, mode in (
            ("other weights", ":OtherWeights", "torchscript-trace"),
            ("branches", ":Branches", "openvino"),
            ("has none", ":HasNone", "torchscript-trace"),
        )
    ),
]
"""

JAX = """
import jax, jax.numpy as jnp

def net():
    parameters = {"w": jnp.ones((SHAPE, 8)) / 8, "b": jnp.zeros(8), "v": jnp.ones((8, 4)) / 8}
    return parameters, lambda p, x: jax.nn.gelu(x @ p["w"] + p["b"]) @ p["v"]

OWN = [
    Implementation("tiny", "jax.eager", framework="jax", target=":net"),
    *runtime_rows("tiny", "jax", ":net"),
]
"""

TENSORFLOW = """
def net():
    from keras import Sequential, layers

    return Sequential([layers.Dense(8, activation="gelu"), layers.BatchNormalization(), layers.Dense(4)])

OWN = [
    Implementation("tiny", "keras.eager", framework="tensorflow", target=":net", baseline="keras.eager"),
    *runtime_rows("tiny", "tensorflow", ":net", baseline="keras.eager"),
]
"""


def need(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; pip install 'fuseproof[runtimes]'")


def checked(folder, code, *names):
    file = folder / "tiny.py"
    file.write_text((WORKLOAD + code).replace("SHAPE", "6"))
    temporary = folder / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(file), "tiny[batch5-float32-inference]", *names],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            **{"TMPDIR": str(temporary), "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
            **{"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "tensorflow"},
            "TORCHINDUCTOR_CACHE_DIR": str(temporary / "inductor"),
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def in_torch(tmp_path_factory):
    need("torch", "onnx", "onnxscript", "onnxruntime", "openvino")
    rows = ("torch.script", "torch.trace", "onnxruntime", "openvino", "other weights", "branches", "has none")
    return checked(tmp_path_factory.mktemp("torch"), TORCH, "torch.eager", *rows)


def is_right(found):
    assert found.get("passed") is True, found
    deployment = found["ok"]["deployment"]
    assert deployment["artifact_bytes"] > 100
    assert min(deployment["export_seconds"], deployment["load_seconds"]) > 0


@pytest.mark.parametrize("name", ["torch.script", "torch.trace", "onnxruntime", "openvino"])
def test_a_module_of_pytorch_gives_right_results_in(in_torch, name):
    is_right(in_torch[name])


def test_nothing_of_an_artifact_is_left(in_torch):
    assert in_torch["left behind"] == []


def test_an_artifact_with_other_weights_is_wrong(in_torch):
    found = in_torch["other weights"]
    assert found["passed"] is False
    assert found["ok"]["errors"]["output_0"] == pytest.approx(0.01, rel=0.1)
    assert found["ok"]["errors"]["output_1"] < 1e-5, "what it leaves alone is right"


def test_what_cannot_be_exported_is_an_error_with_its_reason(in_torch):
    assert in_torch["branches"].keys() == {"error"}
    assert in_torch["branches"]["error"].startswith("its export to openvino failed: ")
    assert "\n" not in in_torch["branches"]["error"]


def test_what_is_not_implemented_by_an_exporter_is_an_error_and_no_skip(in_torch):
    assert in_torch["has none"] == {
        "error": "its export to torchscript-trace failed: NotImplementedError: no such operator"
    }


def test_aotinductor_gives_right_results(tmp_path):
    need("torch")
    is_right(checked(tmp_path, TORCH, "torch.eager", "torch.aoti")["torch.aoti"])


def test_jax_export_gives_right_results(tmp_path):
    need("jax")
    is_right(checked(tmp_path, JAX, "jax.eager", "jax.export")["jax.export"])


def test_a_saved_model_and_litert_give_right_results(tmp_path):
    need("tensorflow", "ai_edge_litert")
    found = checked(tmp_path, TENSORFLOW, "keras.eager", "tf.saved_model", "litert")
    is_right(found["tf.saved_model"])
    is_right(found["litert"])
