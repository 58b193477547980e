"""What happens to a run when processes, files and disks fail: nothing is lost, mixed or made up.

The measuring is made up (`support.fake_measuring`); the runner, its pieces, locks and run files are real.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import os
import random
import shutil
import time
from collections import Counter

import pytest
from support import fake_measuring
from support.run_directories import CASE, OTHER, hashed, make_plan, stamped

from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.measure import results
from fuseproof.reports import report
from fuseproof.runs import environment, run_file
from fuseproof.runs.directory import RunDirectory


@pytest.fixture
def plan(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return make_plan(monkeypatch)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def numbers(path):
    """All samples of a run by name."""
    run = run_file.load(path)
    return {benchmark.name: benchmark.seconds.tolist() for benchmark in run.benchmarks}


def with_kernel(plan, folder):
    """The plan with an implementation whose source lies in `folder`."""
    (folder / "mine.py").write_text("import tiles")
    (folder / "tiles.py").write_text("SIZE = 64")
    mine = Implementation("layer_norm", "mine", framework="torch", target=f"{folder / 'mine.py'}:f")
    return dataclasses.replace(plan, implementations=(*plan.implementations, mine))


# --- processes ---


def test_a_run_killed_fifty_times_has_the_numbers_of_one_that_was_not(plan, tmp_path):
    whole = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, blocks=8, max_blocks=8))
    fake_measuring.run(RunDirectory.create(whole, tmp_path / "whole"))
    expected = numbers(tmp_path / "whole")
    assert len(expected) == 8 and all(len(seconds) == 16 for seconds in expected.values())
    moments, killed_at = random.Random(0), []
    while len(killed_at) < 50:
        path, ended = tmp_path / f"killed-{len(killed_at)}", None
        while ended != 0:
            process = fake_measuring.start(whole, path, pause=0.002)
            # Some pieces further on, anywhere within the next: before the plan, while it writes, at the end.
            until = len(files(path)) + moments.randrange(8)
            while len(files(path)) < until and process.exitcode is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.01))
            process.kill()
            process.join()
            ended = process.exitcode
            assert ended in (0, -9), "it is resumed without a complaint"
            if ended:
                killed_at.append(len(files(path)))
        assert numbers(path) == expected
        assert run_file.load(path).complete
        assert RunDirectory.open(path).missing() == []
        assert len(files(path)) == 2 + 2 * 4 + 8 * 2
    assert len(set(killed_at)) > 12, "at many moments"


def files(path):
    return [*path.rglob("*.json")] if path.is_dir() else []


def test_of_two_that_start_at_one_instant_one_wins_a_hundred_times(plan, tmp_path):
    other = dataclasses.replace(plan, suite="other", cases=plan.cases[:1])
    paths = [tmp_path / str(trial) for trial in range(100)]
    found = fake_measuring.race((plan, other), paths)
    winners = []
    for path, messages in zip(paths, found, strict=True):
        (winner,) = [suite for suite, message in messages.items() if message is None]
        (message,) = [message for message in messages.values() if message is not None]
        assert "is being measured by another process" in message or "holds a run already" in message
        assert "\n" not in message
        assert RunDirectory.open(path).plan.suite == winner
        assert sorted(each.name for each in path.iterdir()) == ["lock", "plan.json"]
        winners.append(winner)
    assert len(winners) == 100


# --- what is edited, swapped or deleted ---


@pytest.mark.parametrize("file", ["mine.py", "tiles.py"])
@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "edited"])
def test_a_kernel_edited_between_stop_and_resume_is_named(plan, path, tmp_path, file, deleted):
    directory = RunDirectory.create(with_kernel(plan, tmp_path), path)
    fake_measuring.check(directory)
    del directory
    if deleted:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text("SIZE = 128")
    with pytest.raises(
        UserError, match=rf"{file} of layer_norm mine was edited or deleted .* start a new run"
    ):
        RunDirectory.open_unfinished(path)


def test_a_kernel_edited_while_it_is_measured_ends_the_run_without_the_piece(plan, path, tmp_path):
    directory = RunDirectory.create(with_kernel(plan, tmp_path), path)

    def edit_in_second_block(directory, pause):
        save = RunDirectory.save_cell

        def saved(self, block, case, record):
            if block == 1:
                (tmp_path / "tiles.py").write_text("SIZE = 128")
            save(self, block, case, record)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunDirectory, "save_cell", saved)
            fake_measuring.measure(directory)

    with pytest.raises(UserError, match=r"tiles\.py of layer_norm mine was edited"):
        fake_measuring.run(directory, measure=edit_in_second_block)
    run = run_file.load(path)
    assert not run.complete
    assert {int(block) for benchmark in run.benchmarks for block in benchmark.block} == {0}
    assert not [*(path / "blocks").glob("001-*")], "no piece of which nobody knows the version"
    with pytest.raises(UserError, match=r"tiles\.py"):
        RunDirectory.open_unfinished(path)


def test_pieces_of_another_plan_with_as_many_cases_are_measured_again(plan, path, tmp_path):
    swapped = dataclasses.replace(plan, cases=(OTHER, CASE))
    for each, where in ((plan, path), (swapped, tmp_path / "other")):
        directory = RunDirectory.create(each, where)
        fake_measuring.check(directory)
        fake_measuring.measure(directory)
        del directory
    (tmp_path / "other" / "plan.json").replace(path / "plan.json")
    directory = RunDirectory.open_unfinished(path)
    assert directory.plan.cases == (OTHER, CASE)
    assert len(directory.refused) == 8
    assert len(directory.missing()) == 12
    fake_measuring.run(directory)
    run = run_file.load(path)
    assert run.complete
    for benchmark in run.benchmarks:
        number = directory.plan.cases.index(next(c for c in (CASE, OTHER) if c.group == benchmark.group))
        at = {fake_measuring.seconds(block, number, benchmark.implementation) for block in (0, 1)}
        assert set(benchmark.seconds) == at


def _delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _forge(path):
    document = json.loads(path.read_text())
    for legs in document["legs"].values():
        legs[0]["wall"][0] /= 1000
    path.write_text(json.dumps(stamped(document)))


def _add(path):
    document = json.loads(path.read_text())
    (path.parent / "001-001.json").write_text(
        json.dumps(stamped({**document, "block": 1, "group": OTHER.group}))
    )


def _link_away(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    for each in path.iterdir():
        each.unlink()


def _rewrite_in_place(path):
    """With the times and the size that it had."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"torch.eager"', b'"torch.EAGER"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("harm", "what", "words"),
    [
        (_delete, "checks", "checks/torch-000.json was deleted"),
        (_delete, "blocks", "blocks/000-000.json was deleted"),
        (_delete, "blocks/000-000.json", "blocks/000-000.json was deleted"),
        (_delete, "plan.json", "plan.json was deleted"),
        (_delete, "lock", "lock was deleted"),
        (_delete, ".", "plan.json was deleted"),
        (_forge, "blocks/000-000.json", "blocks/000-000.json was changed"),
        (_rewrite_in_place, "checks/torch-000.json", "checks/torch-000.json was changed"),
        (_add, "blocks/000-000.json", "blocks/001-001.json was added"),
        (_link_away, "blocks", "blocks/000-000.json was deleted"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_done_to_the_folder_of_a_run_costs_the_run_nothing(plan, path, harm, what, words):
    seen = []

    def harmed(directory, pause):
        directory.save_cell(0, CASE, fake_measuring.cell(plan, 0, CASE))
        before = (
            (path / "plan.json").read_bytes(),
            {each.name: each.read_bytes() for each in path.glob("*/*.json")},
        )
        assert directory.disturbed() == []
        time.sleep(0.01)  # a change within one tick of the file system's clock is found by `restore` alone
        harm(path / what if what != "." else path)
        seen.extend(directory.disturbed())
        directory.restore()
        assert directory.disturbed() == []
        assert {each.name: each.read_bytes() for each in path.glob("*/*.json")} == before[1]
        assert (path / "plan.json").read_bytes() == before[0]
        fake_measuring.measure(directory)

    directory = RunDirectory.create(plan, path)
    fake_measuring.run(directory, measure=harmed)
    assert words in seen
    run = run_file.load(path)
    assert run.complete and len(run.benchmarks) == 8
    (note,) = run.notes
    assert note.startswith("files of the run were not left alone while it was measured: ")
    assert RunDirectory.open(path).missing() == []
    assert all(benchmark.seconds.min() >= 1e-3 for benchmark in run.benchmarks)


def test_what_is_deleted_unseen_is_mended_at_the_end(plan, path):
    def harmed(directory, pause):
        fake_measuring.measure(directory)
        shutil.rmtree(path)

    fake_measuring.run(RunDirectory.create(plan, path), measure=harmed)
    assert run_file.load(path).complete
    assert RunDirectory.open(path).missing() == []


def test_touching_linking_and_copying_files_is_no_disturbance(plan, path, tmp_path):
    directory = RunDirectory.create(plan, path)
    fake_measuring.check(directory)
    time.sleep(0.01)
    for file in (path / "checks").iterdir():
        os.utime(file)
        os.link(file, tmp_path / file.name)
        shutil.copy(file, tmp_path / f"copy-{file.name}")
        (tmp_path / f"copy-{file.name}").replace(file)
    assert directory.disturbed() == []
    directory.restore()
    assert directory.mended == ()


def test_who_takes_a_deleted_folder_is_not_overwritten(plan, path):
    first = RunDirectory.create(plan, path)
    shutil.rmtree(path)
    second = RunDirectory.create(dataclasses.replace(plan, suite="second"), path)
    assert "lock was deleted" in first.disturbed()
    with pytest.raises(UserError, match="is being measured by another process"):
        first.restore()
    assert RunDirectory.open(path).plan.suite == second.plan.suite == "second"


@pytest.mark.parametrize("lost", ["check", "cell", "profile"])
def test_a_run_that_lacks_a_piece_is_not_complete(plan, path, lost):
    directory = RunDirectory.create(plan, path)
    directory.save_cell(2, CASE, fake_measuring.cell(plan, 2, CASE))  # begun beyond the least number
    assert "blocks/002-001.json" in directory.missing()
    directory.save_cell(2, OTHER, fake_measuring.cell(plan, 2, OTHER))
    save = getattr(RunDirectory, f"save_{lost}")

    def forgetful(self, of, case, record):
        if case != OTHER:
            save(self, of, case, record)

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(
            UserError, match=r"run is not complete, it lacks .*-001\.json.*; finish it with --resume"
        ),
    ):
        patch.setattr(RunDirectory, f"save_{lost}", forgetful)
        fake_measuring.run(directory)
    assert not run_file.load(path).complete
    del directory
    fake_measuring.run(RunDirectory.open_unfinished(path))
    assert run_file.load(path).complete


# --- a full disk ---


def test_a_full_disk_keeps_what_was_measured(plan, path, monkeypatch):
    directory = RunDirectory.create(plan, path)
    fake_measuring.check(directory)
    results.write_run_file(directory, complete=False)
    before = (path / "run.json").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="make room and go on"):
        patch.setattr(type(path), "replace", full)
        fake_measuring.run(directory)
    assert (path / "run.json").read_bytes() == before
    assert not [each for each in path.rglob("*") if each.name.startswith(".")], "no half files are left"
    del directory
    fake_measuring.run(RunDirectory.open_unfinished(path))
    assert run_file.load(path).complete


def test_a_run_on_a_disk_with_little_room_goes_on_when_there_is_more(plan, path):
    many = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, blocks=40, max_blocks=40))
    process = fake_measuring.size_limited(many, path, 16_000)  # pieces fit, the run file does not
    process.join()
    assert process.exitcode == 2
    assert not [each for each in path.rglob("*") if each.name.startswith(".")]
    fake_measuring.run(RunDirectory.open_unfinished(path))
    assert run_file.load(path).complete


def test_a_report_on_a_full_disk_leaves_the_old_one(plan, path, tmp_path, monkeypatch, capsys):
    from fuseproof.cli import main

    fake_measuring.run(RunDirectory.create(plan, path))
    page = tmp_path / "report.md"
    page.write_text("the old one")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(path), "replace", full)
    assert main(["report", str(path), "-o", str(page)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert page.read_text() == "the old one"
    assert report.render(report.summarise([run_file.load(path)]), "md"), "it is the disk, not the run"


# --- files of any content ---

_VALUES = (
    None,
    True,
    -1,
    0,
    3,
    10**400,
    1.5,
    "",
    "x",
    "\udc80",
    [],
    [3],
    {},
    {"x": 3},
    [[[]]],
    "torch.eager",
)


def _mutate(document, chance):
    """A copy with one value replaced, removed, added or moved."""
    document = copy.deepcopy(document)
    place, keys = document, []
    while isinstance(place, dict | list) and place and (not keys or chance.random() < 0.8):
        keys.append(chance.choice(list(place) if isinstance(place, dict) else range(len(place))))
        parent, place = place, place[keys[-1]]
    action = chance.random()
    if action < 0.7:
        parent[keys[-1]] = copy.deepcopy(chance.choice(_VALUES))
    elif action < 0.85:
        del parent[keys[-1]]
    elif isinstance(parent, dict):
        parent[chance.choice(("x", "", "evidence", "disqualified"))] = parent.pop(keys[-1])
    else:
        parent.append(copy.deepcopy(chance.choice(_VALUES)))
    return document


def _rewritten(name, document, trial):
    """The text of a damaged file: as it is, with the right hash, or a plan without any; sometimes cut."""
    if trial % 3 == 1 and name == "plan.json":  # as an earlier version wrote it: then the pieces are read
        document = {key: value for key, value in document.items() if key not in ("schema", "id", "sha256")}
    elif trial % 3 and name == "plan.json":
        document = hashed(document)
    elif trial % 3 and name != "run.json":
        document = stamped(document)
    text = json.dumps(document)
    return text[: trial % len(text)] if trial % 50 == 0 else text


def test_two_thousand_damaged_files_are_read_or_refused_in_one_line(plan, path, monkeypatch):
    directory = RunDirectory.create(plan, path)
    fake_measuring.run(directory)
    results.write_run_file(directory, complete=False)
    here = directory.environment
    monkeypatch.setattr(environment, "describe", lambda **_: here)  # it does not change, and takes time
    monkeypatch.setattr(RunDirectory, "refuse_changed_sources", lambda self: None)
    del directory
    names = ["plan.json", "run.json", "checks/torch-000.json", "profiles/jax-001.json", "blocks/001-000.json"]
    before = {name: (path / name).read_bytes() for name in names}
    chance, refused, read = random.Random(0), Counter(), Counter()
    for trial in range(2000):
        name = names[trial % len(names)]
        text = _rewritten(name, _mutate(json.loads(before[name]), chance), trial)
        (path / name).write_text(text)
        opened = None
        try:
            opened = (RunDirectory.open_unfinished if trial % 3 != 1 else RunDirectory.open)(path)
            opened.missing()
            run_file.run_to_json(results.assemble(opened, complete=False))
            read[name] += 1
        except UserError as error:
            assert "\n" not in str(error), name
            refused[name] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {text[:3000]}") from error
        finally:
            del opened
            (path / name).write_bytes(before[name])
    assert all(refused[name] > 50 for name in names if name != "run.json"), refused
    assert all(read[name] > 20 for name in names), read
