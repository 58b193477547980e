"""`fuseproof fusion`: what it accounts for, exit codes, bad input in one line. Nothing is compiled."""

from __future__ import annotations

import json

import pytest
from support.command_line import longest
from support.run_directories import hashed, ran

from fuseproof import implementations, suites
from fuseproof.cases import Case
from fuseproof.fusion import account
from fuseproof.fusion.account import session
from fuseproof.measure import planning
from fuseproof.measure.planning import Selection
from fuseproof.runs.directory import RunDirectory

CASE = "layer_norm[509x771-float32-forward]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a case"),
        (["layer_norm[64x64]"], "is not a case"),
        (["no_such[64x64-float32-forward]"], "no_such"),
        ([CASE, "--only", "torch.eager"], "is not compiled: nothing is fused; try torch.compile,"),
        ([CASE, "--only", "torch.imagined"], "unknown implementation 'torch.imagined'"),
        ([CASE, "--run", "nowhere"], "is not a run directory"),
        ([CASE, "--implementations", "nowhere.py:ROWS"], "no such file"),
        ([CASE, "-o", "/proc/nope"], "cannot write to /proc/nope"),
        ([CASE, "-o", __file__], "File exists; choose a writable folder"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(here, refused, arguments, message):
    assert message in refused("fusion", *arguments)
    assert not list(here.iterdir())


def test_what_cannot_run_here_is_skipped_with_its_reason(here, fuseproof):
    code, out, err = fuseproof("fusion", CASE, "--only", "triton", "-o", "kept")
    assert (code, err) == (0, "")
    assert longest(out) <= 80
    assert "skipped: triton: needs cuda" in out and "account: kept/fusion.json" in out
    (found,) = account.load(here / "kept")
    assert (found.status, found.after, found.compared_with) == ("skipped", None, "torch.eager")


@pytest.fixture
def measured(here):
    """A run directory whose checks found torch.compile right and torch.compile-composed wrong."""
    suite = suites.get("smoke")
    selection = Selection(cases=(CASE,), only=("torch.compile", "torch.compile-composed"), null=True)
    settings = planning.settings_for(suite, device="cpu", threads=1)
    planned = planning.make(suite, implementations.table(), selection, settings)
    directory = RunDirectory.create(planned, here / "run")
    found = {
        each.name: ran(1.0 if each.name == "torch.compile-composed" else 0.0)
        for each in planned.implementations
    }
    directory.save_check("torch", Case.from_group(CASE), {"description": {}, "rows": found})
    return RunDirectory.open(directory.path)  # one that was created is locked


def test_of_a_run_only_what_it_measured(measured, monkeypatch, fuseproof):
    asked = []

    def make(chosen, table, settings, folder, **more):
        asked.extend((each.case.group, [one.name for one in each.implementations]) for each in chosen)
        assert settings.threads == 1
        assert folder == measured.path
        return []

    monkeypatch.setattr(session, "make", make)
    code, out, err = fuseproof("fusion", "--run", measured.path)
    assert (code, err) == (0, "")
    assert asked == [(CASE, ["torch.compile"])]
    assert f"fuseproof report {measured.path}" in out


def test_a_run_that_cannot_be_accounted_for_is_one_line(measured, refused):
    run = ["fusion", "--run", measured.path]
    assert "the run has no case" in refused(*run, "matmul[8x8x8-float32-forward]")
    assert "takes its implementations from the run" in refused(*run, "-o", measured.path)
    with measured.locked():
        assert "being measured" in refused(*run)
    plan_file = measured.path / "plan.json"
    older = plan_file.read_text().replace('"python": "3', '"python": "2')
    plan_file.write_text(json.dumps(hashed(json.loads(older))))
    assert "cannot be accounted for here: python changed" in refused(*run)
    plan_file.write_text("{")
    assert "damaged" in refused(*run)
