"""The null control across processes: which twins there are, and what a run says of them."""

import importlib.util
import os
from pathlib import Path

import null_control
import numpy as np
import pytest
from support.runs import make_benchmark, make_run

from fuseproof.files import write_json
from fuseproof.implementations import table
from fuseproof.implementations.loading import resolve
from fuseproof.measure import planning, reasons
from fuseproof.runs.plan import Settings
from fuseproof.runs.records import Failure
from fuseproof.runs.run_file import run_to_json
from fuseproof.suites import demo


def noisy(names, rng):
    """A benchmark of each name and its baseline, of the same time, each block with its own noise."""
    return [
        make_benchmark(name, baseline=baseline, process_noise=0.01, round_noise=0.01, rng=rng)
        for name, baseline in names
    ]


def test_copies_are_a_users_implementations_of_the_same_code(tmp_path):
    twins = null_control.write_copies(tmp_path, ["layer_norm", "matmul"])
    assert resolve(f"{tmp_path / 'twins.py'}:TWINS") == twins
    assert {(twin.workload, twin.name, twin.baseline) for twin in twins} == {
        (operator, f"outside.{name}-null", name)
        for operator in ("layer_norm", "matmul")
        for name in null_control.COPIED
    }
    for twin in twins:
        file, _, attribute = twin.target.partition(":")
        original = importlib.util.find_spec(f"fuseproof.fusion.ops.{twin.framework}").origin
        assert Path(file).read_bytes() == Path(original).read_bytes()
        assert attribute == twin.workload


def test_the_demo_suite_has_at_least_120_twins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    null_control.write_copies(tmp_path, {case.workload.name for case in demo.SUITE.cases})
    monkeypatch.setattr(reasons.importlib.util, "find_spec", lambda name: object())
    plan = planning.make(
        demo.SUITE, table([f"{tmp_path / 'twins.py'}:TWINS"]), planning.Selection(null=True), Settings()
    )
    names = [each.name for case in demo.SUITE.cases for each in plan.implementations_of(case)]
    twins = [name for name in names if name.endswith("-null")]
    assert len([name for name in twins if name.startswith("outside.")]) == 60
    assert len(twins) >= 120
    assert len({*names}) == len(names) / len(demo.SUITE.cases)


def test_built_in_twins_and_copies_from_outside_are_counted_apart():
    rng = np.random.default_rng(0)
    names = [
        ("torch.eager", "torch.eager"),
        ("torch.eager-null", "torch.eager"),
        ("outside.torch.eager-null", "torch.eager"),
        ("outside.torch.eager-null-null", "outside.torch.eager-null"),
        ("torch.compile", "torch.eager"),
    ]
    benchmarks = noisy(names, rng)
    benchmarks.append(make_benchmark("wrong-null", seconds=2e-3, round_noise=0.01, rng=rng))
    inside, across, everything = null_control.coverage(make_run(benchmarks))
    assert (inside.kind, inside.twins, inside.contained) == ("built-in", 2, 1)
    assert (across.kind, across.twins, across.contained) == ("from outside", 2, 2)
    assert (everything.twins, everything.contained) == (4, 3)
    low, high = everything.wilson
    assert 0 < low < 0.75 < high < 1


def test_half_width_and_deviation_are_relative_to_1():
    exact = null_control._coverage("all", np.array([[1.1, 1.0, 1.21], [1 / 1.1, 0.5, 0.5 * 1.21]]))
    assert exact.half_width == pytest.approx(0.1)
    assert exact.deviation == pytest.approx(0.1)
    assert (exact.twins, exact.contained) == (2, 1)


def test_what_is_shown_of_a_run(tmp_path, capsys):
    names = [("torch.eager", "torch.eager"), ("torch.eager-null", "torch.eager")]
    failure = Failure(
        group="matmul[1x1x1]", implementation="jax.jit-null", kind="error", stage="measure", message="no"
    )
    run = make_run(noisy(names, np.random.default_rng(0)), failures=[failure])
    write_json(tmp_path / "run.json", run_to_json(run))
    for name, times in {"checks": (100, 130), "blocks": (200, 250)}.items():
        (tmp_path / name).mkdir()
        for time in times:
            (tmp_path / name / f"{time}.json").write_text("{}")
            os.utime(tmp_path / name / f"{time}.json", (time, time))
    assert null_control.main(["--show", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "measured in 120 s" in shown
    assert "1 (100%)" in shown
    assert "failed: matmul[1x1x1] jax.jit-null: no" in shown


@pytest.mark.parametrize("arguments", [["one", "two"], ["--show", "absent"], ["new", "--suite", "absent"]])
def test_bad_input_is_one_line(arguments, capsys):
    assert null_control.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("null_control: ") and error.count("\n") == 1


def test_flags_after_two_dashes_go_to_the_run(tmp_path, monkeypatch):
    commands = []

    def run(command):
        commands.append(command)
        return null_control.subprocess.CompletedProcess(command, 130)

    monkeypatch.setattr(null_control.subprocess, "run", run)
    assert null_control.main([str(tmp_path / "new"), "--suite", "smoke", "--", "--blocks", "2"]) == 130
    (command,) = commands
    assert command[1:5] == ["-m", "fuseproof", "run", "smoke"] and command[-2:] == ["--blocks", "2"]
