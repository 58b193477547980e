"""The profile stage with a scripted crew: a failure is a note, and finished pieces are not repeated."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from fuseproof import suites
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.measure import planning, reasons, results
from fuseproof.measure.planning import Selection
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerSkip
from fuseproof.profiling import capture
from fuseproof.profiling.capture import stage as profile_stage
from fuseproof.runs import run_file
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Settings

CASE = Case.from_group("layer_norm[3x5-float32-forward]")
OTHER = Case.from_group("matmul[3x5x7-float32-forward]")
NAMES = ("torch.eager", "torch.compile", "jax.eager", "jax.jit")


class FakeCrew:
    """Workers that prepare any implementation, unless `failures[(case, name)]` is set."""

    def __init__(self, directory, *, stage):
        assert stage == "profile"
        self.descriptions = {framework: {"version": "1"} for framework in ("torch", "jax")}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def spawn(self, frameworks):
        self.log += [f"{framework} is started" for framework in frameworks]

    def get(self, framework):
        return SimpleNamespace(ask=None)

    def worker_of(self, implementation):
        return implementation.framework

    def open_case(self, framework, case, seed):
        assert seed == 5
        self.case = case
        self.log.append((framework, case.group))

    def prepare(self, implementation):
        if error := self.failures.get((self.case.group, implementation.name)):
            raise error

    def bury(self, framework):
        self.log.append(f"{framework} is buried")


class Quiet:
    def __init__(self):
        self.pieces = []

    def piece(self, kind, what):
        self.pieces.append((kind, what))
        return contextlib.nullcontext()


@pytest.fixture
def crew(monkeypatch):
    monkeypatch.setattr(profile_stage, "Crew", FakeCrew)
    monkeypatch.setattr(FakeCrew, "log", [], raising=False)
    monkeypatch.setattr(FakeCrew, "failures", {}, raising=False)

    def profile_prepared(ask, implementation, *, group, device, description, folder, options, pid=None):
        assert not list(folder.iterdir()) and options.calls == 3 and device == "cpu"
        assert (options.threads, options.seed) == (2, 5)
        (folder / "trace").write_text(group)
        return SimpleNamespace(
            kernels_per_call=len(implementation.name), warnings=(f"odd {implementation.name}",)
        )

    monkeypatch.setattr(capture, "profile_prepared", profile_prepared)
    return FakeCrew


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(reasons.importlib.util, "find_spec", lambda name: object())

    def make(**settings):
        planned = planning.make(
            suites.get("smoke"),
            IMPLEMENTATIONS,
            Selection(cases=(CASE.group, OTHER.group), only=NAMES),
            Settings(blocks=1, max_blocks=1, threads=2, seed=5, **settings),
        )
        directory = RunDirectory.create(planned, tmp_path / "run")
        ran = {
            "status": "ran",
            "errors": {"output": 1e-7},
            "compile_seconds": None,
            "peak_memory_bytes": 1,
            "call_seconds": 1e-3,
        }
        for case in planned.cases:
            for framework in planned.frameworks:
                checked = {one.name: ran for one in planned.implementations_of(case, framework)}
                record = {"group": case.group, "description": {"version": "1"}, "rows": checked}
                directory.save_check(framework, case, record)
            legs = {one.name: [{"wall": [1e-3]}] * 2 for one in planned.implementations_of(case)}
            directory.save_cell(0, case, {"group": case.group, "legs": legs, "failures": {}})
        return directory

    return make


def kernels(run):
    return {(benchmark.group, benchmark.implementation): benchmark.kernels for benchmark in run.benchmarks}


def test_kernels_are_in_the_run_file(crew, make):
    directory = make()
    assert set(kernels(results.assemble(directory, complete=False)).values()) == {None}
    left = directory.captures(CASE) / "torch.eager"
    left.mkdir(parents=True)
    (left / "old.json").write_text("of an attempt that was stopped")
    progress = Quiet()
    profile_stage.run(directory, progress)
    # One process for each framework, every case in it.
    assert crew.log[:2] == ["torch is started", "jax is started"]
    assert progress.pieces[0] == ("profile", f"profiling {CASE.group} in torch")
    results.write_run_file(directory, complete=True)
    run = run_file.load(directory.path)
    expected = {(case.group, name): len(name) for case in (CASE, OTHER) for name in NAMES}
    assert kernels(run) == expected
    assert f"profile of jax.jit, {OTHER.group}: odd jax.jit" in run.notes
    assert run.failures == directory.plan.skipped
    assert (directory.captures(OTHER) / "torch.compile" / "trace").read_text() == OTHER.group


def test_a_failure_is_a_note_and_the_others_go_on(crew, make):
    directory = make()
    crew.failures.update(
        {
            (CASE.group, "torch.eager"): WorkerDied("the process died of SIGSEGV"),
            (CASE.group, "jax.eager"): WorkerSkip("needs a power of two"),
            (OTHER.group, "torch.compile"): WorkerError("ValueError: no"),
            (OTHER.group, "jax.jit"): UserError("the trace is damaged"),
        }
    )
    profile_stage.run(directory, Quiet())
    run = results.write_run_file(directory, complete=True)
    assert run.failures == directory.plan.skipped  # none of them is a failure of the run
    failed = {key for key, count in kernels(run).items() if count is None}
    assert failed == set(crew.failures)
    assert f"profile of torch.eager, {CASE.group}: the process died of SIGSEGV" in run.notes
    assert not (directory.captures(CASE) / "torch.eager").exists()
    # A dead worker's successor opens the case again; a worker that only refused has it open.
    assert crew.log.count("torch is buried") == 1
    assert crew.log.count(("torch", CASE.group)) == 2
    assert crew.log.count(("jax", CASE.group)) == crew.log.count(("torch", OTHER.group)) == 1


def test_an_implementation_that_failed_while_measured_is_not_tried_again(crew, make):
    directory = make()
    cell = directory.cell(0, CASE)
    directory.save_cell(0, CASE, {**cell, "failures": {"jax.jit": "gave no answer"}})
    profile_stage.run(directory, Quiet())
    assert "jax.jit" not in directory.profiled(CASE)
    assert directory.profiled(OTHER)["jax.jit"]["kernels"] == len("jax.jit")


def test_a_profiled_case_is_not_profiled_again(crew, make):
    directory = make()
    directory.save_profile("torch", CASE, {"group": CASE.group, "rows": {}})
    assert profile_stage.left(directory) == [("torch", OTHER), ("jax", CASE), ("jax", OTHER)]
    profile_stage.run(directory, Quiet())
    assert ("torch", CASE.group) not in crew.log
    crew.log.clear()
    profile_stage.run(directory, Quiet())
    assert crew.log == [] and profile_stage.left(directory) == []


def test_a_run_without_profiles(crew, make):
    directory = make(profile=False)
    assert profile_stage.left(directory) == []
    profile_stage.run(directory, Quiet())
    assert crew.log == [] and not (directory.path / "profiles").exists()
    assert set(kernels(results.assemble(directory, complete=True)).values()) == {None}
