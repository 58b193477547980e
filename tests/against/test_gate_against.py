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


def test_a_planted_slowdown_is_found_twice_though_renamed_and_tests_that_fail_are_told(gate):
    """In head test_work is called test_sum: with 300 it is slower, with 400 it fails, and a new one fails."""
    source, test = Path("src/toy/__init__.py"), Path("tests/test_bench.py")
    source.write_text(
        source.read_text()
        .replace("range(n)", "range(n if n < 300 else 3 * n)")
        .replace("sum(", "(n < 400) * sum(")
    )
    new = "\n\ndef test_new(benchmark):\n    assert benchmark(toy.work, 9) < 0\n"
    test.write_text(test.read_text().replace("def test_work", "def test_sum") + new)
    names = [
        [f"tests/test_bench.py::{name}[{n}]" for name in ("test_work", "test_sum")] for n in (200, 300, 400)
    ]
    Path("known.toml").write_text(
        "".join(f"[[rename]]\nbase = '{before}'\nhead = '{after}'\n" for before, after in names)
    )
    code, document, said = gate("--accept", "known.toml")
    assert code == 1
    rows = {row["name"].partition("::")[2]: row for row in document["rows"]}
    assert {*rows} == {"test_sum[200]", "test_sum[300]", "test_sum[400]", "test_new"}
    assert rows["test_sum[400]"]["verdict"] == "failed"
    assert rows["test_sum[200]"]["verdict"] in ("pass", "inconclusive")
    assert rows["test_new"]["verdict"] == "failed"
    worst = rows["test_sum[300]"]
    assert worst["slowdown"] > 2
    assert "measured again" in worst["reason"]
    # On a machine where tests run beside it, base may differ from base too; then nothing is believed.
    fired = "its null control fired" in worst["reason"]
    assert worst["verdict"] == ("inconclusive" if fired else "regression")
    assert "head: tests/test_bench.py::test_sum[400] failed" in document["notes"]
    assert "suspects again" in said
    assert subprocess.run(["git", "worktree", "list"], capture_output=True).stdout.count(b"\n") == 1


def test_code_of_head_that_base_imports_is_refused(gate):
    """By an absolute place that the tests themselves put on the path."""
    conftest = Path("tests/conftest.py")
    conftest.write_text(f"import sys\nsys.path.insert(0, {str(Path('src').absolute())!r})\n")
    for words in (["add", "-A"], ["commit", "--quiet", "-m", "two"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)
    code, document, _ = gate()
    assert code == 2
    assert "base imported" in document["message"]


def test_an_untouched_revision_is_no_regression(gate):
    code, document, _ = gate()
    assert code in (0, 3), document["rows"]
    assert {row["verdict"] for row in document["rows"]} <= {"pass", "inconclusive"}
    assert document["canary"]["rows"] == 3


def test_a_project_in_a_folder_of_the_repository(gate, project, monkeypatch):
    """Judged where the user stands; the time is of no interest here."""
    (project / "part").mkdir()
    for name in ("src", "tests"):
        (project / name).rename(project / "part" / name)
    for words in (["add", "-A"], ["commit", "--quiet", "-m", "moved"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)
    monkeypatch.chdir(project / "part")
    code, document, _ = gate(measure=(*PYTEST, "-k", "200"))
    assert code in (0, 1, 3), document
    assert [row["name"].partition("::")[2] for row in document["rows"]] == ["test_work[200]"]


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
