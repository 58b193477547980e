"""`fuseproof report`: each format, the newest run, bad input in one line."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

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


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.json"])
def test_a_report_that_fails_leaves_the_old_one(here, a_run, fuseproof, monkeypatch, name):
    assert fuseproof("report", "a", "-o", name)[0] == 0
    before = (here / name).read_bytes()
    monkeypatch.setattr("tempfile.tempdir", str(here))

    def broken(summary, format):
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr("fuseproof.reports.report.formats.render", broken)
        assert fuseproof("report", "a", "-o", name)[0] == 2
    assert (here / name).read_bytes() == before
    assert not list(here.glob(".r.*")), "nothing is left over"


def test_a_report_on_a_full_disk_leaves_the_old_one(here, a_run, fuseproof):
    """A limit on the size of files stands for a full disk."""
    assert fuseproof("report", "a", "-o", "r.html")[0] == 0
    before = (here / "r.html").read_bytes()
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
    program += "from fuseproof.cli import main; sys.exit(main(['report', 'a', '-o', 'r.html']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=here)
    assert done.returncode == 2, done.stderr
    assert "cannot write r.html: File too large; make room" in done.stderr and done.stderr.count("\n") == 1
    assert (here / "r.html").read_bytes() == before and len(before) > 9000
    assert not list(here.glob(".r.html*"))


def test_the_newest_run_is_reported(here, write_run, fuseproof):
    for name, seconds in (("20260101-000000-smoke", SLOW), ("20260102-000000-smoke", FAST)):
        write_run(here / ".fuseproof" / "runs" / name / "run.json", {"torch.eager": seconds})
    assert fuseproof("report")[1] == f"report: {here / 'report.html'}\n"
    assert "20260102-000000-smoke" in (here / "report.html").read_text()
    assert "20260101-000000-smoke" not in (here / "report.html").read_text()
