"""A user's own JAX and TensorFlow functions, in a file outside the project, go through every command."""

import importlib.util
import json
import signal

import pytest

from fuseproof.cli import main

CASE = "layer_norm[32x48-float32-forward_backward]"

MINE = """
from fuseproof import Implementation

def in_jax(x, weight, bias):
    import jax.numpy as jnp
    from jax import lax
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * weight + bias

def in_tensorflow(x, weight, bias):
    import tensorflow as tf
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * weight + bias

IMPLEMENTATIONS = (
    Implementation("layer_norm", "mine.jax", framework="jax", target="mine.py:in_jax", compiled="jit"),
    Implementation(
        "layer_norm", "mine.tf", framework="tensorflow", target="mine.py:in_tensorflow", compiled="xla"
    ),
)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Stands in a folder that holds nothing but the user's file; gives the options that bring it in."""
    for framework in ("jax", "tensorflow"):
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield ["--implementations", "mine.py:IMPLEMENTATIONS", "--only", "mine.jax,mine.tf"]
    signal.signal(signal.SIGTERM, handler)  # `run` takes it over


def test_run(mine, tmp_path, capsys):
    short = ["--blocks", "1", "--max-blocks", "1", "--palindromes", "2", "--threads", "1", "--quiet"]
    assert main(["run", "--case", CASE, *mine, *short, "-o", "measured"]) == 0
    run = json.loads((tmp_path / "measured" / "run.json").read_text())
    assert run["fuseproof"]["failures"] == []
    measured = {b["params"]["implementation"]: b for b in run["benchmarks"]}
    assert measured.keys() == {"mine.jax", "jax.eager", "mine.tf", "tf.eager"}
    for name in ("mine.jax", "mine.tf"):
        info = measured[name]["extra_info"]
        assert 0 < info["error"]["relative_rms"] <= info["error"]["limit"]
        assert info["compile_seconds"] > 0
        assert info["kernels"] >= 1
    capsys.readouterr()
    assert main(["report", "measured", "--format", "md"]) == 0
    printed = capsys.readouterr().out
    assert "mine.jax" in printed and "mine.tf" in printed


def test_fusion(mine, capsys):
    assert main(["fusion", CASE, *mine, "--threads", "1", "-o", "account", "--json"]) == 0
    accounts = {each["implementation"]: each for each in json.loads(capsys.readouterr().out)["accounts"]}
    assert accounts.keys() == {"mine.jax", "mine.tf"}
    for account in accounts.values():
        assert account["status"] == "ok", account["reason"]
        assert account["operations"]["compiled"] < account["operations"]["eager"]


def test_compile(mine, capsys):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed; pip install 'fuseproof[tpu]'")
    assert main(["compile", "--target", "tpu-v5e", "--case", CASE, *mine, "--json"]) == 0
    results = {each["implementation"]: each for each in json.loads(capsys.readouterr().out)}
    assert results.keys() == {"mine.jax", "mine.tf"}
    for result in results.values():
        assert (result["status"], result["estimate"]) == ("ok", True), result.get("reason")
        assert result["fusions"] >= 1
        assert result["memory_plan"]["peak_bytes"] == result["peak_bytes"]
