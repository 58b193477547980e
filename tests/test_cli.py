"""Commands as a user calls them: exit codes, one line for bad input, files written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from fuseproof import cli

EAGER = [1e-3, 1.01e-3, 0.99e-3, 1.0e-3, 1.005e-3]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path, write_run):
    """A run of torch.eager and a torch.compile of `factor` times its time."""

    def make(name="base", factor=0.5, **more):
        times = {"torch.eager": EAGER, "torch.compile": [factor * seconds for seconds in EAGER]}
        return str(write_run(tmp_path / name / "run.json", times, **more).parent)

    return make


def one_line(capsys) -> str:
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("fuseproof: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "nosuchsuite"], "nosuchsuite"),
        (["run", "smoke", "--operator", "convolution"], "convolution"),
        (["run", "smoke", "--only", "torch.eagre"], "torch.eagre"),
        (["run", "smoke", "--dtype", "float64"], "float64"),
        (["run", "smoke", "--pass", "sideways"], "sideways"),
        (["run", "smoke", "--cache", "lukewarm"], "lukewarm"),
        (["run", "smoke", "--case", "layer_norm[7]"], "layer_norm[7]"),
        (["run", "smoke", "--case", "layer_norm[0x4-float32-forward]"], "0x4"),
        (["run", "smoke", "--threads", "99999"], "99999"),
        (["run", "smoke", "--blocks", "3", "--max-blocks", "2"], "--max-blocks 2"),
        (["run", "smoke", "--implementations", "no_such_module:ROWS"], "no_such_module"),
        (["run", "smoke", "--implementations", "no_such_file.py:ROWS"], "no_such_file.py"),
        (["run", "smoke", "--resume"], "leave out the suite"),
        (["run", "--resume"], "no unfinished run"),
        (["run", "--resume", "nowhere"], "nowhere"),
        (["run", "--threads", "0"], "'0'"),
        (["run", "--precision", "300%"], "'300%'"),
        (["gate", "a", "b", "--margin", "much"], "'much'"),
        ([], "COMMAND"),
        (["report"], "no run"),
        (["report", "nowhere"], "nowhere"),
        (["claims", "nowhere"], "nowhere"),
        (["claims", "--require", "true"], "'true'"),
        (["gate", "nowhere", "nowhere"], "nowhere"),
        (["gate", "no*.json", "no*.json"], "no*.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, named, capsys):
    assert cli.main(arguments) == 2
    assert named in one_line(capsys)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\x80\x81", b"[]", b'{"benchmarks": 1}', b'{"benchmarks": [{}]}', b'{"benchmarks": [null]}'],
    ids=repr,
)
@pytest.mark.parametrize("command", ["report", "claims", "gate"])
def test_foreign_files_are_refused(command, content, tmp_path, capsys):
    file = tmp_path / "foreign.json"
    file.write_bytes(content)
    assert cli.main([command, str(file), *([str(file)] if command == "gate" else [])]) == 2
    assert "foreign.json" in one_line(capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert cli.main(["run", "smoke"]) == 2
    assert "writable" in one_line(capsys)


def test_an_output_that_cannot_be_a_folder_is_refused(tmp_path, run, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["run", "smoke", "-o", str(tmp_path / "file" / "run")]) == 2
    assert "file" in one_line(capsys)
    assert cli.main(["report", run(), "-o", str(tmp_path / "nowhere" / "report.html")]) == 2
    assert "nowhere" in one_line(capsys)


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "plan.json").write_text("{}")
    assert cli.main(["run", "smoke", "-o", str(tmp_path)]) == 2
    assert "--resume" in one_line(capsys)


def test_nothing_but_workers_import_a_framework(tmp_path):
    script = (
        "import sys, fuseproof, fuseproof.cli as cli\n"
        "cli.main(['list']); cli.main(['doctor'])\n"
        "loaded = {'torch', 'jax', 'tensorflow', 'triton'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=tmp_path)


def test_list_says_why_something_cannot_run_here(capsys):
    assert cli.main(["list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"demo", "models", "smoke"} <= {suite["name"] for suite in document["suites"]}
    reasons = {(row["operator"], row["name"]): row["not_here"] for row in document["implementations"]}
    assert "cuda" in reasons["matmul", "triton"]


@pytest.mark.parametrize(
    ("ending", "format"), [("html", None), ("md", None), ("json", None), ("txt", "json")]
)
def test_reports_are_written(ending, format, run, tmp_path, capsys):
    output = tmp_path / f"report.{ending}"
    chosen = ["--format", format] if format else []
    assert cli.main(["report", run(), "-o", str(output), *chosen]) == 0
    assert str(output) in capsys.readouterr().out
    text = output.read_text()
    if "json" in (ending, format):
        assert json.loads(text, parse_constant=pytest.fail)["rows"]
    else:
        assert "torch.compile" in text


def test_claims_as_strict_json(run, capsys):
    assert cli.main(["claims", run(), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {row["reading"] for row in rows} == {"throughput", "time_reduction"}
    assert {row["verdict"] for row in rows} == {"insufficient"}, "one case is not enough"


def test_claims_can_be_required(run):
    assert cli.main(["claims", run(), "--require", "insufficient"]) == 0
    assert cli.main(["claims", run(), "--require", "supported"]) == 1


@pytest.mark.parametrize(
    ("head", "code", "verdict"),
    [
        pytest.param({}, 0, "pass", id="equal"),
        pytest.param({"factor": 1.0}, 1, "regression", id="slower"),
        pytest.param({"fields": {"cpu": "another"}}, 3, "inconclusive", id="another machine"),
    ],
)
def test_gate(head, code, verdict, run, tmp_path, capsys):
    junit, summary = tmp_path / "gate.xml", tmp_path / "summary.md"
    arguments = ["gate", run("base"), run("head", **head), "--json"]
    assert cli.main([*arguments, "--junit", str(junit), "--summary", str(summary)]) == code
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document["verdict"] == verdict
    assert len(document["rows"]) == 2
    assert ElementTree.parse(junit).getroot().iter("testcase")
    assert verdict in summary.read_text().lower()


def test_gate_json_says_error_for_bad_input(capsys):
    assert cli.main(["gate", "nowhere", "nowhere", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "error"
