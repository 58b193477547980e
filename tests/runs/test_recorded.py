"""Files that an earlier version wrote are read: a run directory with captures and an account, a budget.

`recorded/run` is a run of version 0.1.0 as it was before the modules moved: plan.json and capture.json name
targets in modules that have other names now. The machine's names and paths are replaced.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuseproof.cli import main
from fuseproof.errors import UserError
from fuseproof.measure import results
from fuseproof.profiling.ahead_of_time.triton import budget
from fuseproof.reports import report
from fuseproof.runs import run_file
from fuseproof.runs.directory import RunDirectory

RECORDED = Path(__file__).with_name("recorded")
RUN = RECORDED / "run"
GROUP = "layer_norm[64x256-float32-forward]"
NAMES = ["torch.eager", "torch.compile", "jax.eager", "jax.jit"]
TARGETS = [line.split() for line in (RECORDED / "targets.txt").read_text().splitlines()[1:]]


def test_the_run_file_has_its_numbers():
    run = run_file.load(RUN)
    assert (run.suite, run.complete, run.failures) == ("demo", True, ())
    assert [benchmark.implementation for benchmark in run.benchmarks] == NAMES
    document = json.loads((RUN / "run.json").read_text())
    for benchmark, entry in zip(run.benchmarks, document["benchmarks"], strict=True):
        assert benchmark.group == GROUP
        assert benchmark.seconds.tolist() == entry["stats"]["data"]
        assert len(benchmark.seconds) == 120
        assert set(benchmark.block.tolist()) == {0, 1}
        assert (benchmark.flops, benchmark.bytes) == (114_688, 133_120)
    assert [benchmark.kernels for benchmark in run.benchmarks] == [1, 1, 6, 4]
    compiled = run.benchmarks[1]
    assert compiled.compile_seconds == 6.651837285000056
    assert (compiled.error_relative_rms, compiled.error_limit) == (
        8.480071808385313e-08,
        1.1768633331104236e-06,
    )


def test_the_pieces_make_the_same_run_file_again():
    directory = RunDirectory.open(RUN)
    assert [case.group for case in directory.plan.cases] == [GROUP]
    assert [each.name for each in directory.plan.implementations] == NAMES
    again = run_file.run_to_json(results.assemble(directory, complete=True))
    document = json.loads((RUN / "run.json").read_text())
    assert json.loads(json.dumps(again["benchmarks"])) == document["benchmarks"]
    assert again["fuseproof"]["fingerprint"] == document["fuseproof"]["fingerprint"]
    assert set(document["fuseproof"]) <= set(again["fuseproof"])


def test_the_targets_of_the_plan_are_among_those_that_are_resolved():
    known = {target for _, _, target in TARGETS}
    assert {each.target for each in RunDirectory.open(RUN).plan.implementations} <= known


@pytest.mark.parametrize(("framework", "package"), sorted({(one[0], one[1]) for one in TARGETS}))
def test_every_stored_target_resolves(framework, package):
    for module in (framework, package):
        if module != "-" and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    targets = [target for *needs, target in TARGETS if needs == [framework, package]]
    program = (
        "import sys; from fuseproof import implementations as i; list(map(i.resolve_function, sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *targets], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("format", sorted(report.FORMATS))
def test_a_report_is_made_of_it(tmp_path, format):
    output = tmp_path / f"report.{format}"
    assert main(["report", str(RUN), "-o", str(output)]) == 0
    text = output.read_text(encoding="utf-8").replace("\\", "")
    assert all(name in text for name in NAMES)
    assert "cpp_fused_native_layer_norm_0" in text or format == "md", "the account is part of it"


def test_its_claims_are_judged(capsys):
    assert main(["claims", str(RUN), "--json"]) == 0
    assert {row["verdict"] for row in json.loads(capsys.readouterr().out)} == {"insufficient", "undecidable"}


def test_its_captures_are_drawn(tmp_path, capsys):
    page = tmp_path / "profile.html"
    assert main(["profile", str(RUN / "captures"), "--json", "-o", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    found = {one["implementation"]: one["kernels_per_call"] for one in document["implementations"]}
    assert found == {"torch.eager": 1, "torch.compile": 1, "jax.eager": 6, "jax.jit": 4}
    assert all(name in page.read_text(encoding="utf-8") for name in NAMES)


def test_an_unfinished_copy_is_read_and_not_resumed(tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(RUN, copy)
    (copy / "blocks" / "001-000.json").unlink()
    results.write_run_file(RunDirectory.open(copy), complete=False)
    run = run_file.load(copy)
    assert not run.complete
    assert {len(benchmark.seconds) for benchmark in run.benchmarks} == {60}
    with pytest.raises(UserError, match=r"by an earlier version of fuseproof, without the hashes"):
        RunDirectory.open_unfinished(copy)


def test_the_budget_has_its_rows():
    found = budget.load(RECORDED / "budget.toml")
    assert set(found) == {("3.7", "sm_80", "bfloat16"), ("3.7", "sm_90", "float32")}
    row = found["3.7", "sm_80", "bfloat16"]["attention[combine-s1-d64-16x64-w4-s3-bfloat16]"]
    assert (row.registers, row.spill_bytes, row.shared_bytes, row.occupancy_warps) == (26, 0, 1024, 64)
