"""A comparison: speedups of what is right, a reason for all else, and what vouches for results."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from support import run_directories
from support.run_directories import CASE, ran, save_cell, save_check
from support.runs import make_benchmark, make_comparisons, make_run

import fuseproof
from fuseproof.cli import main
from fuseproof.errors import UserError
from fuseproof.measure import results
from fuseproof.runs import merging, statistics
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.records import Failure

GROUP = "layer_norm[64x64-float32-forward]"
EAGER, COMPILED, FAST = (
    make_benchmark(name, seconds=seconds, process_noise=0.01, error_relative_rms=2e-8, error_limit=1e-6)
    for name, seconds in (("torch.eager", 2e-3), ("torch.compile", 1e-3), ("torch.fast", 0.5e-3))
)


def failure(implementation, kind="error", stage="check", message="it is wrong"):
    return Failure(group=GROUP, implementation=implementation, kind=kind, stage=stage, message=message)


def compare(*benchmarks, failures=(), **more):
    return fuseproof.Comparison(make_run(benchmarks, failures=failures, **more))


def test_a_speedup_is_that_of_the_statistics_with_its_interval():
    (found,) = compare(EAGER, COMPILED).speedups
    estimate = statistics.speedup(EAGER, COMPILED)
    median = statistics.median_with_interval(COMPILED)
    assert (found.speedup, (found.low, found.high), found.blocks) == (estimate.value, estimate.ci95, 5)
    assert (found.seconds, (found.seconds_low, found.seconds_high)) == (median.value, median.ci95)
    assert (found.case, found.implementation, found.baseline) == (GROUP, "torch.compile", "torch.eager")
    parts = (found.workload, found.shape, found.dtype, found.pass_, found.cache, found.metric)
    assert parts == ("layer_norm", "64x64", "float32", "forward", "warm", "wall")
    assert str(found).startswith("torch.compile is 2.0") and "[" in str(found)


def test_one_block_has_no_interval():
    one = [make_benchmark(name, blocks=1) for name in ("torch.eager", "torch.compile")]
    (found,) = compare(*one).speedups
    assert (found.low, found.high, found.seconds_low, found.seconds_high) == (None,) * 4
    assert "no interval" in str(found)


def test_what_is_wrong_has_no_speedup_and_a_reason():
    comparison = compare(EAGER, COMPILED, FAST, failures=[failure("torch.fast")])
    assert [each.implementation for each in comparison] == ["torch.compile"]
    (wrong,) = (each for each in comparison.check if not each.passed)
    assert (wrong.implementation, wrong.status, wrong.message) == ("torch.fast", "failed", "it is wrong")
    assert (wrong.error, wrong.vouched_by) == (None, "")
    with pytest.raises(UserError, match=r"^torch.fast has no speedup: it is wrong$"):
        comparison["torch.fast"]
    assert "torch.fast" not in comparison


def test_what_crashed_while_it_was_measured_keeps_what_it_has():
    comparison = compare(EAGER, COMPILED, failures=[failure("torch.compile", stage="measure")])
    assert "torch.compile" in comparison
    assert [(each.status, each.message) for each in comparison.check] == [
        ("passed", ""),
        ("passed", "it is wrong"),
    ]


def test_what_was_disqualified_while_it_was_measured_failed():
    comparison = compare(EAGER, failures=[failure("torch.compile", stage="measure")])
    assert {each.implementation: each.status for each in comparison.check} == {
        "torch.eager": "passed",
        "torch.compile": "failed",
    }


def test_skipped_is_not_failed():
    comparison = compare(EAGER, failures=[failure("triton", kind="skipped", stage="plan")])
    assert [each.status for each in comparison.check] == ["passed", "skipped"]
    assert comparison.failures == (failure("triton", kind="skipped", stage="plan"),)


def test_twins_are_in_the_samples_and_nowhere_else():
    twin = make_benchmark("torch.compile-null", baseline="torch.compile")
    comparison = compare(EAGER, COMPILED, twin, failures=[failure("triton-null", kind="skipped")])
    names = {each.implementation for each in (*comparison, *comparison.check)}
    assert names == {"torch.eager", "torch.compile"}
    assert {row["implementation"] for row in comparison.to_dicts()} == names
    assert "torch.compile-null" in {row["implementation"] for row in comparison.samples.to_dicts()}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torch.compile", r"^torch.compile has 2 speedups: in attention\[.*\] \(wall\), matmul\["),
        ("torch.eager", "it is a baseline, with which others are compared"),
        ("torch.complie", "^unknown implementation 'torch.complie'; there are torch.eager, torch.compile$"),
        (0, "unknown implementation 0"),
    ],
)
def test_a_name_that_is_not_one_speedup_is_refused_in_one_line(name, says):
    comparison = compare(*make_comparisons([2.0, 3.0]))
    with pytest.raises(UserError, match=says) as raised:
        comparison[name]
    assert "\n" not in str(raised.value)


def test_evidence_says_how_many_results_were_compared():
    run = make_run([EAGER, COMPILED])
    for evidence, number in [
        ({GROUP: {"torch.compile": {"0": {"outputs": 3}, "1": {"outputs": 4}}}}, 7),
        ({GROUP: {"torch.compile": {"0": {"outputs": "many"}, "1": 5, "2": {"outputs": -4}}}}, 0),
        ({GROUP: {"torch.compile": None}}, 0),
        ({GROUP: [1]}, 0),
    ]:
        changed = type(run)(**{**vars(run), "evidence": evidence})
        assert [each.compared for each in fuseproof.Comparison(changed).check] == [0, number]


def test_a_run_directory_says_what_the_results_agree_with(tmp_path, monkeypatch):
    directory = RunDirectory.create(run_directories.make_plan(monkeypatch), tmp_path / "run")
    save_check(directory, torch_eager=ran(1e-7), torch_compile=ran(2e-7))
    for block in range(2):
        save_cell(directory, block, {"torch.eager": [[2e-3]] * 4, "torch.compile": [[1e-3]] * 4})
    results.write_run_file(directory, complete=False)
    comparison = fuseproof.load(tmp_path / "run")
    assert comparison.directory == tmp_path / "run" and not comparison.complete
    passed = {each.implementation: each for each in comparison.check if each.passed}
    assert {each.vouched_by for each in passed.values()} == {"the workload's reference in float64"}
    assert passed["torch.compile"].error == 2e-7 < passed["torch.compile"].limit
    assert comparison["torch.compile"].speedup == pytest.approx(2)
    # The run file alone has the same numbers, and its folder is found; elsewhere nothing says more.
    assert fuseproof.load(tmp_path / "run" / "run.json").directory == tmp_path / "run"
    (tmp_path / "run.json").write_bytes((tmp_path / "run" / "run.json").read_bytes())
    alone = fuseproof.load(tmp_path / "run.json")
    assert alone.directory is None and len(alone) == 1
    assert {each.vouched_by for each in alone.check if each.passed} == {"the workload's reference"}
    (tmp_path / "run" / "plan.json").write_text("{")
    assert len(fuseproof.load(tmp_path / "run").check) == 2 and CASE.group == comparison.check[0].case


def stock(path, **seconds):
    entries = [
        {"group": None, "name": name, "fullname": f"test.py::{name}", "stats": {"data": data, "median": 1.0}}
        for name, data in seconds.items()
    ]
    path.write_text(json.dumps({"machine_info": {}, "benchmarks": entries}))
    return path


def test_a_stock_file_has_times_that_nobody_checked(tmp_path):
    comparison = fuseproof.load(stock(tmp_path / "one.json", test_a=[1e-3, 3e-3, 2e-3]))
    assert len(comparison) == 0 and comparison.failures == ()
    (check,) = comparison.check
    assert (check.status, check.passed, check.vouched_by) == ("unchecked", False, "")
    (row,) = comparison.to_dicts()
    assert (row["implementation"], row["speedup"]) == ("test.py::test_a", None)
    assert row["seconds"] == pytest.approx(2e-3)


@pytest.mark.parametrize("as_glob", [False, True], ids=["paths", "glob"])
def test_several_files_are_blocks_of_one_run(tmp_path, as_glob):
    paths = [stock(tmp_path / f"{n}.json", test_a=[n * 1e-3]) for n in (1, 2, 3)]
    comparison = fuseproof.load(str(tmp_path / "*.json") if as_glob else iter(paths))
    (row,) = comparison.to_dicts()
    assert (row["blocks"], row["rounds"]) == (3, 3)
    assert row["seconds"] == pytest.approx(math.exp(np.log([1e-3, 2e-3, 3e-3]).mean()))


def test_what_one_of_several_runs_lacks_is_not_forgotten(tmp_path, write_run):
    paths = [
        write_run(tmp_path / "a.json", {"torch.eager": [2.0, 2.1], "torch.compile": [1.0, 1.1]}),
        write_run(
            tmp_path / "b.json", {"torch.eager": [2.2, 2.3], "torch.compile": [1.2, 1.3]}, complete=False
        ),
    ]
    comparison = fuseproof.load(paths)
    assert not comparison.complete
    assert comparison["torch.compile"].blocks == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere", "no such run: nowhere"),
        ("*.nothing", "no file matches"),
        ([], "no run to load"),
        (["nowhere"], "no such run: nowhere"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(given, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says) as raised:
        fuseproof.load(given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.json", "r.other"])
def test_the_report_is_that_of_the_command(tmp_path, write_run, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = write_run(tmp_path / "run.json", {"torch.eager": [2.0, 2.1], "torch.compile": [1.0, 1.1]})
    written = fuseproof.load(run).report(tmp_path / name)
    assert written == tmp_path / name
    text = written.read_text()
    assert main(["report", str(run), "-o", name]) == 0
    assert written.read_text() == text and "torch.compile" in text
    with pytest.raises(UserError, match="cannot write"):
        fuseproof.load(run).report(tmp_path / "nowhere" / name)


def test_the_package_names_its_api_and_loads_none_of_it():
    code = """
import sys, fuseproof
assert {"Comparison", "load", "Implementation"} <= set(dir(fuseproof)) & set(fuseproof.__all__)
assert not {"numpy", "scipy", "fuseproof.api", "IPython"} & set(sys.modules), sorted(sys.modules)
fuseproof.load, fuseproof.Comparison
assert not {"torch", "jax", "tensorflow", "pandas", "polars", "pyarrow", "IPython"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_merged_run_keeps_every_note():
    one, other = (make_run([EAGER], source=source) for source in ("a", "b"))
    noted = type(other)(**{**vars(other), "notes": ("a profile failed",)})
    assert "a profile failed" in merging.merge_as_blocks([one, noted], source="both").notes
