"""The run file made of the pieces on disk: what passed its check, what failed."""

from __future__ import annotations

import pytest
from support.run_directories import CASE, OTHER, make_plan, ran, save_cell, save_check

from fuseproof.measure import checks, results
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.run_file import load


@pytest.fixture
def directory(tmp_path, monkeypatch):
    return RunDirectory.create(make_plan(monkeypatch), tmp_path / "run")


def test_samples_keep_their_block_leg_and_value(directory):
    save_check(directory, torch_eager=ran(), torch_compile=ran(compile_seconds=4.5))
    save_cell(directory, 0, {"torch.eager": [[1.0, 2.0], [3.0]], "torch.compile": [[4.0], [5.0, 6.0]]})
    save_cell(directory, 2, {"torch.eager": [[7.0], [8.0]], "torch.compile": [[9.0], [10.0]]})
    results.write_run_file(directory, complete=True)
    run = load(directory.path)
    eager, compiled = run.benchmarks
    assert (eager.implementation, compiled.implementation) == ("torch.eager", "torch.compile")
    assert eager.seconds.tolist() == [1, 2, 3, 7, 8]
    assert eager.block.tolist() == [0, 0, 0, 2, 2]
    assert eager.leg.tolist() == [0, 0, 1, 0, 1]
    assert compiled.compile_seconds == 4.5
    assert compiled.peak_memory_bytes == 128
    assert compiled.flops == CASE.workload.flops("forward")
    assert compiled.bytes == CASE.workload.minimum_bytes("forward", "float32")
    assert run.baseline_of(compiled) is eager
    assert run.settings["blocks"] == 2
    assert run.settings["command"] == ["fuseproof", "run"]


def test_both_metrics_have_their_own_benchmark(directory):
    save_check(directory, torch_eager=ran())
    leg = {"wall": [2.0], "device": [1.0]}
    directory.save_cell(0, CASE, {"group": CASE.group, "legs": {"torch.eager": [leg, leg]}, "failures": {}})
    found = {b.metric: b.seconds.tolist() for b in results.assemble(directory, complete=False).benchmarks}
    assert found == {"wall": [2.0, 2.0], "device": [1.0, 1.0]}


def test_an_implementation_is_measured_only_if_it_was_right(directory):
    limit = 2e-7 + checks.rounding("float32", 5)
    save_check(directory, torch_eager=ran(1e-7), torch_compile=ran(1.01 * limit))
    save_check(directory, "jax", **{"jax_eager": ran(1e-7), "jax_jit": ran(0.99 * limit)})
    assert [row.name for row in results.measurable(directory, CASE)] == [
        "torch.eager",
        "jax.eager",
        "jax.jit",
    ]
    (failure,) = results.assemble(directory, complete=False).failures
    assert (failure.implementation, failure.kind, failure.stage) == ("torch.compile", "error", "check")
    assert "output is wrong" in failure.message
    assert results.measurable(directory, OTHER) == (), "what was not checked is not measured"


def test_nan_in_a_check_is_an_error(directory):
    save_check(directory, torch_eager=ran(), torch_compile=ran(None))
    (failure,) = results.assemble(directory, complete=False).failures
    assert "NaN or infinity" in failure.message


def test_a_wrong_baseline_is_no_measure_for_others(directory):
    save_check(directory, torch_eager=ran(0.5), torch_compile=ran(0.6))
    assert {failure.implementation for failure in results.assemble(directory, complete=False).failures} == {
        "torch.eager",
        "torch.compile",
    }


def test_every_trouble_is_in_the_run(directory):
    save_check(
        directory,
        torch_eager=ran(),
        torch_compile={"status": "skipped", "message": "no compiler"},
    )
    save_check(directory, "jax", jax_eager=ran(), jax_jit={"status": "error", "message": "the process died"})
    save_cell(directory, 0, {"torch.eager": [[1.0], [1.0]]})
    save_cell(directory, 1, {"torch.eager": []}, failures={"torch.eager": "gave no answer"})
    found = {
        (f.implementation, f.kind, f.stage, f.message)
        for f in results.assemble(directory, complete=False).failures
    }
    assert found == {
        ("torch.compile", "skipped", "check", "no compiler"),
        ("jax.jit", "error", "check", "the process died"),
        ("torch.eager", "error", "measure", "gave no answer"),
    }


def test_descriptions_come_from_any_case(directory):
    save_check(directory, case=OTHER, torch_eager=ran())
    assert results.assemble(directory, complete=False).environment["frameworks"] == {
        "torch": {"version": "torch"}
    }


def test_a_disqualified_implementation_has_no_number_in_any_block(directory):
    save_check(directory, torch_eager=ran(), torch_compile=ran())
    legs = {"torch.eager": [[1.0], [1.0]], "torch.compile": [[0.1], [0.1]]}
    save_cell(directory, 0, legs)
    caught = {"torch.compile": "its output is another after 50 calls"}
    save_cell(directory, 1, legs, failures=caught, disqualified=["torch.compile"])
    run = results.assemble(directory, complete=False)
    assert {benchmark.implementation for benchmark in run.benchmarks} == {"torch.eager"}
    (failure,) = run.failures
    assert (failure.implementation, failure.kind, failure.stage, failure.message) == (
        "torch.compile",
        "error",
        "measure",
        caught["torch.compile"],
    )


def test_a_failure_in_one_block_keeps_what_was_measured_before(directory):
    save_check(directory, torch_eager=ran(), torch_compile=ran())
    save_cell(directory, 0, {"torch.eager": [[1.0], [1.0]], "torch.compile": [[2.0], [2.0]]})
    save_cell(directory, 1, {"torch.eager": [[1.0], [1.0]]}, failures={"torch.compile": "crashed"})
    found = {b.implementation: set(b.block) for b in results.assemble(directory, complete=False).benchmarks}
    assert found == {"torch.eager": {0, 1}, "torch.compile": {0}}


def test_evidence_and_hashes_are_in_the_run_file(directory):
    save_check(directory, torch_eager=ran())
    looked_at = {"outputs": 3, "probe_seconds": [1e-3]}
    save_cell(directory, 1, {"torch.eager": [[1.0], [1.0]]}, evidence={"torch.eager": looked_at})
    results.write_run_file(directory, complete=False)
    run = load(directory.path)
    assert run.evidence == {CASE.group: {"torch.eager": {"1": looked_at}}}
    assert run.environment["plan"] == directory.hash
    assert set(run.environment["sources"]) == {"fuseproof"}
