"""The command line: exit codes, one line for bad input, and files that others read."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fuseproof import cli, suites
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS
from fuseproof.runs.records import Failure
from fuseproof.workloads.operators import OPERATORS

SLOW, FAST = [2e-3] * 6, [1e-3] * 6


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Commands look for runs, modules and a pyproject.toml in the folder they are called in."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)  # `run` takes it over


@pytest.fixture
def fuseproof(capsys):
    """Exit code, standard output and standard error of one command."""

    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refused(fuseproof):
    """The one line that a command with bad input leaves."""

    def call(*arguments):
        code, out, err = fuseproof(*arguments)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("fuseproof: ")
        return line

    return call


def noisy(seconds, rate=0.002):
    """Blocks that differ a little, as real ones do."""
    return [value * (1 + rate * (-1) ** index) for index, value in enumerate(seconds)]


@pytest.fixture
def a_run(here, write_run):
    return write_run(
        here / "a" / "run.json", {"torch.eager": noisy(SLOW), "torch.compile": noisy(FAST)}
    ).parent


def test_no_framework_is_imported_to_look_around(here):
    script = f"""
import sys
from fuseproof.cli import main
heavy = {{*{list(FRAMEWORKS)!r}, "triton", "jaxlib"}}
assert not heavy & set(sys.modules), "by importing the command line"
for arguments in (["--help"], ["run", "--help"], ["--version"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0
assert not {{*heavy, "numpy", "rich", "scipy"}} & set(sys.modules), "for help"
assert main(["list"]) == 0
assert not heavy & set(sys.modules), "by list"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: fuseproof" in done.stdout


def test_every_command_has_help(fuseproof):
    for command in ("run", "report", "claims", "gate", "list", "doctor"):
        code, out, err = fuseproof(command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"usage: fuseproof {command}")
    assert fuseproof("--version")[:2] == (0, f"fuseproof {cli_version()}\n")


def cli_version():
    from fuseproof import __version__

    return __version__


def test_a_reader_that_goes_away_is_no_error(here):
    command = [sys.executable, "-m", "fuseproof.cli", "list"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run nightly", "unknown suite 'nightly'"),
        ("run smoke --operator softmax", "unknown operator 'softmax'"),
        ("run smoke --only torch.egaer", "unknown implementation 'torch.egaer'"),
        ("run smoke --dtype float64", "unknown dtype 'float64'"),
        ("run smoke --pass sideways", "unknown pass 'sideways'"),
        ("run smoke --cache lukewarm", "unknown cache regime 'lukewarm'"),
        ("run smoke --case layer_norm", "'layer_norm' is not a case"),
        ("run smoke --implementations absent.py:ROWS", "no such file: absent.py"),
        ("run smoke --implementations absent", "is not module:attribute"),
        ("run smoke --device tpu", "invalid choice: 'tpu'"),
        ("run smoke --threads 0", "'0' is not a positive whole number"),
        ("run smoke --threads 99999", "more than the"),
        ("run smoke --threads many", "'many' is not a positive whole number"),
        ("run smoke --seed -1", "--seed"),
        ("run smoke --blocks 3 --max-blocks 2", "--max-blocks 2 is less than --blocks 3"),
        ("run smoke --precision 200%", "'200%' is not a share"),
        ("run smoke --faster", "unrecognized arguments: --faster"),
        ("run smoke --resume", "leave out the suite"),
        ("run --resume absent", "absent is not a run"),
        ("run --resume", "no unfinished run under .fuseproof/runs"),
        ("run smoke -o file", "cannot write"),
        ("report", "no run under .fuseproof/runs"),
        ("report absent", "no such run: absent"),
        ("report a -o folder", "cannot write folder"),
        ("report a -o absent/report.html", "cannot write"),
        ("report a --format pdf", "invalid choice: 'pdf'"),
        ("claims a --require perfect", "unknown verdict 'perfect'"),
        ("claims a --claims absent.toml", "absent.toml"),
        ("claims a --claims file", "file is not TOML"),
        ("gate a", "required: HEAD"),
        ("gate a absent", "no such run: absent"),
        ("gate a 'absent*.json'", "no file matches"),
        ("gate a a --margin much", "'much' is not a share"),
        ("gate a a --margin -1%", "--margin"),
        ("gate a a --junit folder", "cannot write folder"),
        ("list --implementations absent:ROWS", "cannot import 'absent'"),
        ("", "required: COMMAND"),
        ("measure", "invalid choice: 'measure'"),
    ],
)
def test_bad_input_is_one_line(here, a_run, refused, capsys, arguments, message):
    (here / "file").write_text("no TOML, no folder")
    (here / "folder").mkdir()
    if "--junit" in arguments:  # what was compared is printed before the file is written
        assert cli.main(shlex.split(arguments)) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        return
    assert message in refused(*shlex.split(arguments))


@pytest.mark.parametrize("command", ["report", "claims", "gate"])
@pytest.mark.parametrize(
    "content",
    [b"", b'{"benchmarks": [', b"[]", b'{"traceEvents": []}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "truncated", "a list", "another format", "not text", "deep"],
)
def test_foreign_files_are_one_line(here, refused, command, content):
    (here / "foreign.json").write_bytes(content)
    files = ["foreign.json", "foreign.json"] if command == "gate" else ["foreign.json"]
    assert "foreign.json" in refused(command, *files)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_forbidden_places_are_one_line(here, a_run, refused):
    (a_run / "run.json").chmod(0)
    assert "cannot read" in refused("report", "a")
    a_run.chmod(0o500)
    assert "cannot write" in refused("run", "smoke", "-o", "a/b")


def test_a_failed_gate_tells_json_readers_too(here, fuseproof):
    code, out, err = fuseproof("gate", "absent", "absent", "--json")
    assert code == 2
    document = json.loads(out)
    assert document["verdict"] == "error"
    assert document["message"] in err


@pytest.mark.parametrize(
    ("head", "fields", "code", "verdict"),
    [
        pytest.param({"torch.compile": noisy(FAST)}, None, 0, "pass", id="the same"),
        pytest.param({"torch.compile": noisy(SLOW)}, None, 1, "regression", id="twice as slow"),
        pytest.param({}, None, 1, "regression", id="missing"),
        pytest.param(
            {"torch.compile": noisy(FAST)}, {"cpu": "another"}, 3, "inconclusive", id="another machine"
        ),
        pytest.param({"torch.compile": noisy(FAST, 0.5)}, None, 3, "inconclusive", id="noise"),
    ],
)
def test_gate(here, a_run, write_run, fuseproof, head, fields, code, verdict):
    write_run(here / "b" / "run.json", {"torch.eager": noisy(SLOW), **head}, fields=fields)
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
    write_run(here / "b" / "run.json", {"torch.eager": noisy(SLOW), "torch.compile": slower})
    assert fuseproof("gate", "a", "b")[0] == 1
    assert fuseproof("gate", "a", "b", "--margin", "30%")[0] == 0


def test_gate_takes_globs_of_files_as_blocks(here, write_run, fuseproof):
    for side, seconds in (("base", 1e-3), ("head", 2e-3)):
        for index in range(6):
            stats = {"median": seconds, "data": [seconds * (1 + 0.001 * index)]}
            entry = {"group": None, "name": "f", "fullname": "t.py::f", "stats": stats}
            (here / f"{side}-{index}.json").write_text(json.dumps({"benchmarks": [entry]}))
    code, out, _ = fuseproof("gate", "base-*.json", "head-*.json", "--json")
    assert code == 1
    assert json.loads(out)["rows"][0]["slowdown"] == pytest.approx(2)
    assert fuseproof("gate", "base-*.json", "base-*.json")[0] == 0


def strict(text):
    def refuse(name):
        pytest.fail(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_claims(here, a_run, fuseproof):
    code, out, err = fuseproof("claims", "a", "--json")
    assert (code, err) == (0, "")
    rows = strict(out)
    assert {row["reading"] for row in rows} == {"throughput", "time_reduction"}
    for row in rows:
        assert {
            "claim", "reading", "metric", "pass", "dtype", "cases", "geomean", "ci95", "ci90",
            "share_in_band", "share_lower", "verdict",
        } <= row.keys()  # fmt: skip
        assert row["geomean"] == pytest.approx(2, rel=1e-3)
        assert row["verdict"] == "insufficient", "one case proves no claim"
    assert fuseproof("claims", "a", "--require", "insufficient")[0] == 0
    assert fuseproof("claims", "a", "--require", "supported")[0] == 1
    code, out, err = fuseproof("claims", "a")
    assert (code, err) == (0, "")
    assert "insufficient" in out


def test_claims_of_a_run_without_samples_are_strict_json(here, write_run, fuseproof):
    group = "layer_norm[64x128-float32-forward]"
    failed = Failure(
        group=group, implementation="torch.compile", kind="error", stage="check", message="wrong"
    )
    write_run(here / "run.json", {"torch.eager": FAST}, failures=[failed])
    code, out, _ = fuseproof("claims", "run.json", "--json")
    assert code == 0
    assert all(row["geomean"] is None for row in strict(out))


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


def test_list_says_what_there_is_and_why_not(fuseproof):
    code, out, err = fuseproof("list", "--json")
    assert (code, err) == (0, "")
    document = strict(out)
    assert [suite["name"] for suite in document["suites"]] == suites.names()
    assert [operator["name"] for operator in document["operators"]] == list(OPERATORS)
    rows = {(row["operator"], row["name"]): row for row in document["implementations"]}
    assert len(rows) == len(IMPLEMENTATIONS)
    assert "needs cuda" in rows["matmul", "triton"]["not_here"]
    text = fuseproof("list")[1]
    assert all(row.name in text for row in IMPLEMENTATIONS)


def test_list_takes_rows_of_ones_own(here, fuseproof):
    (here / "mine.py").write_text(
        "from fuseproof import Implementation\n"
        "ROW = Implementation('matmul', 'mine', framework='torch', target='mine.py:f')\n"
    )
    names = {
        row["name"]
        for row in strict(fuseproof("list", "--json", "--implementations", "mine.py:ROW")[1])[
            "implementations"
        ]
    }
    assert "mine" in names


def test_doctor_names_a_remedy_for_each_warning(fuseproof, monkeypatch):
    monkeypatch.setattr("fuseproof.commands.doctor._LOAD_SECONDS", 0.01)
    code, out, err = fuseproof("doctor", "--json")
    assert (code, err) == (0, "")
    findings = strict(out)
    assert {"C++ compiler", "CPU", "load", "memory", "GPU", *FRAMEWORKS} <= {f["name"] for f in findings}
    for finding in findings:
        assert finding["status"] in ("ok", "note", "warning")
        assert finding["found"]
        assert finding["remedy"] or finding["status"] != "warning"
    assert fuseproof("doctor")[0] == 0


def test_run_measures_what_is_asked(here, fuseproof, monkeypatch):
    """The way from the arguments to the plan, without the measuring."""
    seen = []

    def stop(directory, progress, profile):
        seen.append(directory)
        raise KeyboardInterrupt

    monkeypatch.setattr("fuseproof.measure.runner.run", stop)
    monkeypatch.setattr("fuseproof.measure.planning.importlib.util.find_spec", lambda name: object())
    arguments = [
        "run", "smoke", "--operator", "matmul,layer_norm", "--cache", "warm,cold", "--only", "torch.compile",
        "--null", "--threads", "1", "--seed", "7", "--blocks", "3", "--palindromes", "5", "--precision", "1%",
        "--no-profile", "-o", "out", "--quiet",
    ]  # fmt: skip
    code, out, err = fuseproof(*arguments)
    assert (code, out) == (130, "")
    assert "fuseproof run --resume out" in err
    (directory,) = seen
    assert directory.path == Path("out")
    planned = directory.plan
    assert {case.operator.name for case in planned.cases} == {"matmul", "layer_norm"}
    assert {case.cache for case in planned.cases} == {"warm", "cold"}
    assert {row.name for row in planned.implementations} == {
        "torch.eager", "torch.eager-null", "torch.compile", "torch.compile-null"
    }  # fmt: skip
    assert planned.settings == type(planned.settings)(
        device="cpu", threads=1, seed=7, blocks=3, max_blocks=3, palindromes=5, max_palindromes=5,
        leg_seconds=suites.get("smoke").leg_seconds, precision=0.01, profile=False,
    )  # fmt: skip
