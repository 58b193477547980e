"""`fuseproof report`: each format, the newest run, bad input in one line."""

from __future__ import annotations

import os
import shlex

import pytest
from support.command_line import FAST, SLOW, strict


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("absent", "no such run: absent"),
        ("a -o folder", "cannot write folder"),
        ("a -o absent/report.html", "cannot write"),
        ("a --format pdf", "invalid choice: 'pdf'"),
    ],
)
def test_bad_input_is_one_line(here, a_run, refused, arguments, message):
    (here / "file").write_text("no TOML, no folder")
    (here / "folder").mkdir()
    assert message in refused("report", *shlex.split(arguments))


def test_without_a_run_it_says_how_to_make_one(refused):
    assert "no run under .fuseproof/runs" in refused("report")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_run_is_one_line(a_run, refused):
    (a_run / "run.json").chmod(0)
    assert "cannot read" in refused("report", "a")


def test_report_writes_each_format(here, a_run, fuseproof):
    for name, chosen in (("r.html", ()), ("r.md", ()), ("r.json", ()), ("r.txt", ("--format", "json"))):
        code, out, err = fuseproof("report", "a", "-o", name, *chosen)
        assert (code, out, err) == (0, f"report: {here / name}\n", "")
    html = (here / "r.html").read_text(encoding="utf-8")
    assert html.lower().startswith("<!doctype html>")
    strict((here / "r.json").read_text())
    assert strict((here / "r.txt").read_text()) == strict((here / "r.json").read_text())
    assert (here / "r.md").read_text()
    code, out, _ = fuseproof("report", "a", "--format", "md")
    assert out == (here / "r.md").read_text()


def test_the_newest_run_is_reported(here, write_run, fuseproof):
    for name, seconds in (("20260101-000000-smoke", SLOW), ("20260102-000000-smoke", FAST)):
        write_run(here / ".fuseproof" / "runs" / name / "run.json", {"torch.eager": seconds})
    assert fuseproof("report")[1] == f"report: {here / 'report.html'}\n"
    assert "20260102-000000-smoke" in (here / "report.html").read_text()
    assert "20260101-000000-smoke" not in (here / "report.html").read_text()
