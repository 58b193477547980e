"""The examples work as their README says: each is run as a user runs it, as small as it gets."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
CASE = "layer_norm[3x5-float32-forward]"
MINE = ("--implementations", "mine.py:IMPLEMENTATIONS")
SMOKE = ("--fuseproof-suite=smoke", "--fuseproof-only=torch.eager")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of examples/, with nothing of the checkout near it."""
    if importlib.util.find_spec("torch") is None:  # importing it here would take longer than the tests
        pytest.skip("torch is not installed; pip install 'fuseproof[torch]'")
    copy = tmp_path_factory.mktemp("user") / "examples"
    shutil.copytree(EXAMPLES, copy)
    return copy


def run(folder, module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(folder):
    """The folder with a run of the example's kernel in `out`."""
    least = ("--blocks", "1", "--max-blocks", "1", "--palindromes", "1", "--no-profile", "--quiet")
    run(folder, "fuseproof", "run", "--case", CASE, "--only", "torch.mine", *MINE, *least, "-o", "out")
    return folder


def test_the_readme_has_a_line_for_every_example():
    lines = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and path.name != "README.md" and "__pycache__" not in path.parts:
            assert f"| [{path.relative_to(EXAMPLES)}](" in lines, f"{path.name} has no line"


def test_your_own_kernel_is_listed(folder):
    assert "torch.mine" in run(folder, "fuseproof", "list", *MINE)


def test_your_own_kernel_is_checked_and_measured_against_its_baseline(measured):
    document = json.loads((measured / "out" / "run.json").read_text())
    assert document["fuseproof"]["failures"] == []
    assert [entry["params"]["implementation"] for entry in document["benchmarks"]] == [
        "torch.eager",
        "torch.mine",
    ]
    for entry in document["benchmarks"]:
        error = entry["extra_info"]["error"]
        assert error["relative_rms"] <= error["limit"]
        assert entry["stats"]["data"]


def test_your_own_claim_is_judged(measured):
    (claim,) = tomllib.loads((EXAMPLES / "claims.toml").read_text(encoding="utf-8"))["claim"]
    judged = json.loads(run(measured, "fuseproof", "claims", "out", "--claims", "claims.toml", "--json"))
    text = json.dumps(judged)
    assert claim["id"] in text
    assert "insufficient" in text, "one case in one block is not enough for a verdict"


def test_the_suite_in_pytest_is_a_test_for_each_case_and_implementation(folder):
    # tests/test_pytest_plugin.py measures through the same two lines.
    found = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "pytest", *SMOKE)
    assert "test_suite[layer_norm[64x128-float32-forward]-torch.eager]" in found
