"""The time from starting a process to its first result: what the clock spans, and what is no result."""

import dataclasses
import os
import time

import pytest
from support.fake_measuring import Quiet
from support.run_directories import OTHER, make_plan

from fuseproof import suites
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.measure import first_result, first_result_script, planning, results, runner
from fuseproof.runs import run_file
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Plan, Settings
from fuseproof.runs.records import FIRST_RESULT


@pytest.fixture
def started(tmp_path):
    """A script of these lines, as the stage starts one."""

    def start(text):
        (tmp_path / "script.py").write_text(text)
        return first_result.start(
            [str(tmp_path / "script.py")],
            variables={"MINE": "set"},
            cpus=[min(os.sched_getaffinity(0))],
            log=tmp_path / "logs" / "first.log",
        )

    return start


SAY = f"print({first_result_script.SAID!r}, flush=True)\n"


def test_the_clock_spans_the_process_from_its_start_and_not_its_end(started):
    before = time.perf_counter()
    seconds = started("import time\ntime.sleep(0.3)\n" + SAY + "time.sleep(0.7)")
    assert 0.3 < seconds < time.perf_counter() - before - 0.6


def test_the_process_has_its_variables_and_its_cpus_and_this_one_keeps_its_own(started):
    mine = os.sched_getaffinity(0)
    assert started(f"import os\nassert os.environ['MINE'] and len(os.sched_getaffinity(0)) == 1\n{SAY}") > 0
    assert os.sched_getaffinity(0) == mine


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('no such tensor')", "exit code 1: ValueError: no such tensor"),
        (SAY + "raise SystemExit('other results')", "exit code 1: other results"),
        ("print('hello')", "exit code 0"),
        ("import os\nos.kill(os.getpid(), 9)", "a signal (9)"),
    ],
)
def test_a_process_without_a_result_is_a_failure_with_the_reason(started, text, says):
    with pytest.raises(first_result._Failed) as failure:
        started(text)
    assert str(failure.value) == f"no first result: {says}"


def test_a_process_that_hangs_is_ended(started, monkeypatch):
    monkeypatch.setattr(first_result, "_TIMEOUT", 0.3)
    with pytest.raises(first_result._Failed, match="a signal"):
        started("import time\ntime.sleep(60)")


def test_whom_a_plan_asks_for_a_first_result(monkeypatch):
    suite = dataclasses.replace(suites.get("smoke"), first_result=(suites.get("smoke").cases[1].group,))
    of = {
        asked: planning.make(
            suite, IMPLEMENTATIONS, planning.Selection(only=("torch.eager",), first_result=asked), Settings()
        )
        for asked in (False, True)
    }
    assert [case.group for case in of[False].of_first_results] == [suite.cases[1].group]
    assert of[True].of_first_results == suite.cases
    again = Plan.from_json(of[True].to_json())
    assert again.first_results == of[True].first_results


def test_a_run_is_complete_only_with_the_first_results_that_were_asked_for(monkeypatch, tmp_path):
    plan = dataclasses.replace(make_plan(monkeypatch), first_results=(OTHER.group,))
    directory = RunDirectory.create(plan, tmp_path / "run")
    assert f"first_results/{plan.cases.index(OTHER):03d}.json" in directory.missing()
    assert [case.group for case in first_result.left(directory)] == [OTHER.group]
    directory.save_first_result(
        OTHER, {"group": OTHER.group, "rows": {"torch.eager": {"status": "timed", "seconds": [2.0, 3.0]}}}
    )
    assert not first_result.left(directory) and not [
        name for name in directory.missing() if name.startswith("first_results")
    ]


def checked(directory, case):
    """The records of a check that all implementations passed."""
    for framework in directory.plan.frameworks:
        rows = {
            each.name: {
                "status": "ran",
                "errors": {"output": 1e-7},
                "compile_seconds": None,
                "peak_memory_bytes": 64,
                "call_seconds": 1e-3,
            }
            for each in directory.plan.implementations_of(case, framework)
        }
        directory.save_check(framework, case, {"group": case.group, "description": {}, "rows": rows})


def test_pytorch_comes_to_its_first_result_and_a_wrong_one_does_not_count(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.setattr(first_result, "ROUNDS", 2)
    (tmp_path / "mine.py").write_text(
        "def wrong(x, weight, bias, **options):\n    return x * 0\n"
        "def broken(x, weight, bias, **options):\n    raise ValueError('not today')\n"
    )
    case = suites.get("smoke").cases[-1]
    assert case.workload.name == "layer_norm"
    own = [
        Implementation("layer_norm", name, framework="torch", target=f"{tmp_path / 'mine.py'}:{name}")
        for name in ("wrong", "broken")
    ]
    (eager,) = [
        each for each in IMPLEMENTATIONS if (each.workload, each.name) == ("layer_norm", "torch.eager")
    ]
    other = dataclasses.replace(eager, name="torch.other", layout="channels_last")
    plan = planning.of_cases("mine", [case], [eager, *own, other], Settings(profile=False))
    plan = dataclasses.replace(plan, first_results=(case.group,))
    directory = RunDirectory.create(plan, tmp_path / "run")
    checked(directory, case)
    with directory.locked():
        first_result.run(directory, Quiet())
        run = results.write_run_file(directory, complete=False)
    (found,) = run.benchmarks
    assert (found.metric, found.implementation, found.group) == (FIRST_RESULT, "torch.eager", case.group)
    assert found.block.tolist() == [0, 1] and (found.seconds > 0.2).all(), "an import takes longer"
    assert found.compile_seconds is None and found.kernels is None
    reasons = {each.implementation: (each.kind, each.message) for each in run.failures}
    assert {each.stage for each in run.failures} == {FIRST_RESULT}
    assert reasons["wrong"][0] == "error" and "its first result is wrong: output" in reasons["wrong"][1]
    assert reasons["broken"][0] == "error" and "ValueError: not today" in reasons["broken"][1]
    assert reasons["torch.other"][0] == "skipped" and "channels_last" in reasons["torch.other"][1]
    again = run_file.load(tmp_path / "run")
    assert again.benchmarks[0].seconds.tolist() == found.seconds.tolist()
    monkeypatch.setattr(results, "assemble", lambda directory, *, complete: run)
    assert runner._precise(directory), "two rounds of a process say nothing of the precision of a call"
