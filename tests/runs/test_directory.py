"""The folder of a run: created, opened, resumed, locked; what is damaged in it says so."""

from __future__ import annotations

import json

import pytest
from support.run_directories import make_plan, ran, save_check

from fuseproof.errors import UserError
from fuseproof.measure import results
from fuseproof.runs import directory as run_directory
from fuseproof.runs.directory import RunDirectory


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Runs go under .fuseproof of the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def planned(monkeypatch):
    return make_plan(monkeypatch)


@pytest.fixture
def directory(here, planned):
    return RunDirectory.create(planned, None)


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
