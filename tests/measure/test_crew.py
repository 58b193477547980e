"""The crew with workers that answer from a script."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuseproof.implementations import Implementation
from fuseproof.measure import crew as crew_module
from fuseproof.measure.crew import Crew, worker_environment
from fuseproof.measure.evidence import Ceilings
from fuseproof.measure.worker_process import WorkerCheated, WorkerDied, WorkerError, WorkerSkip
from fuseproof.runs.plan import Settings

OURS, THEIRS = "fuseproof.m:f", "theirs.py:f"
EAGER = Implementation("matmul", "torch.eager", framework="torch", target=OURS)
COMPILED = Implementation("matmul", "torch.compile", framework="torch", target=OURS, compiled="default")


class FakeWorker:
    started: list  # of this test, in order
    at_start: Exception | None = None

    strayed: Exception | None = None
    stopped = False

    def __init__(self, framework, *, device, threads, cpus, environment, log):
        assert (device, threads) == ("cpu", 1)
        assert len(cpus) == 1
        self.framework, self.log, self.environment = framework, log, environment
        self.asked, self.closed, self.did = [], False, []
        self.pid = os.getpid()
        self.started.append(self)

    def wait_ready(self):
        if self.at_start is not None:
            raise self.at_start
        return {"version": "1"}

    def ask(self, do, *, timeout, **arguments):
        assert not self.closed
        self.asked.append(do)
        self.given = arguments
        if do == "die":
            raise WorkerDied("the process died of SIGKILL")
        if do == "cheat":
            raise WorkerCheated("wrote to the pipe of answers")
        if do == "compare_state":
            return self.compared
        if do == "ceilings":
            return self.speeds[self.framework]
        return {"ok": do}

    def strays(self):
        self.did.append("strays")
        if self.strayed is not None:
            raise self.strayed
        return []

    def pause(self):
        self.did.append("pause")

    def release(self):
        return self.stopped

    def close(self):
        self.closed = True


@pytest.fixture
def workers(monkeypatch):
    """The workers started in the test."""
    monkeypatch.setattr(crew_module, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(FakeWorker, "at_start", None)
    monkeypatch.setattr(FakeWorker, "strayed", None)
    monkeypatch.setattr(FakeWorker, "started", [], raising=False)
    monkeypatch.setattr(FakeWorker, "speeds", {}, raising=False)
    monkeypatch.setattr(FakeWorker, "compared", {"compared": 3}, raising=False)
    return FakeWorker.started


@pytest.fixture
def settings():
    return {}


@pytest.fixture
def changed():
    """Files of the run that were changed."""
    return []


@pytest.fixture
def crew(tmp_path, workers, settings, changed):
    directory = SimpleNamespace(
        plan=SimpleNamespace(settings=Settings(threads=1, **settings), implementations=(EAGER, COMPILED)),
        caches=tmp_path / "caches",
        log=lambda name: tmp_path / name,
        environment={"cpu": {"last_level_cache_bytes": 2**20}},
        disturbed=lambda: list(changed),
        restore=changed.clear,
    )
    with Crew(directory, stage="block") as crew:
        yield crew
    assert all(worker.closed for worker in workers)
    assert not Path(crew.referee.file()).parent.exists(), "the folder of results is gone"


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


def theirs(name, **more):
    return Implementation("matmul", name, framework="torch", target=THEIRS, **more)


def test_the_baseline_is_loaded_beside_what_may_replace_it(crew, workers):
    crew.get("torch:matmul mine")
    crew.prepare(theirs("mine"))
    assert workers[0].given["beside"] == EAGER.target
    crew.prepare(theirs("mine", baseline="mine"))
    assert workers[0].given["beside"] == EAGER.target, "whatever its author compares it with"


def test_a_runtime_with_threads_of_its_own_has_a_worker_that_stands_still(crew):
    one, other = (
        Implementation(workload, "onnxruntime", framework="torch", target=OURS, compiled="onnxruntime")
        for workload in ("matmul", "softmax")
    )
    assert crew.worker_of(one) == crew.worker_of(other) == "torch:onnxruntime"
    assert crew_module.is_alone("torch:onnxruntime")
    script = Implementation("matmul", "script", framework="torch", target=OURS, compiled="torchscript")
    assert crew.worker_of(script) == "torch"


def test_code_from_outside_has_a_worker_of_its_own(crew):
    assert crew.worker_of(EAGER) == crew.worker_of(COMPILED) == "torch"
    one, other = crew.worker_of(theirs("one")), crew.worker_of(theirs("other"))
    assert len({"torch", one, other}) == 3
    assert {crew_module.framework_of(each) for each in (one, other)} == {"torch"}
    assert all(map(crew_module.is_alone, (one, other))) and not crew_module.is_alone("torch")
    elsewhere = Implementation("softmax", "one", framework="torch", target=THEIRS)
    assert crew.worker_of(elsewhere) != one, "also the one of another operator"
    declared = Implementation("matmul", "ours", framework="torch", target=OURS, outside=True)
    assert crew.worker_of(declared) not in ("torch", one), "and what a user declares to be ours"
    peer = Implementation("matmul", "peer", framework="torch", target=OURS, requires="liger_kernel")
    assert crew.worker_of(peer) not in ("torch", one, other), "a package of others too"


@pytest.mark.parametrize("settings", [{"share_process": True}])
def test_it_shares_one_if_the_user_says_so(crew):
    assert crew.worker_of(theirs("one")) == "torch"


def test_a_worker_loads_its_framework_and_has_a_log_of_its_own(crew, workers):
    crew.spawn(["torch", "torch:../mine/a b"])
    assert [worker.framework for worker in workers] == ["torch", "torch"]
    names = [worker.log.name for worker in workers]
    assert names == ["block-torch", "block-torch_.._mine_a_b"]
    ours, theirs = (Path(worker.environment["TRITON_CACHE_DIR"]) for worker in workers)
    assert ours.parent != theirs.parent, "what one compiles another may not put in its place"


def test_only_workers_with_code_from_outside_stand_still_when_they_are_not_asked(crew, workers):
    crew.spawn(["torch", "torch:mine"])
    crew.settle()
    ours, mine = workers
    assert (ours.did, mine.did) == ([], ["strays", "pause"]), (
        "what it started is found, to be stopped with it"
    )
    for worker in ("torch", "torch:mine"):
        with pytest.raises(ZeroDivisionError), crew.awake(worker):
            1 / 0  # noqa: B018
    assert (ours.did, mine.did) == ([], ["strays", "pause"] * 2), "whatever happens meanwhile"
    with crew.awake("torch:mine"):
        crew.bury("torch:mine")


def test_settling_survives_workers_that_do_not_come_up(crew, workers, monkeypatch):
    monkeypatch.setattr(FakeWorker, "at_start", WorkerSkip("no GPU"))
    crew.spawn(["torch", "torch:mine"])
    crew.settle()
    assert all(worker.closed for worker in workers)


def test_a_worker_that_cheats_is_ended(crew, workers):
    crew.get("torch:mine")
    with pytest.raises(WorkerCheated):
        crew.ask("torch:mine", "cheat")
    assert workers[0].closed
    assert crew.get("torch:mine") is workers[1]


def test_what_is_written_to_the_pipe_unasked_ends_the_worker(crew, workers, monkeypatch):
    crew.get("torch:mine")
    monkeypatch.setattr(FakeWorker, "strayed", WorkerCheated("wrote to the pipe of answers"))
    with pytest.raises(WorkerCheated, match="wrote to the pipe"), crew.awake("torch:mine"):
        pass
    assert workers[0].closed
    with pytest.raises(ZeroDivisionError), crew.awake("torch:mine"):
        crew.get("torch:mine")
        1 / 0  # noqa: B018 - the first error counts


def test_the_case_is_opened_with_the_seed_of_the_referee_and_the_size_of_the_cache(
    crew, workers, monkeypatch
):
    given = {}
    monkeypatch.setattr(
        FakeWorker, "ask", lambda self, do, *, timeout, **more: given.update(more, do=do) or {}
    )
    crew.get("torch")
    crew.open_case("torch", SimpleNamespace(group="a case", workload=None), 99)
    assert given == {
        "do": "open_case",
        "group": "a case",
        "seed": 99,
        "workload": None,
        "last_level_cache": 2**20,
    }


def test_ceilings_are_the_best_of_the_workers_without_code_from_outside(crew, workers, monkeypatch):
    speeds = {"torch": {"bytes": 3.0, "flops": 1.0}, "jax": {"bytes": 2.0, "flops": 5.0}}
    monkeypatch.setattr(FakeWorker, "speeds", speeds)
    for worker in ("torch", "jax", "torch:mine"):
        crew.get(worker)
    assert crew.ceilings("float32") == Ceilings(bytes=3.0, flops=5.0)
    assert crew.ceilings("float32") == Ceilings(bytes=3.0, flops=5.0)
    assert [worker.asked for worker in workers] == [["ceilings"], ["ceilings"], []], "once for each dtype"


def test_a_ceiling_that_nobody_could_measure_is_asked_for_again(crew, monkeypatch):
    assert crew.ceilings("float32") == Ceilings()
    monkeypatch.setattr(FakeWorker, "speeds", {"torch": {"bytes": 3.0, "flops": 1.0}})
    crew.get("torch")
    assert crew.ceilings("float32") == Ceilings(bytes=3.0, flops=1.0)


def test_whoever_changes_how_the_runner_is_scheduled_is_refused(crew, monkeypatch):
    now = {"niceness": 0}
    monkeypatch.setattr(os, "getpriority", lambda which, process: now["niceness"])
    monkeypatch.setattr(os, "setpriority", lambda which, process, value: now.update(niceness=value))
    before = os.sched_getaffinity(0)
    crew._note_scheduling("", os.getpid())
    crew.refuse_harm("torch:mine")
    now["niceness"] = 5
    crew.refuse_harm("torch")  # code of our own is not looked after
    with pytest.raises(WorkerError, match="changed the CPU affinity or the priority of the runner"):
        crew.refuse_harm("torch:mine")
    assert now["niceness"] == 0 and os.sched_getaffinity(0) == before, "and it is set back"
    crew.refuse_harm("torch:mine")


@pytest.mark.parametrize("answer", [{}, {"compared": 0}], ids=str)
def test_a_process_that_compared_nothing_is_refused(crew, workers, monkeypatch, answer):
    crew.get("torch:mine")
    crew.compare("torch:mine")
    monkeypatch.setattr(FakeWorker, "compared", answer)
    with pytest.raises(WorkerError, match="compared nothing"):
        crew.compare("torch:mine")


def test_whoever_changes_files_of_the_run_is_refused_and_they_are_set_back(crew, changed):
    crew.get("torch:mine")
    changed.append("plan.json")
    with pytest.raises(WorkerError, match=r"changed files of the run: plan\.json"):
        crew.compare("torch:mine")
    crew.compare("torch:mine")
    changed.append("plan.json")
    crew.mend()
    crew.compare("torch:mine")  # what was changed before it ran was not its doing


def test_whoever_stops_another_process_is_refused(crew, workers):
    for worker in ("torch", "torch:mine"):
        crew.get(worker)
    crew.compare("torch:mine")
    workers[0].stopped = True
    with pytest.raises(WorkerError, match="stopped the process of torch"):
        crew.compare("torch:mine")


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
