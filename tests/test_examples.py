"""The examples work as their README says: each is run as a user runs it, as small as it gets."""

from __future__ import annotations

import importlib.util
import json
import os
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
    # These tests may run in a worker of xdist, where nothing is measured.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
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
    # tests/pytest_plugin/test_suite_fixture.py measures through the same two lines.
    found = run(
        folder, "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "pytest/test_suite.py", *SMOKE
    )
    assert "test_suite[layer_norm[64x128-float32-forward]-torch.eager]" in found


def test_own_functions_are_measured_in_own_tests(folder):
    """Two blocks decide nothing, whatever the machine; ten thousandths would be reached by anything."""
    project = folder / "pytest"
    text = (project / "test_softmax.py").read_text(encoding="utf-8")
    (project / "test_softmax.py").write_text(text.replace("at_least=1.2", "at_least=0.0001"))
    least = ("--fuseproof-blocks=2", "--fuseproof-palindromes=1", "--benchmark-json=out.json")
    output = run(folder, "pytest", "-p", "no:cacheprovider", "pytest/test_softmax.py", *least)
    assert "test_fused_is_at_least_a_fifth_faster: fused is " in output
    assert "times as fast as composed (95 % interval" in output
    entries = {each["name"]: each for each in json.loads((folder / "out.json").read_text())["benchmarks"]}
    assert entries.keys() == {"test_fused_is_at_least_a_fifth_faster", "test_one_row"}
    measured = entries["test_fused_is_at_least_a_fifth_faster"]
    assert set(measured["extra_info"]["block"]) == {0, 1}
    assert measured["extra_info"]["error"]["relative_rms"] <= measured["extra_info"]["error"]["limit"]
    assert measured["extra_info"]["fuseproof"]["baseline"] == "composed"
    assert "block" not in entries["test_one_row"]["extra_info"]


@pytest.mark.parametrize(
    ("file", "case", "measured"),
    [
        ("own/softmax.py", "row_softmax[rows3_columns7-float32-forward_backward]", {"torch.eager"}),
        ("own/block.py", "block[batch5_width8-float32-training_step]", {"torch.eager"}),
        ("own/rotary.py", "own_rotary[batch1_length3_heads2_width4-float32-forward_backward]", {"jax.eager"}),
        ("own/dense_keras.py", "keras_dense[batch5_width8-float32-training_step]", {"keras.eager"}),
        ("own/block_jax.py", "jax_block[batch5_width8-float32-training_step]", {"jax.eager"}),
        (
            "own/three_frameworks.py",
            "three_frameworks[batch5_width8-float32-training_step]",
            {"torch.eager", "jax.jit", "tf.function"},
        ),
        ("runtimes.py", "small_mlp[batch5_width8-float32-inference]", {"torch.eager", "torch.trace"}),
    ],
)
def test_a_workload_of_your_own_is_checked_and_measured(folder, tmp_path, file, case, measured):
    needed = {
        "own/block_jax.py": ("jax", "optax"),
        "own/rotary.py": ("jax",),
        "own/dense_keras.py": ("tensorflow",),
        "own/three_frameworks.py": ("jax", "optax", "tensorflow"),
    }
    for package in needed.get(file, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; pip install {package}")
    least = ("--blocks", "1", "--max-blocks", "1", "--palindromes", "1", "--no-profile", "--quiet")
    chosen = ("--workloads", file, "--case", case, "--only", ",".join(sorted(measured)))
    run(folder, "fuseproof", "run", *chosen, *least, "-o", str(tmp_path / "out"))
    document = json.loads((tmp_path / "out" / "run.json").read_text())
    assert document["fuseproof"]["failures"] == []
    assert {each["params"]["implementation"] for each in document["benchmarks"]} == measured


def test_functions_of_a_script_are_checked(folder):
    done = subprocess.run([sys.executable, "check.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "blocks: right at 8 points" in done.stdout
    assert "whole_blocks is wrong at 2 of 8 points:" in done.stdout
    found = "columns=129, dtype=float32: output is not fully written: 5 of 645 elements (first [0, 128])"
    assert found in done.stdout


def test_functions_of_a_script_are_compared(folder):
    """As small as it gets: one block of the same code."""
    text = (folder / "compare.py").read_text(encoding="utf-8")
    small = text.replace("256, 256", "8, 8").replace("torch.compile(eager)", "lambda x, w: eager(x, w)")
    small = small.replace('baseline="eager")', 'baseline="eager", blocks=1, palindromes=1, progress=False)')
    (folder / "small.py").write_text(small)
    done = subprocess.run([sys.executable, "small.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "against eager" in done.stdout, done.stdout + done.stderr


def test_a_notebook_shows_a_comparison(folder, monkeypatch):
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install 'fuseproof[dev]'")
    import nbclient
    import nbformat

    notebook = nbformat.read(folder / "notebook" / "compare.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    for cell in notebook.cells:
        small = cell.source.replace("256, 256", "8, 8").replace(
            "torch.compile(eager)", "lambda x, w: eager(x, w)"
        )
        cell.source = small.replace(
            'passes=("forward", "forward_backward"),',
            'blocks=1, palindromes=1, directory="cells", threads=1,',
        )
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [each for each in outputs if each.output_type == "error"]
    tables = [each.data["text/html"] for each in outputs if "text/html" in each.get("data", {})]
    assert any("compiled" in table for table in tables)
    assert (folder / "report.html").is_file()


def test_a_triton_kernel_is_checked_in_the_interpreter_and_compiled_for_a_gpu(folder, monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed; pip install 'fuseproof[gpu]'")
    wanted = ("--case", "own_softmax[rows7_columns999-bfloat16-forward]", "--only", "triton", "--json")
    found = run(
        folder, "fuseproof", "compile", "--target", "sm_90", "--workloads", "triton/softmax.py", *wanted
    )
    (launch,) = json.loads(found)
    assert (launch["status"], launch["kernel"]) == ("ok", "softmax_kernel")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    done = subprocess.run(
        [sys.executable, "softmax.py"], cwd=folder / "triton", capture_output=True, text=True
    )
    assert done.returncode == 0 and "right at 10 points" in done.stdout, done.stdout + done.stderr
