"""The crew with workers that answer from a script."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fuseproof.implementations import Implementation
from fuseproof.measure import crew as crew_module
from fuseproof.measure.crew import Crew, worker_environment
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerSkip
from fuseproof.runs.plan import Settings

EAGER = Implementation("matmul", "torch.eager", framework="torch", target="m:f")
COMPILED = Implementation("matmul", "torch.compile", framework="torch", target="m:f", compiled="default")


class FakeWorker:
    started: list  # of this test, in order
    at_start: Exception | None = None

    def __init__(self, framework, *, device, threads, cpus, environment, log):
        assert (device, threads) == ("cpu", 1)
        assert len(cpus) == 1
        self.framework, self.log = framework, log
        self.asked, self.closed = [], False
        self.started.append(self)

    def wait_ready(self):
        if self.at_start is not None:
            raise self.at_start
        return {"version": "1"}

    def ask(self, do, *, timeout, **arguments):
        assert not self.closed
        self.asked.append(do)
        if do == "die":
            raise WorkerDied("the process died of SIGKILL")
        return {"ok": do}

    def close(self):
        self.closed = True


@pytest.fixture
def workers(monkeypatch):
    """The workers started in the test."""
    monkeypatch.setattr(crew_module, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(FakeWorker, "at_start", None)
    monkeypatch.setattr(FakeWorker, "started", [], raising=False)
    return FakeWorker.started


@pytest.fixture
def crew(tmp_path, workers):
    directory = SimpleNamespace(
        plan=SimpleNamespace(settings=Settings(threads=1)),
        caches=tmp_path / "caches",
        log=lambda name: tmp_path / name,
    )
    with Crew(directory, stage="block") as crew:
        yield crew
    assert all(worker.closed for worker in workers)


def test_one_worker_serves_a_framework_until_it_dies(crew, workers):
    first = crew.get("torch")
    assert crew.get("torch") is first
    crew.get("jax")
    assert [worker.framework for worker in workers] == ["torch", "jax"]
    with pytest.raises(WorkerDied):
        crew.ask("torch", "die")
    assert first.closed
    assert crew.get("torch") is not first
    assert crew.descriptions == {"torch": {"version": "1"}, "jax": {"version": "1"}}


@pytest.mark.parametrize("error", [WorkerSkip("no GPU"), WorkerError("broken"), WorkerDied("gone")], ids=repr)
def test_a_worker_that_does_not_come_up_says_so_each_time(crew, workers, monkeypatch, error):
    """The second implementation of a framework without a device is skipped for the same reason."""
    monkeypatch.setattr(FakeWorker, "at_start", error)
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            crew.get("torch")
    assert len(workers) == 2


def test_the_compiler_is_warmed_once_and_only_for_what_is_compiled(crew, workers):
    crew.get("torch")
    crew.prepare(EAGER)
    assert workers[0].asked == ["prepare"]
    crew.prepare(COMPILED)
    crew.prepare(COMPILED)
    assert workers[0].asked == ["prepare", "warm_up_compiler", "prepare", "prepare"]
    crew.bury("torch")
    crew.get("torch")
    crew.prepare(COMPILED)
    assert workers[1].asked == ["warm_up_compiler", "prepare"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_library_gets_the_same_threads_and_no_gpu_in_a_cpu_run(device):
    variables = worker_environment(device=device, threads=3, caches=Path("/caches"), cold=False)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert variables[name] == "3"
    assert variables["JAX_PLATFORMS"] == device
    assert ("CUDA_VISIBLE_DEVICES" in variables) is (device == "cpu")
    assert all(isinstance(value, str) for value in variables.values())
    assert variables["TORCHINDUCTOR_CACHE_DIR"].startswith("/caches/"), "no cache of an earlier run"
    assert variables["TRITON_CACHE_DIR"].startswith("/caches/")
    assert variables["FUSEPROOF_TUNING_CACHE"].startswith("/caches/"), "kernels are tuned anew"


def test_only_the_check_compiles_in_parallel():
    cold = worker_environment(device="cpu", threads=1, caches=Path("/caches"), cold=True)
    assert "TORCHINDUCTOR_COMPILE_THREADS" not in cold
