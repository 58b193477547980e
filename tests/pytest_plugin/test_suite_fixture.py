"""The plugin in a user's project: pytest-benchmark's own options on rounds that Fuseproof measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from fuseproof import privacy
from fuseproof.errors import UserError
from fuseproof.measure import runner
from fuseproof.pytest_plugin import ReplayTimer, suite
from fuseproof.reports import gate
from fuseproof.runs import run_file
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Settings

ARGUMENTS = [
    "--fuseproof-suite=smoke",
    "--fuseproof-only=torch.eager-composed,triton",  # nothing that takes a compiler seconds
    "--fuseproof-blocks=2",
    "-rs",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    pytest.importorskip("torch", reason="the suite is measured in PyTorch")
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_mine.py").write_text("def test_suite(fuseproof_benchmark):\n    fuseproof_benchmark()\n")

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ARGUMENTS, *arguments]
        # These tests may run in a worker of xdist; pytest-benchmark disables itself if it sees that.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)

    done = run("-k", "layer_norm", "--benchmark-save=base", "--benchmark-json=out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, run, done.stdout


def test_measured_rounds_reach_the_json(project):
    folder, _, output = project
    run = run_file.load(folder / "out.json")
    found = {benchmark.implementation: benchmark for benchmark in run.benchmarks}
    assert set(found) == {"torch.eager", "torch.eager-composed"}
    for benchmark in found.values():
        assert set(benchmark.block.tolist()) == {0, 1}
        assert benchmark.operator == "layer_norm"
    assert run.machine_info["node"] == privacy.machine_id(), "not the host's name"
    (measured,) = (run_file.load(path) for path in (folder / ".fuseproof" / "runs").iterdir())
    stored = {benchmark.implementation: benchmark.seconds.tolist() for benchmark in measured.benchmarks}
    assert {name: benchmark.seconds.tolist() for name, benchmark in found.items()} == stored
    assert "needs cuda" in output, "what cannot run here is skipped with its reason"


def test_the_gate_reads_it(project):
    folder, _, _ = project
    run = run_file.load(folder / "out.json")
    result = gate.compare(run, run)
    assert {row.verdict for row in result.rows} <= {"pass", "inconclusive"}
    assert len(result.rows) == 2


def test_pytest_benchmark_compares_the_files(project):
    folder, _, _ = project
    (measured,) = (folder / ".fuseproof" / "runs").iterdir()
    for file in (measured / "run.json", folder / "out.json"):
        table = folder / "compared.csv"
        command = [sys.executable, "-m", "pytest_benchmark", "compare", file, f"--csv={table}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(table.read_text().splitlines()) == 1 + 2, "a heading and two implementations"
        table.unlink()


@pytest.mark.parametrize("chosen", [None, "file://./elsewhere"], ids=["by default", "where the user says"])
def test_saved_runs_are_kept_apart_by_fingerprint(monkeypatch, chosen):
    default = "file://./.benchmarks"
    option = SimpleNamespace(benchmark_storage=chosen or default)
    config = SimpleNamespace(option=option, getoption=lambda name: getattr(option, name))
    settings = SimpleNamespace(**vars(Settings(threads=1)))
    monkeypatch.setattr(suite, "_plan", lambda config: SimpleNamespace(settings=settings))
    suite.separate_storage(config)
    if chosen is not None:
        assert option.benchmark_storage == chosen
        return
    first = option.benchmark_storage
    assert first.startswith(f"{default}/")
    option.benchmark_storage, settings.threads = default, 2
    suite.separate_storage(config)
    assert option.benchmark_storage not in (default, first)


def test_a_regression_against_a_saved_run_fails_the_session(project):
    folder, run, _ = project
    (saved,) = folder.glob(".benchmarks/**/*_base.json")
    document = json.loads(saved.read_text())
    for benchmark in document["benchmarks"]:
        benchmark["stats"]["median"] /= 1000
    saved.write_text(json.dumps(document))
    done = run("-k", "layer_norm", "--benchmark-compare", "--benchmark-compare-fail=median:5%")
    assert done.returncode != 0
    assert "Performance has regressed" in done.stdout + done.stderr


def test_a_run_that_fails_is_not_measured_again_for_every_test(monkeypatch):
    tried = []

    def run(directory, progress, profile):
        tried.append(directory)
        raise UserError("cannot write run.json: No space left on device; make room and go on")

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(suite, "_selected", lambda request: None)
    monkeypatch.setattr(RunDirectory, "create", lambda plan, path: "the folder")
    manager = SimpleNamespace(getplugin=lambda name: SimpleNamespace(global_and_fixture_disabled=nullcontext))
    request = SimpleNamespace(config=SimpleNamespace(stash=pytest.Stash(), pluginmanager=manager))
    for _ in range(2):
        with pytest.raises(UserError, match="No space left"):
            suite._run(request)
    assert tried == ["the folder"]


def test_an_unknown_suite_stops_the_session(project):
    _, run, _ = project
    done = run("--fuseproof-suite=nosuchsuite")
    assert done.returncode == pytest.ExitCode.INTERRUPTED  # 2, like every bad input
    assert "unknown suite 'nosuchsuite'" in done.stdout


def test_disabled_benchmarks_measure_nothing(project):
    folder, run, _ = project
    before = list((folder / ".fuseproof" / "runs").iterdir())
    done = run("--benchmark-disable", "-k", "matmul")
    assert done.returncode == 0
    assert "not measured with --benchmark-disable" in done.stdout
    assert list((folder / ".fuseproof" / "runs").iterdir()) == before


def test_the_timer_replays_every_bit():
    timer, rounds = ReplayTimer(), [0.1, 3e-7, 123.456]
    timer.load(rounds)
    replayed = []
    for _ in rounds:
        timer.rewind()
        started = timer()
        timer.tick()
        replayed.append(timer() - started)
    assert replayed == rounds
