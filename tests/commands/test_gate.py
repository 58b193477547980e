"""`fuseproof gate`: exit codes, the files it writes, bad input in one line."""

from __future__ import annotations

import json
import shlex
from xml.etree import ElementTree

import pytest
from support.command_line import FAST, SLOW, noisy

MACHINE = {
    "machine": "x86_64",
    "system": "Linux",
    "release": "6.1",
    "python_implementation": "CPython",
    "python_version": "3.11.4",
    "cpu": {"brand_raw": "X", "count": 2},
}


def again(seconds):
    """As `noisy`, measured once more: no sample is the same."""
    return [value * 1.00001 for value in noisy(seconds)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a", "required: HEAD"),
        ("a absent", "no such run: absent"),
        ("a 'absent*.json'", "no file matches"),
        ("a a --margin much", "'much' is not a share"),
        ("a a --margin -1%", "--margin"),
    ],
)
def test_bad_input_is_one_line(here, a_run, refused, arguments, message):
    assert message in refused("gate", *shlex.split(arguments))


def test_a_file_that_cannot_be_written_is_one_line_after_the_verdict(here, a_run, fuseproof):
    (here / "folder").mkdir()
    code, out, err = fuseproof("gate", "a", "a", "--junit", "folder")
    assert code == 2 and "Gate: " in out
    assert "cannot write folder" in err and err.count("\n") == 1


def test_a_failed_gate_is_an_error_in_json_too(here, fuseproof):
    code, out, err = fuseproof("gate", "absent", "absent", "--json")
    assert code == 2
    document = json.loads(out)
    assert document["verdict"] == "error"
    assert document["message"] in err


@pytest.mark.parametrize(
    "broken", ["reports.gate.compare", "reports.gate.render_text", "reports.gate.junit.write_junit"]
)
def test_a_crash_of_the_gate_is_no_regression(here, a_run, fuseproof, monkeypatch, broken):
    monkeypatch.setattr("tempfile.tempdir", str(here))
    monkeypatch.setattr(f"fuseproof.{broken}", lambda *_, **__: 1 / 0)
    code, _, err = fuseproof("gate", "a", "a", "--junit", "junit.xml")
    assert code == 2 and "ZeroDivisionError" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("head", "fields", "code", "verdict"),
    [
        pytest.param({"torch.compile": again(FAST)}, None, 0, "pass", id="the same"),
        pytest.param({"torch.compile": noisy(SLOW)}, None, 1, "regression", id="twice as slow"),
        pytest.param({}, None, 1, "regression", id="missing"),
        pytest.param(
            {"torch.compile": again(FAST)}, {"cpu": "another"}, 3, "inconclusive", id="another machine"
        ),
        pytest.param({"torch.compile": noisy(FAST, 0.5)}, None, 3, "inconclusive", id="noise"),
    ],
)
def test_gate(here, a_run, write_run, fuseproof, head, fields, code, verdict):
    write_run(here / "b" / "run.json", {"torch.eager": again(SLOW), **head}, fields=fields)
    files = ["--junit", here / "junit.xml", "--summary", here / "summary.md"]
    (here / "summary.md").write_text("before\n")
    found, out, err = fuseproof("gate", "a", "b", *files)
    assert (found, err) == (code, "")
    found, out, err = fuseproof("gate", "a", "b", "--json")
    assert (found, err) == (code, "")
    document = json.loads(out)
    assert document["verdict"] == verdict
    assert {row["name"] for row in document["rows"]} == {
        f"layer_norm[64x128-float32-forward-{name}-wall]" for name in ("torch.eager", "torch.compile")
    }
    suite = ElementTree.parse(here / "junit.xml").getroot().find("testsuite")
    assert (int(suite.get("failures")) > 0) is (code == 1)
    assert (here / "summary.md").read_text().startswith("before\n"), "CI summaries are appended to"
    assert len((here / "summary.md").read_text()) > len("before\n")


def test_gate_takes_a_margin(here, a_run, write_run, fuseproof):
    slower = [1.2 * value for value in noisy(FAST)]
    write_run(here / "b" / "run.json", {"torch.eager": again(SLOW), "torch.compile": slower})
    assert fuseproof("gate", "a", "b")[0] == 1
    assert fuseproof("gate", "a", "b", "--margin", "30%")[0] == 0


def test_gate_takes_globs_of_files_as_blocks(here, write_run, fuseproof):
    for side, seconds in (("base", 1e-3), ("head", 2e-3)):
        for index in range(6):
            stats = {"median": seconds, "data": [seconds * (1 + 0.001 * index)]}
            entry = {"group": None, "name": "f", "fullname": "t.py::f", "stats": stats}
            document = {"machine_info": MACHINE, "benchmarks": [entry]}
            (here / f"{side}-{index}.json").write_text(json.dumps(document))
    code, out, _ = fuseproof("gate", "base-*.json", "head-*.json", "--json")
    assert code == 1
    assert json.loads(out)["rows"][0]["slowdown"] == pytest.approx(2)
    assert fuseproof("gate", "base-*.json", "base-*.json")[0] == 3  # copies


def test_stopping_it_is_no_verdict(here, a_run, fuseproof, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fuseproof.reports.gate.compare", stopped)
    code, out, err = fuseproof("gate", "a", "a", "--json")
    assert (code, out, err) == (130, "", "stopped before there was a verdict\n")
