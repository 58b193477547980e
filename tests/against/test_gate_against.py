"""`fuseproof gate --against` on a project's own benchmarks, which know nothing of Fuseproof."""

import json
import subprocess
from pathlib import Path

import pytest

from fuseproof import cli

PYTEST = ("pytest", "-q", "-p", "pytest_benchmark.plugin", "--benchmark-max-time=0.05", "tests")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with three benchmarks, one commit old."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    Path("src/toy").mkdir(parents=True)
    Path("tests").mkdir()
    Path("src/toy/__init__.py").write_text("def work(n):\n    return sum(i * i for i in range(n))\n")
    Path("tests/test_bench.py").write_text(
        "import pytest, toy\n\n"
        "@pytest.mark.parametrize('n', [200, 300, 400])\n"
        "def test_work(benchmark, n):\n    assert benchmark(toy.work, n) > 0\n"
    )
    for words in (["init", "--quiet"], ["add", "-A"], ["commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)
    return tmp_path


@pytest.fixture
def gate(project, capfd):
    def run(*options, measure=PYTEST):
        code = cli.main(["gate", "--against", "HEAD", "--json", "--rounds", "5", *options, "--", *measure])
        captured = capfd.readouterr()
        return code, json.loads(captured.out), captured.err

    return run


def test_a_planted_slowdown_is_found_twice_and_a_test_that_fails_is_missing(gate):
    source = Path("src/toy/__init__.py")
    source.write_text(
        source.read_text()
        .replace("range(n)", "range(n if n < 300 else 3 * n)")
        .replace("sum(", "(n < 400) * sum(")
    )
    code, document, said = gate()
    assert code == 1
    rows = {row["name"].partition("::")[2]: row for row in document["rows"]}
    assert [rows[f"test_work[{n}]"]["verdict"] for n in (300, 400)] == ["regression", "missing"]
    assert rows["test_work[200]"]["verdict"] in ("pass", "inconclusive")
    worst = rows["test_work[300]"]
    assert worst["slowdown"] > 2
    assert "measured again" in worst["reason"]
    assert "head: tests/test_bench.py::test_work[400] failed" in document["notes"]
    assert "suspects again" in said
    assert subprocess.run(["git", "worktree", "list"], capture_output=True).stdout.count(b"\n") == 1


def test_an_untouched_revision_is_no_regression(gate):
    code, document, _ = gate()
    assert code in (0, 3), document["rows"]
    assert {row["verdict"] for row in document["rows"]} <= {"pass", "inconclusive"}
    assert document["canary"]["rows"] == 3


@pytest.mark.parametrize(
    ("options", "measure", "says"),
    [
        ((), ("pytest", "absent"), "could not be measured"),
        ((), ("tests",), "say after --"),
        (("--rounds", "2"), PYTEST, "--rounds 2"),
        (("--budget", "-1"), PYTEST, "--budget -1"),
        (("--base-python", "absent"), PYTEST, "absent"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(gate, options, measure, says):
    code, document, err = gate(*options, measure=measure)
    assert (code, document["verdict"]) == (2, "error")
    assert says in document["message"]
    assert "Traceback" not in err
    assert not [path for path in Path(".fuseproof/against").glob("*") if (path / "src").exists()]


def test_options_of_measuring_need_two_commits(capsys):
    assert cli.main(["gate", "a", "b", "--rounds", "5"]) == 2
    assert "--rounds is about measuring" in capsys.readouterr().err
