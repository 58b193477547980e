"""Whole runs through real workers: wrong implementations, crashes, hangs."""

from __future__ import annotations

import contextlib
import itertools
import json
import math

import pytest

from fuseproof import implementations, suites
from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import planning, results, runner
from fuseproof.measure.planning import Selection
from fuseproof.measure.worker_process import (
    WorkerCheated,
    WorkerDied,
    WorkerError,
    WorkerProcess,
    WorkerSkip,
)
from fuseproof.profiling.capture import stage
from fuseproof.runs import statistics
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Plan, Settings
from fuseproof.runs.run_file import load

CASE = "layer_norm[7x13-float32-forward]"

WRONG = """
import os, signal, time
import torch
import torch.nn.functional as F

def right(x, weight, bias):
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)

def zeros(x, weight, bias):
    return torch.zeros_like(x)

def mutated_input(x, weight, bias):
    output = right(x, weight, bias)
    weight.mul_(2)
    return output

def unwritten(x, weight, bias):
    return torch.empty_like(x)

def raises(x, weight, bias):
    raise ValueError("this kernel\\nwants other shapes")

def not_here(x, weight, bias):
    raise NotImplementedError("needs a power of two")

def prints(x, weight, bias):
    print('{"ok": {}}')  # where the answers of a careless worker would go
    return right(x, weight, bias)

def crashes(x, weight, bias):
    os.kill(os.getpid(), signal.SIGSEGV)

def exits(x, weight, bias):
    os._exit(7)

def hangs(x, weight, bias):
    while True:
        time.sleep(0.1)
"""

MINE = """
from pathlib import Path
from fuseproof import Implementation

WRONG = Path(__file__).with_name("wrong.py")
NAMES = {names!r}
IMPLEMENTATIONS = [
    Implementation("layer_norm", name, framework="torch", target=f"{{WRONG}}:{{name}}")
    for name in NAMES
]
"""

# What the run file says of each: kind and a part of the message.
TROUBLE = {
    "zeros": ("error", "relative RMS error 1,"),
    "mutated_input": ("error", "input 'weight' was changed"),
    "unwritten": ("error", "output is wrong"),
    "raises": ("error", "ValueError: this kernel wants other shapes"),
    "not_here": ("skipped", "needs a power of two"),
    "crashes": ("error", "died of SIGSEGV"),
    "exits": ("error", "exited with status 7"),
    "hangs": ("error", "gave no answer for"),
}


class Quiet:
    """Progress that only counts."""

    def __init__(self):
        self.pieces = []

    def begin(self, left):
        self.begun = {kind: pieces.count for kind, pieces in left.items()}

    def piece(self, kind, what):
        self.pieces.append(kind)
        return contextlib.nullcontext()

    def show(self, run):
        self.pieces.append("show")


@pytest.fixture
def impatient(monkeypatch):
    """Waits a second for the implementation that hangs, for all others as long as usual."""
    ask = WorkerProcess.ask

    def soon(self, do, *, timeout, **arguments):
        hangs = do == "prepare" and arguments["implementation"]["name"] == "hangs"
        return ask(self, do, timeout=1.0 if hangs else timeout, **arguments)

    monkeypatch.setattr(WorkerProcess, "ask", soon)


def planned(tmp_path, names, only, *, case=CASE, **settings):
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "mine.py").write_text(MINE.format(names=names))
    known = {"threads": 1, "blocks": 2, "max_blocks": 2, "palindromes": 2, "max_palindromes": 2}
    return planning.make(
        suites.get("smoke"),
        implementations.table([f"{tmp_path / 'mine.py'}:IMPLEMENTATIONS"]),
        Selection(cases=(case,), only=only),
        Settings(**{**known, "leg_seconds": 2e-4, **settings}),
    )


def test_wrong_implementations_have_an_error_and_no_speedup(tmp_path, impatient):
    pytest.importorskip("torch", reason="the wrong implementations are written in PyTorch")
    good = ("right", "prints")
    names = ("right", *TROUBLE, "prints")  # what is right stands before and after what is wrong
    directory = RunDirectory.create(planned(tmp_path, names, names), tmp_path / "run")
    progress = Quiet()
    runner.run(directory, progress, stage)
    assert progress.begun == {"torch": 1, "block": 2, "profile": 1}
    assert progress.pieces == ["torch", "block", "show", "block", "show", "profile"]

    run = load(tmp_path / "run")
    assert run.complete
    failures = {failure.implementation: failure for failure in run.failures}
    assert failures.keys() == TROUBLE.keys(), {name: each.message for name, each in failures.items()}
    for name, (kind, message) in TROUBLE.items():
        failure = failures[name]
        assert (failure.group, failure.kind, failure.stage) == (CASE, kind, "check"), name
        assert message in failure.message, name
        assert "\n" not in failure.message, name
    assert {benchmark.implementation for benchmark in run.benchmarks} == {"torch.eager", *good}
    for benchmark in run.benchmarks:
        assert set(benchmark.block) == {0, 1}
        assert set(benchmark.leg) == {0, 1, 2, 3}
        assert benchmark.error_relative_rms <= benchmark.error_limit
        assert benchmark.kernels == 1  # the library's layer norm
        if benchmark.implementation in good:
            assert statistics.speedup(run.baseline_of(benchmark), benchmark).blocks == 2
    text = (tmp_path / "run" / "run.json").read_text()
    assert all(entry["params"]["implementation"] not in TROUBLE for entry in json.loads(text)["benchmarks"])
    assert run.notes == ()
    assert {path.name for path in directory.captures(directory.plan.cases[0]).iterdir()} == {
        "torch.eager",
        *good,
    }
    assert run.environment["frameworks"]["torch"]["threads"] == 1
    assert not directory.caches.exists()


def test_a_device_that_is_absent_skips_every_implementation_for_the_same_reason(tmp_path):
    torch = pytest.importorskip("torch", reason="asks PyTorch for a GPU")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, so nothing is absent")
    chosen = planned(tmp_path, (), ("torch.eager", "torch.eager-composed"), device="cuda")
    run = runner.run(RunDirectory.create(chosen, tmp_path / "run"), Quiet(), stage)
    assert run.complete
    assert run.benchmarks == ()
    assert {(f.implementation, f.kind, f.message) for f in run.failures} == {
        (name, "skipped", "PyTorch sees no CUDA GPU here") for name in ("torch.eager", "torch.eager-composed")
    }


class FakeDirectory:
    """As much of a run directory as stopping on precision looks at; block effects are scripted."""

    def __init__(self, write_run, tmp_path, spread, *, blocks, max_blocks, cases=1):
        self.write_run, self.path, self.spread = write_run, tmp_path, spread
        settings = Settings(blocks=blocks, max_blocks=max_blocks, precision=0.02)
        self.plan = Plan(
            suite="smoke",
            cases=suites.get("smoke").cases[:cases],
            implementations=(),
            skipped=(),
            settings=settings,
        )
        self.measured = []

    def cell(self, block, case):
        return {} if (block, case) in self.measured else None

    def save_cell(self, block, case, record):
        self.measured.append((block, case))

    def checked(self, case):
        return {}

    def run_so_far(self):
        blocks = len({block for block, _ in self.measured})
        noisy = [1.0 + self.spread * (index % 2) for index in range(blocks)]
        return load(self.write_run(self.path / "run.json", {"torch.eager": [1.0] * blocks, "new": noisy}))

    @property
    def blocks(self):
        return 1 + max(block for block, _ in self.measured)


@pytest.fixture
def a_directory(write_run, tmp_path, monkeypatch):
    for name in ("assemble", "write_run_file"):
        monkeypatch.setattr(results, name, lambda directory, *, complete: directory.run_so_far())
    return lambda spread, **more: FakeDirectory(write_run, tmp_path, spread, **more)


@pytest.mark.parametrize(
    ("spread", "blocks", "max_blocks", "expected"),
    [
        pytest.param(0.0, 3, 9, 3, id="never before the least number"),
        pytest.param(0.5, 3, 9, 9, id="at the greatest number"),
        # 5 blocks of 1 and 4 of 1.05: t₈ · 0.0257 / √9 = 1.98 %; one block fewer gives 2.18 %
        pytest.param(0.05, 3, 99, 9, id="as soon as the intervals are narrow"),
    ],
)
def test_blocks_stop_on_precision(a_directory, spread, blocks, max_blocks, expected):
    directory = a_directory(spread, blocks=blocks, max_blocks=max_blocks)
    runner._measure(directory, Quiet())
    assert directory.blocks == expected


def test_every_block_starts_with_another_case(a_directory):
    directory = a_directory(0.0, blocks=3, max_blocks=3, cases=3)
    runner._measure(directory, Quiet())
    first = [next(case for at, case in directory.measured if at == block) for block in range(3)]
    assert set(first) == set(directory.plan.cases)
    assert len(directory.measured) == 9


def test_finished_cells_are_not_measured_again(a_directory):
    directory = a_directory(0.0, blocks=2, max_blocks=2, cases=2)
    done = (1, directory.plan.cases[0])
    directory.measured.append(done)
    runner._measure(directory, Quiet())
    assert sorted(block for block, _ in directory.measured) == [0, 0, 1, 1]
    assert directory.measured.count(done) == 1


class CheckingCrew:
    """Prepares and checks what has no trouble; in `troubles`, by name, what `prepare` or `check` raises."""

    def __init__(self, troubles, *, share=False, errors=None):
        self.troubles, self.share = troubles, share
        self.found = errors or {}
        self.log, self.alive, self.opened = [], set(), set()
        self.checked = {}  # by name, how many draws
        self.descriptions = {}
        self.numbers = itertools.count()
        self.referee = self

    def worker_of(self, implementation):
        alone = implementation.is_foreign and not self.share
        return f"torch:{implementation.name}" if alone else "torch"

    def mend(self):
        pass

    def compare(self, worker):
        self.log.append(("compare", worker))

    def awake(self, worker):
        return contextlib.nullcontext()

    def get(self, worker):
        self.alive.add(worker)
        self.descriptions[worker] = {"version": "1"}

    def open_case(self, *given):
        if len(given) == 3:
            self.opened.add(given[0])

    def file(self):
        return str(next(self.numbers))

    def errors(self, draw, file):
        name = self.log[-1][1]
        return {"output": self.found[name].pop(0) if name in self.found else 1e-7}

    def prepare(self, implementation):
        return self.ask(self.worker_of(implementation), "prepare", name=implementation.name)

    def ask(self, worker, do, *, name=None, **arguments):
        assert worker in self.alive, "an ended worker is asked nothing"
        assert worker in self.opened, "a successor opens the case"
        if name is not None:
            self.log.append((do, name))
            self.checked |= {name: len(arguments["draws"])} if do == "check" else {}
            if do == "check" and (error := self.troubles.get(name)) is not None:
                if isinstance(error, WorkerDied | WorkerCheated):
                    self.bury(worker)
                raise error
        return {
            "prepare": {"first_call_seconds": 1.0, "call_seconds": 0.1},
            "time": {"wall": [0.3, 0.2, 0.25], "compilations": 0},
            "peak_memory": {"bytes": 7},
        }.get(do, {})

    def refuse_harm(self, worker):
        pass

    def bury(self, worker):
        self.log.append(("bury", worker))
        self.alive.discard(worker)
        self.opened.discard(worker)


def rows(*names):
    """Our own where the name is in small letters, else from outside."""
    return [
        Implementation("layer_norm", name, framework="torch",
                       target="fuseproof.m:f" if name.islower() else "theirs.py:f")
        for name in names
    ]  # fmt: skip


@pytest.mark.parametrize("share", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize(
    "error",
    [WorkerError("no"), WorkerSkip("no"), WorkerDied("no"), WorkerCheated("no")],
    ids=lambda error: type(error).__name__,
)
def test_one_that_fails_its_check_harms_no_other(share, error):
    crew = CheckingCrew({"X": error}, share=share)
    record = runner._check_case(crew, Case.from_group(CASE), rows("a", "X", "Y", "b"))
    status = {name: found["status"] for name, found in record["rows"].items()}
    failed = "skipped" if isinstance(error, WorkerSkip) else "error"
    assert status == {"a": "ran", "X": failed, "Y": "ran", "b": "ran"}
    assert record["rows"]["X"]["message"] == "no"
    assert ("bury", "torch" if share else "torch:X") in crew.log, "what it changed must not meet others"


def test_our_own_that_fails_its_check_leaves_its_worker_alive():
    crew = CheckingCrew({"a": WorkerError("no")})
    record = runner._check_case(crew, Case.from_group(CASE), rows("a", "b"))
    assert [found["status"] for found in record["rows"].values()] == ["error", "ran"]
    assert not any(do == "bury" for do, _ in crew.log)


def test_what_limits_the_errors_of_others_is_checked_with_more_draws_as_far_as_it_is_small():
    crew = CheckingCrew({})
    for rows_by_features, most in (("7x13", 16), ("2048x192", 2), ("512x256", 8)):
        case = Case.from_group(f"layer_norm[{rows_by_features}-float32-forward]")
        runner._check_case(crew, case, rows("a", "X"), yardsticks={"a"})
        assert crew.checked == {"a": most, "X": 2}


def test_the_larger_error_of_two_draws_counts_and_nan_most():
    errors = {"a": [1e-7, 3e-7], "b": [math.nan, 1e-7], "c": [1e-7, math.nan]}
    record = runner._check_case(CheckingCrew({}, errors=errors), Case.from_group(CASE), rows("a", "b", "c"))
    found = {name: row["errors"]["output"] for name, row in record["rows"].items()}
    assert found == {"a": 3e-7, "b": None, "c": None}
    assert record["rows"]["a"]["call_seconds"] == 0.2, "the fastest of the calibration"
    assert record["rows"]["a"]["peak_memory_bytes"] == 7
