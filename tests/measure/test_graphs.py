"""Graphs, graph breaks and recompilations of torch.compile: counted in a worker, kept in the run file."""

from __future__ import annotations

import json

import pytest
from support.fake_measuring import Quiet
from support.stages import NO_STAGE

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import planning, runner
from fuseproof.runs import run_file
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Settings
from fuseproof.workloads.builtin import get

pytest.importorskip("torch")

# Each with what is counted of it. Shapes of a case are fixed, so nothing but `lengths` is compiled again.
_SOURCE = """
import torch


def whole(x):
    return torch.softmax(x, -1)


def broken(x):
    y = x - x.amax(-1, keepdim=True)
    torch._dynamo.graph_break()
    e = y.exp()
    return e / e.sum(-1, keepdim=True)


_rows = torch.compile(lambda x: torch.softmax(x, -1))


def lengths(x):
    return torch.cat([_rows(x[:3]), _rows(x[3:])])
"""
_COUNTS = {
    "eager": (None, None, None),
    "whole": (1, 0, 0),
    "broken": (2, 1, 0),
    "lengths": (2, 0, 1),
    "alone": (None, None, None),
}


def test_graphs_breaks_and_recompilations_are_in_the_run_file(tmp_path, capsys):
    module = tmp_path / "counted.py"
    module.write_text(_SOURCE)
    rows = (
        ("eager", "whole", None),
        ("whole", "whole", "default"),
        ("broken", "broken", "default"),
        ("lengths", "lengths", "kernel"),
        ("alone", "whole", "kernel"),
    )
    implementations = [
        Implementation(
            "softmax",
            name,
            framework="torch",
            target=f"{module}:{function}",
            compiled=compiled,
            baseline="eager",
        )
        for name, function, compiled in rows
    ]
    settings = Settings(
        device="cpu", threads=1, blocks=1, max_blocks=1, palindromes=1, max_palindromes=1,
        leg_seconds=1e-3, profile=False, share_process=True,
    )  # fmt: skip
    case = Case(workload=get("softmax").from_label("7x65"))
    plan = planning.of_cases("counted", [case], implementations, settings)
    directory = RunDirectory.create(plan, tmp_path / "run")
    run = runner.run(directory, Quiet(), NO_STAGE)
    assert not run.failures, run.failures
    found = {b.implementation: (b.graphs, b.graph_breaks, b.recompiles) for b in run.benchmarks}
    assert found == _COUNTS
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    extra = {b["params"]["implementation"]: b["extra_info"] for b in document["benchmarks"]}
    assert extra["broken"]["graph_breaks"] == 1
    assert "graphs" not in extra["eager"], "absent where unknown"
    again = run_file.load(tmp_path / "run")
    assert {b.implementation: (b.graphs, b.graph_breaks, b.recompiles) for b in again.benchmarks} == _COUNTS
