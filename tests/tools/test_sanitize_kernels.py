"""The program for compute-sanitizer, run without it: in the interpreter, and with wrong results."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import sanitize_kernels

from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.measure.checks import Verdict

TOOLS = Path(__file__).parents[2] / "tools"
KERNELS = [implementation for implementation in IMPLEMENTATIONS if implementation.name == "triton"]


def test_it_runs_and_checks_every_case():
    pytest.importorskip("triton", reason="runs its interpreter")
    command = [sys.executable, str(TOOLS / "sanitize_kernels.py"), "--operator", "layer_norm"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, "--dtype", "float32"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(sanitize_kernels.SHAPES["layer_norm"])
    assert all(": error " in line for line in lines)


def test_every_kernel_has_cases_in_every_dtype_and_its_last_pass():
    for kernel in KERNELS:
        found = list(sanitize_kernels.cases(kernel))
        assert {case.dtype for case in found} == set(kernel.dtypes), kernel.workload
        assert {case.pass_ for case in found if case.dtype == "bfloat16"} == {kernel.passes[-1]}


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.workload)
def test_every_kernel_is_launched(kernel, monkeypatch):
    """For tensors on the CPU the launches are those of Hopper; here they are recorded and not run."""
    pytest.importorskip("triton", reason="its launches are recorded")
    launch = importlib.import_module("fuseproof.kernels.triton.launch")
    compiler_process = importlib.import_module("fuseproof.profiling.ahead_of_time.triton.compiler_process")
    launched = set()
    monkeypatch.setenv("FUSEPROOF_AUTOTUNE", "0")
    monkeypatch.setattr(launch.Launch, "run", lambda self: launched.add(self.kernel.__name__))
    torch = importlib.import_module("torch")
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)  # a process may call it once
    framework = sanitize_kernels.frameworks.load("torch")
    framework.configure(device="cpu", threads=1)
    for case in sanitize_kernels.cases(kernel, ["bfloat16"]):
        sanitize_kernels.verdict_on(framework, kernel, case)
    compiled = compiler_process.launches(kernel.workload, "bfloat16", 90).values()
    assert launched == {launch.kernel.__name__ for launch in compiled}


@pytest.mark.parametrize(
    ("outcome", "code", "says"),
    [
        (Verdict(tensor="output", relative_rms=1e-8, limit=1e-7), 0, "error 1e-08"),
        (
            Verdict(tensor="output", relative_rms=0.5, limit=1e-7),
            1,
            "output is wrong: relative RMS error 0.5",
        ),
        (RuntimeError("an illegal\nmemory access"), 1, "FAILED: RuntimeError: an illegal memory access"),
        (NotImplementedError("no float8 on this GPU"), 0, "skipped: no float8 on this GPU"),
    ],
    ids=["right", "wrong", "failing", "skipped"],
)
def test_the_exit_code_says_whether_all_are_right(monkeypatch, capsys, outcome, code, says):
    def verdict_on(framework, kernel, case):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setenv("FUSEPROOF_AUTOTUNE", "1")
    monkeypatch.setenv("PYTORCH_NO_CUDA_MEMORY_CACHING", "0")
    fake = SimpleNamespace(configure=lambda device, threads: None)
    monkeypatch.setattr(sanitize_kernels.frameworks, "load", lambda name: fake)
    monkeypatch.setattr(sanitize_kernels, "verdict_on", verdict_on)
    assert sanitize_kernels.main(["--operator", "matmul", "--dtype", "bfloat16"]) == code
    assert os.environ["FUSEPROOF_AUTOTUNE"] == "0"
    assert os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
    assert f"matmul[77x67x131-bfloat16-{KERNELS[1].passes[-1]}]: {says}" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    def configure(device, threads):
        raise NotImplementedError(f"PyTorch sees no {device} here")

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("FUSEPROOF_AUTOTUNE", "1")
    monkeypatch.setenv("PYTORCH_NO_CUDA_MEMORY_CACHING", "0")
    monkeypatch.setattr(
        sanitize_kernels.frameworks, "load", lambda name: SimpleNamespace(configure=configure)
    )
    assert sanitize_kernels.main([]) == 2
    assert capsys.readouterr().err == "sanitize: PyTorch sees no cuda here\n"
