"""The folder of a run: created, opened, resumed, locked; what is damaged in it says so."""

from __future__ import annotations

import json
import os

import pytest
from support.run_directories import (
    CASE,
    OTHER,
    hashed,
    make_plan,
    ran,
    save_cell,
    save_check,
    save_profile,
    stamped,
)

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


@pytest.fixture
def path(here, planned):
    """Of a run that was started and is left alone."""
    directory = RunDirectory.create(planned, here / "run")
    save_check(directory, torch_eager=ran())
    save_cell(directory, 0, {"torch.eager": [[1.0], [1.0]]})
    return directory.path


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
    for name, complete in (("1", False), ("2", False), ("3", True)):
        directory = RunDirectory.create(planned, run_directory.DEFAULT_ROOT / name)
        results.write_run_file(directory, complete=complete)
    del directory
    assert RunDirectory.open_unfinished(None).path == run_directory.DEFAULT_ROOT / "2"


def test_there_may_be_nothing_to_resume(here, planned):
    with pytest.raises(UserError, match="no unfinished run"):
        RunDirectory.open_unfinished(None)
    done = RunDirectory.create(planned, None)
    results.write_run_file(done, complete=True)
    path = done.path
    del done
    with pytest.raises(UserError, match="no unfinished run"):
        RunDirectory.open_unfinished(None)
    with pytest.raises(UserError, match="is complete"):
        RunDirectory.open_unfinished(path)
    with pytest.raises(UserError, match=r"is not a run directory: it holds no plan\.json"):
        RunDirectory.open_unfinished(here / "absent")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ((), []),
        ((), {}),
        (("plan",), "smoke"),
        (("plan", "cases"), [3]),
        (("plan", "cases"), ["convolution[3-float32-forward]"]),
        (("plan", "rows"), [{"operator": "layer_norm"}]),
        (("plan", "settings"), {"speed": "high"}),
        (("plan", "skipped"), [None]),
        (("environment",), {}),
        (("environment", "cpu"), "a good one"),
    ],
    ids=str,
)
@pytest.mark.parametrize("with_hash", [True, False], ids=["hashed anew", "as it is"])
def test_a_damaged_plan_is_one_clear_line(path, where, value, with_hash):
    file = path / "plan.json"
    document = json.loads(file.read_text())
    if where:
        place = document
        for key in where[:-1]:
            place = place[key]
        place[where[-1]] = value
    else:
        document = value
    file.write_text(json.dumps(hashed(document) if with_hash and document else document))
    with pytest.raises(UserError) as caught:
        RunDirectory.open_unfinished(path)
    assert "\n" not in str(caught.value)
    assert ("its hash differs" in str(caught.value)) is (not with_hash and bool(where))


@pytest.mark.parametrize(
    "text", ["", '{"plan": {', "\xff", "[" * 100_000], ids=["empty", "cut", "bytes", "deep"]
)
def test_a_plan_that_is_not_json_is_one_clear_line(path, text):
    (path / "plan.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"plan\.json is damaged") as caught:
        RunDirectory.open_unfinished(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]"], ids=["empty", "a list"])
def test_a_damaged_piece_names_itself(path, text):
    (piece,) = (path / "checks").iterdir()
    piece.write_text(text)
    for read in (
        RunDirectory.open_unfinished,
        lambda path: results.assemble(RunDirectory.open(path), complete=False),
    ):
        with pytest.raises(
            UserError, match=rf"{piece.name} is damaged \(.*\); delete it and it is made again"
        ):
            read(path)


@pytest.mark.parametrize(
    ("piece", "key", "value"),
    [
        ("checks/torch-000.json", "rows", []),
        ("checks/torch-000.json", "description", None),
        ("checks/torch-000.json", "rows", {"torch.eager": {"status": "ran"}}),
        ("checks/torch-000.json", "rows", {"torch.eager": {**ran(), "status": "flew"}}),
        ("checks/torch-000.json", "rows", {"torch.eager": {**ran(), "errors": {}}}),
        ("checks/torch-000.json", "rows", {"torch.eager": {**ran(), "errors": {"output": "small"}}}),
        ("checks/torch-000.json", "rows", {"torch.eager": {**ran(), "call_seconds": 0}}),
        ("checks/torch-000.json", "rows", {"torch.eager": {**ran(), "peak_memory_bytes": 10**400}}),
        ("checks/torch-000.json", "rows", {"torch.eager": {"status": "error", "message": 3}}),
        ("blocks/000-000.json", "legs", {"torch.eager": [{"wall": []}]}),
        ("blocks/000-000.json", "legs", {"torch.eager": [{"wall": [-1.0]}]}),
        ("blocks/000-000.json", "legs", {"torch.eager": [[1.0]]}),
        ("blocks/000-000.json", "failures", ["torch.eager"]),
        ("blocks/000-000.json", "disqualified", ["torch.eager"]),
        ("profiles/torch-000.json", "rows", {"torch.eager": {"kernels": -1, "notes": []}}),
        ("profiles/torch-000.json", "rows", {"torch.eager": {"kernels": 1}}),
    ],
    ids=str,
)
def test_a_piece_of_the_wrong_types_is_one_line_even_with_the_right_hash(here, planned, piece, key, value):
    directory = RunDirectory.create(planned, here / "run")
    save_check(directory, torch_eager=ran())
    save_cell(directory, 0, {"torch.eager": [[1.0], [1.0]]})
    save_profile(directory, {"torch.eager": 1})
    file = directory.path / piece
    document = json.loads(file.read_text())
    assert document.get(key) != value
    file.write_text(json.dumps(stamped({**document, key: value})))
    path = directory.path
    del directory
    with pytest.raises(UserError, match=r"is damaged \(.*\); delete it and it is made again") as caught:
        RunDirectory.open_unfinished(path)
    assert "\n" not in str(caught.value)


def test_a_number_that_was_altered_is_not_read(path):
    file = path / "blocks" / "000-000.json"
    file.write_text(file.read_text().replace("1.0", "0.5"))
    with pytest.raises(UserError, match="its content is not what was written"):
        RunDirectory.open_unfinished(path)


def test_pieces_of_another_run_case_block_or_kind_are_not_used(here, planned, path):
    other = RunDirectory.create(planned, here / "other")
    save_check(other, case=OTHER, torch_eager=ran())
    (here / "other" / "checks" / "torch-001.json").rename(path / "checks" / "torch-001.json")
    check, cell = path / "checks" / "torch-000.json", path / "blocks" / "000-000.json"
    (path / "blocks" / "000-001.json").write_bytes(cell.read_bytes())
    (path / "blocks" / "001-000.json").write_bytes(cell.read_bytes())
    (path / "checks" / "jax-000.json").write_bytes(check.read_bytes())
    (path / "profiles").mkdir()
    (path / "profiles" / "torch-000.json").write_bytes(check.read_bytes())
    directory = RunDirectory.open_unfinished(path)
    assert directory.refused == {
        "checks/jax-000.json": "its framework is torch, not jax",
        "profiles/torch-000.json": "its kind is check, not profile",
        "blocks/001-000.json": "its block is 0, not 1",
        "checks/torch-001.json": "it belongs to another plan",
        "blocks/000-001.json": f"its case is {CASE.group}, not {OTHER.group}",
    }
    assert directory.check("torch", CASE) is not None and directory.cell(0, CASE) is not None
    assert directory.check("torch", OTHER) is None and directory.cell(1, CASE) is None
    assert directory.disturbed() == [], "they lay there before"


def test_another_plan_is_not_resumed_with_these_pieces(here, planned, path):
    RunDirectory.create(planned, here / "other")
    (here / "other" / "plan.json").replace(path / "plan.json")
    directory = RunDirectory.open_unfinished(path)
    assert set(directory.refused.values()) == {"it belongs to another plan"}
    assert len(directory.missing()) == 12, "everything is to be measured"


def test_another_machine_does_not_go_on(path):
    file = path / "plan.json"
    document = json.loads(file.read_text())
    document["environment"]["cpu"]["model"] = "another"
    document["environment"]["packages"]["torch"] = "0.1"
    file.write_text(json.dumps(hashed(document)))
    with pytest.raises(UserError, match="cannot be resumed: cpu, packages changed"):
        RunDirectory.open_unfinished(path)


def test_another_way_of_measuring_does_not_go_on(path, monkeypatch):
    before = RunDirectory.open(path).fingerprint_fields
    monkeypatch.setattr("fuseproof.runs.environment.METHOD", 99)
    with pytest.raises(UserError, match="cannot be resumed: method changed"):
        RunDirectory.open_unfinished(path)
    assert RunDirectory.open(path).fingerprint_fields == before, "it was measured as it was measured"


def test_a_run_of_before_there_were_hashes_is_read_and_not_resumed(path):
    file = path / "plan.json"
    document = json.loads(file.read_text())
    old = {key: document[key] for key in ("plan", "environment", "datetime", "commit_info")}
    file.write_text(json.dumps(old))
    for piece in [*(path / "checks").iterdir(), *(path / "blocks").iterdir()]:
        content = json.loads(piece.read_text())
        for key in ("schema", "plan", "sha256", "kind", "framework", "block"):
            content.pop(key, None)
        piece.write_text(json.dumps(content))
    (benchmark,) = results.assemble(RunDirectory.open(path), complete=True).benchmarks
    assert benchmark.seconds.tolist() == [1.0, 1.0]
    with pytest.raises(UserError, match=r"started by an earlier version of fuseproof, .* start a new run"):
        RunDirectory.open_unfinished(path)


def test_a_run_of_a_newer_version_says_so(path):
    document = json.loads((path / "plan.json").read_text())
    (path / "plan.json").write_text(json.dumps({**document, "schema": 3}))
    with pytest.raises(UserError, match="has schema 3, of a newer version of fuseproof"):
        RunDirectory.open(path)


def test_one_process_at_a_time_from_the_start_to_the_end(directory):
    another = RunDirectory.open(directory.path)
    with pytest.raises(UserError, match="by another process"), another.locked():
        pytest.fail("two have the lock")
    with directory.locked():
        for refused in (RunDirectory.open_unfinished, lambda path: another._lock.acquire()):
            with pytest.raises(UserError, match="by another process"):
                refused(directory.path)
    with another.locked():
        pass


def test_the_lock_is_not_a_way_to_another_file(here, planned):
    victim = here / "victim"
    victim.write_text("precious")
    (here / "run").mkdir()
    (here / "run" / "lock").symlink_to(victim)
    with pytest.raises(UserError, match="lock is a symbolic link"):
        RunDirectory.create(planned, here / "run")
    (here / "run" / "lock").unlink()
    os.link(victim, here / "run" / "lock")
    RunDirectory.create(planned, here / "run")
    assert victim.read_text() == "precious", "it is not truncated"


def test_a_file_is_no_folder_for_a_run(here, planned):
    (here / "file").write_text("mine")
    with pytest.raises(UserError, match="it is a file; choose a folder"):
        RunDirectory.create(planned, here / "file")
    assert (here / "file").read_text() == "mine"
