"""Pieces on disk, and the run file that is made of them."""

from __future__ import annotations

import json

import pytest

from fuseproof import suites
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.measure import checks, planning, results
from fuseproof.measure.planning import Selection
from fuseproof.runs import directory as run_directory
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Settings
from fuseproof.runs.run_file import load

CASE = Case.from_group("layer_norm[3x5-float32-forward]")
OTHER = Case.from_group("matmul[3x5x7-float32-forward]")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Runs go under .fuseproof of the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def planned(monkeypatch):
    monkeypatch.setattr(planning.importlib.util, "find_spec", lambda name: object())
    return planning.make(
        suites.get("smoke"),
        IMPLEMENTATIONS,
        Selection(cases=(CASE.group, OTHER.group), only=("torch.compile", "jax.jit")),
        Settings(blocks=2, max_blocks=3),
        command=["fuseproof", "run"],
    )


@pytest.fixture
def directory(here, planned):
    return RunDirectory.create(planned, None)


def ran(error=1e-7, call_seconds=1e-3, compile_seconds=None):
    return {
        "status": "ran",
        "errors": {"output": error},
        "compile_seconds": compile_seconds,
        "peak_memory_bytes": 128,
        "call_seconds": call_seconds,
    }


def save_check(directory, framework="torch", case=CASE, **rows):
    record = {"group": case.group, "description": {"version": framework}, "rows": rows}
    directory.save_check(
        framework, case, {**record, "rows": {key.replace("_", "."): v for key, v in rows.items()}}
    )


def save_cell(directory, block, legs, case=CASE, failures=None):
    legs = {name: [{"wall": seconds} for seconds in by_leg] for name, by_leg in legs.items()}
    directory.save_cell(block, case, {"group": case.group, "legs": legs, "failures": failures or {}})


def test_a_folder_is_read_as_it_was_created(directory, planned):
    again = RunDirectory.open(directory.path)
    assert again.plan == planned
    assert again.environment == directory.environment
    assert again.fingerprint_fields == directory.fingerprint_fields


def test_folders_of_one_second_have_different_names(here, planned):
    paths = {RunDirectory.create(planned, None).path for _ in range(3)}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {run_directory.DEFAULT_ROOT}


def test_a_folder_that_holds_a_run_is_not_overwritten(here, planned):
    RunDirectory.create(planned, here / "run")
    before = (here / "run" / "plan.json").read_bytes()
    with pytest.raises(UserError, match="holds a run already; finish it with --resume"):
        RunDirectory.create(planned, here / "run")
    assert (here / "run" / "plan.json").read_bytes() == before


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
    assert compiled.flops == CASE.operator.flops("forward")
    assert compiled.bytes == CASE.operator.minimum_bytes("forward", "float32")
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
    (failure,) = results.failures_of_check(directory, CASE)
    assert (failure.implementation, failure.kind, failure.stage) == ("torch.compile", "error", "check")
    assert "output is wrong" in failure.message
    assert results.measurable(directory, OTHER) == (), "what was not checked is not measured"


def test_nan_in_a_check_is_an_error(directory):
    save_check(directory, torch_eager=ran(), torch_compile=ran(None))
    (failure,) = results.failures_of_check(directory, CASE)
    assert "NaN or infinity" in failure.message


def test_a_wrong_baseline_is_no_measure_for_others(directory):
    save_check(directory, torch_eager=ran(0.5), torch_compile=ran(0.6))
    assert {failure.implementation for failure in results.failures_of_check(directory, CASE)} == {
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


def test_the_newest_unfinished_run_is_resumed(here, planned):
    folders = [RunDirectory.create(planned, run_directory.DEFAULT_ROOT / name) for name in ("1", "2", "3")]
    results.write_run_file(folders[1], complete=False)
    results.write_run_file(folders[2], complete=True)
    assert RunDirectory.open_unfinished(None).path == folders[1].path


def test_there_may_be_nothing_to_resume(here, planned):
    with pytest.raises(UserError, match="no unfinished run"):
        RunDirectory.open_unfinished(None)
    done = RunDirectory.create(planned, None)
    results.write_run_file(done, complete=True)
    with pytest.raises(UserError, match="no unfinished run"):
        RunDirectory.open_unfinished(None)
    with pytest.raises(UserError, match="is complete"):
        RunDirectory.open_unfinished(done.path)
    with pytest.raises(UserError, match=r"is not a run directory: it holds no plan\.json"):
        RunDirectory.open_unfinished(here / "absent")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ((), []),
        ((), {}),
        (("plan",), "smoke"),
        (("plan", "cases"), [3]),
        (("plan", "cases"), ["softmax[3-float32-forward]"]),
        (("plan", "rows"), [{"operator": "layer_norm"}]),
        (("plan", "settings"), {"speed": "high"}),
        (("plan", "skipped"), [None]),
        (("environment",), {}),
        (("environment", "cpu"), "a good one"),
    ],
    ids=str,
)
def test_a_damaged_plan_is_one_clear_line(directory, where, value):
    file = directory.path / "plan.json"
    document = json.loads(file.read_text())
    if where:
        place = document
        for key in where[:-1]:
            place = place[key]
        place[where[-1]] = value
    else:
        document = value
    file.write_text(json.dumps(document))
    with pytest.raises(UserError) as caught:
        RunDirectory.open_unfinished(directory.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", '{"plan": {', "\xff", "[" * 100_000], ids=["empty", "cut", "bytes", "deep"]
)
def test_a_plan_that_is_not_json_is_one_clear_line(directory, text):
    (directory.path / "plan.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"plan\.json is damaged") as caught:
        RunDirectory.open_unfinished(directory.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]"], ids=["empty", "a list"])
def test_a_damaged_piece_names_itself(directory, text):
    save_check(directory, torch_eager=ran())
    (piece,) = (directory.path / "checks").iterdir()
    piece.write_text(text)
    with pytest.raises(UserError, match=f"{piece.name} is damaged"):
        results.assemble(directory, complete=False)


def test_another_machine_does_not_go_on(directory):
    file = directory.path / "plan.json"
    document = json.loads(file.read_text())
    document["environment"]["cpu"]["model"] = "another"
    document["environment"]["packages"]["torch"] = "0.1"
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match="cannot be resumed: cpu, packages changed"):
        RunDirectory.open_unfinished(directory.path)


def test_one_process_at_a_time(directory):
    with directory.locked(), pytest.raises(UserError, match="by another process"), directory.locked():
        pytest.fail("two have the lock")
    with directory.locked():
        pass
