"""A model that comes with Fuseproof through planning, check, blocks and the run file."""

from __future__ import annotations

import pytest
from support.fake_measuring import Quiet
from support.stages import NO_STAGE

from fuseproof import suites
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.measure import planning, runner
from fuseproof.measure.planning import Selection
from fuseproof.runs import run_file
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Settings

pytest.importorskip("torch")


def test_a_model_is_measured_as_it_is_and_compiled(tmp_path):
    group = "small_gpt[batch1_length8-float32-inference]"
    settings = Settings(
        device="cpu", threads=1, blocks=1, max_blocks=1, palindromes=2, max_palindromes=2,
        leg_seconds=1e-3, profile=False,
    )  # fmt: skip
    plan = planning.make(suites.get("demo"), IMPLEMENTATIONS, Selection(cases=(group,)), settings)
    assert [case.group for case in plan.cases] == [group]
    assert not plan.skipped
    directory = RunDirectory.create(plan, tmp_path / "run")
    run = runner.run(directory, Quiet(), NO_STAGE)
    assert not run.failures, run.failures
    assert run.complete
    measured = {each.implementation: each for each in run_file.load(tmp_path / "run").benchmarks}
    assert measured.keys() == {"torch.eager", "torch.compile"}
    compiled = measured["torch.compile"]
    assert (compiled.graphs, compiled.graph_breaks, compiled.recompiles) == (1, 0, 0)
    assert compiled.error_relative_rms <= compiled.error_limit
    assert len(compiled.seconds) == len(measured["torch.eager"].seconds) >= 4
