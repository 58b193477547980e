"""Traces that bare profilers record on this CPU, one framework in a process: timelines show what ran."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap

import pytest

from fuseproof.cli import main
from fuseproof.profiling import readers
from fuseproof.profiling.timeline.model import KINDS

TORCH = """
    import sys, torch
    from torch.profiler import ProfilerActivity, profile
    layer, x = torch.nn.Linear(64, 64), torch.randn(32, 64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, with_stack=True) as found:
        for _ in range(3):
            layer(x).relu().sum().backward()
    found.export_chrome_trace(sys.argv[1] + "/torch.json.gz")
"""
JAX = """
    import sys, jax, jax.numpy as jnp
    step = jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x)))
    x = jnp.ones((128, 128))
    step(x).block_until_ready()
    with jax.profiler.trace(sys.argv[1]):
        for number in range(3):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                step(x).block_until_ready()
"""
TENSORFLOW = """
    import sys, tensorflow as tf
    compiled = tf.function(lambda x: tf.reduce_sum(tf.tanh(x @ x)), jit_compile=True)
    graph = tf.function(lambda x: tf.reduce_sum(tf.nn.softmax(x @ x)))
    x = tf.ones((256, 256))
    compiled(x), graph(x)
    tf.profiler.experimental.start(sys.argv[1])
    for number in range(3):
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            compiled(x).numpy(), graph(x).numpy()
    tf.profiler.experimental.stop()
"""


def capture(code, folder, framework):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"needs {framework} to record a trace")
    quiet = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # TensorFlow's CPU allocator records events only with oneDNN, which is off by default on some CPUs.
    quiet["TF_ENABLE_ONEDNN_OPTS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        env=os.environ | quiet,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (timeline,) = readers.load_all(folder)
    return timeline


def names(timeline, kind):
    return [
        timeline.names[name]
        for name, code in zip(timeline.slices.name, timeline.slices.kind, strict=True)
        if KINDS[code] == kind
    ]


def test_torch(tmp_path, capsys):
    timeline = capture(TORCH, tmp_path, "torch")
    assert timeline.source == "kineto" and timeline.origin_is_unix
    operators = names(timeline, "framework_op")
    assert operators.count("aten::linear") == operators.count("aten::relu") == 3
    assert any(name.endswith("_call_impl") for name in names(timeline, "host_call"))
    (memory,) = timeline.memory
    assert memory.device == "CPU" and memory.peak_bytes >= 32 * 64 * 4
    assert timeline.devices() == ()
    assert main(["timeline", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["source"] == "kineto" and document["slices"] == len(timeline.slices)


def test_jax(tmp_path):
    timeline = capture(JAX, tmp_path, "jax")
    assert timeline.source == "xplane" and timeline.origin_is_unix
    kernels = names(timeline, "kernel")
    assert kernels and all(kernels.count(name) % 3 == 0 for name in kernels)
    assert any("sort" in name for name in kernels)
    assert names(timeline, "user_range").count("train") == 3
    (device,) = timeline.devices()
    assert device.name == "CPU" and 0 < device.busy_ns <= device.span_ns
    column = timeline.slices.columns["hlo_module"]
    assert {timeline.names[value] for value in column.value} == {"jit__lambda"}


def test_tensorflow(tmp_path):
    timeline = capture(TENSORFLOW, tmp_path, "tensorflow")
    assert names(timeline, "user_range").count("train") == 3
    assert len(names(timeline, "kernel")) >= 3
    assert any("oftmax" in name for name in names(timeline, "framework_op"))
    assert {memory.semantics for memory in timeline.memory} == {"allocator-at-dispatch"}
