"""Deployment runtimes in the table: names, passes, devices, and what is said where one is missing."""

from __future__ import annotations

import pytest

from fuseproof import runtime_rows
from fuseproof.implementations import Implementation, runtimes
from fuseproof.implementations.runtimes import RUNTIMES


def made(mode, **more):
    return Implementation(
        "mlp", "row", framework=RUNTIMES[mode].framework, target="m:f", compiled=mode, **more
    )


def test_a_workload_has_a_row_for_each_runtime_of_a_framework():
    rows = runtime_rows("mlp", "torch", "m:f", baseline="mine")
    assert [each.name for each in rows] == [
        *("torch.script", "torch.trace", "torch.aoti", "onnxruntime", "openvino")
    ]
    assert {(each.workload, each.target, each.baseline, each.dtypes) for each in rows} == {
        ("mlp", "m:f", "mine", ("float32",))
    }
    assert [each.name for each in runtime_rows("mlp", "tensorflow", "m:f", only=["litert"])] == ["litert"]


@pytest.mark.parametrize("mode", RUNTIMES)
def test_only_inference_is_exported(mode):
    for pass_ in ("forward", "inference"):
        assert made(mode).reason_against(pass_) is None
    for pass_ in ("forward_backward", "training_step"):
        assert made(mode).reason_against(pass_) == (
            f"{mode} runs what was exported: inference only, no {pass_}"
        )


@pytest.mark.parametrize("mode", [mode for mode, each in RUNTIMES.items() if each.packages])
def test_a_missing_package_is_one_line_with_the_command(mode, monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    reason = made(mode).reason_not_on("cpu")
    assert reason.endswith("not installed; pip install 'fuseproof[runtimes]'")
    assert all(package in reason for package in RUNTIMES[mode].packages)


@pytest.mark.parametrize("mode", [mode for mode, each in RUNTIMES.items() if each.apart])
def test_what_is_bound_to_memory_of_the_cpu_is_not_measured_on_a_gpu(mode):
    assert "bound to memory of the CPU" in made(mode).reason_not_on("cuda")


def test_a_runtime_takes_no_dynamic_shapes():
    with pytest.raises(Exception, match=r"no compile mode 'onnxruntime\+dynamic'"):
        Implementation("mlp", "row", framework="torch", target="m:f", compiled="onnxruntime+dynamic")
