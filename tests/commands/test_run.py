"""`fuseproof run`: the way from the arguments to the plan, and the summary at the end."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

import pytest
from support.command_line import longest
from support.runs import OPERATORS, make_comparisons, make_run

from fuseproof import suites
from fuseproof.measure import machine, runner
from fuseproof.reports import claims
from fuseproof.runs.records import Failure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nightly", "unknown suite 'nightly'"),
        ("smoke --operator convolution", "unknown workload 'convolution'"),
        ("smoke --only torch.egaer", "unknown implementation 'torch.egaer'"),
        ("smoke --dtype float64", "unknown dtype 'float64'"),
        ("smoke --pass sideways", "unknown pass 'sideways'"),
        ("smoke --cache lukewarm", "unknown cache regime 'lukewarm'"),
        ("smoke --case layer_norm", "'layer_norm' is not a case"),
        ("smoke --implementations absent.py:ROWS", "no such file: absent.py"),
        ("smoke --implementations absent", "is not module:attribute"),
        ("smoke --device tpu", "invalid choice: 'tpu'"),
        ("smoke --threads 0", "'0' is not a positive whole number"),
        ("smoke --threads 99999", "more than the"),
        ("smoke --threads many", "'many' is not a positive whole number"),
        ("smoke --seed -1", "--seed"),
        ("smoke --blocks 3 --max-blocks 2", "--max-blocks 2 is less than --blocks 3"),
        ("smoke --precision 200%", "'200%' is not a share"),
        ("smoke --faster", "unrecognized arguments: --faster"),
        ("smoke --precision 0", "'0' is never reached"),
        ("smoke --precision nan", "'nan' is not a share"),
        ("smoke --precision=-2%", "'-2%' is not a share"),
        ("smoke --case layer_norm[12,7-float32-forward]", "unknown layer_norm shape '12,7'"),
        ("smoke --case layer_norm[9999999999x9999999-float32-forward]", "this machine has"),
        (f"smoke --case layer_norm[{'9' * 150}x2-float32-forward]", "take more than"),
        (f"smoke --case layer_norm[{'9' * 5000}x2-float32-forward]", "a name of 5,030 characters"),
        ("smoke --only pallas", "nothing to measure: interpreted on the CPU"),
        ("smoke --resume", "leave out the suite"),
        ("--resume a --only torch.compile --blocks 9 -o b", "leave out --output, --only, --blocks"),
        ("--resume --seed 0 --device cpu --no-profile", "leave out --device, --seed, --no-profile"),
        ("--resume absent", "absent is not a run"),
        ("--resume", "no unfinished run under .fuseproof/runs"),
        ("smoke --scale gpu", "the suite 'smoke' has one size; leave out --scale gpu"),
        ("claims-blocks --scale tpu", "invalid choice: 'tpu'"),
        ("claims-blocks --scale gpu", "made for cuda; add --device cuda"),
        ("--resume a --scale gpu", "leave out --scale"),
        ("smoke -o file", "'file' is a file; name a folder"),
        ("smoke -o x.pdf", "'x.pdf' is named like a report"),
        ("smoke -o a/report.HTML", "is named like a report"),
    ],
)
def test_bad_input_is_one_line(here, a_run, refused, arguments, message):
    (here / "file").write_text("no folder")
    assert message in refused("run", *shlex.split(arguments))


def test_a_device_that_is_not_there_is_refused_before_anything_is_made(here, refused, monkeypatch):
    monkeypatch.setattr("fuseproof.measure.reasons._DEVICE_FILES", ())
    monkeypatch.setattr("fuseproof.measure.reasons.importlib.util.find_spec", lambda name: object())
    line = refused("run", "smoke", "--device", "cuda")
    assert "--device cuda: no driver of a GPU is loaded here; measure with --device cpu" in line
    assert [*here.iterdir()] == []


def test_where_there_is_a_driver_the_frameworks_are_asked_for_the_device(here, refused, monkeypatch):
    torch = pytest.importorskip("torch", reason="asks PyTorch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.setattr("fuseproof.measure.reasons._DEVICE_FILES", ("/dev/null",))
    line = refused("run", "smoke", "--device", "cuda", "--only", "torch.eager")
    assert "--device cuda: PyTorch sees no CUDA GPU here; measure with --device cpu" in line
    assert [*here.iterdir()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_forbidden_place_is_one_line(here, a_run, refused):
    a_run.chmod(0o500)
    assert "cannot write" in refused("run", "smoke", "-o", "a/b")


def test_run_measures_what_is_asked(here, fuseproof, monkeypatch):
    """The way from the arguments to the plan, without the measuring."""
    seen = []

    def stop(directory, progress, profile):
        seen.append(directory)
        raise KeyboardInterrupt

    monkeypatch.setattr("fuseproof.measure.runner.run", stop)
    monkeypatch.setattr("fuseproof.measure.reasons.importlib.util.find_spec", lambda name: object())
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
    assert {case.workload.name for case in planned.cases} == {"matmul", "layer_norm"}
    assert {case.cache for case in planned.cases} == {"warm", "cold"}
    assert {row.name for row in planned.implementations} == {
        "torch.eager", "torch.eager-null", "torch.compile", "torch.compile-null"
    }  # fmt: skip
    assert planned.settings == type(planned.settings)(
        device="cpu", threads=1, seed=7, blocks=3, max_blocks=3, palindromes=5, max_palindromes=5,
        leg_seconds=suites.get("smoke").leg_seconds, precision=0.01, profile=False,
    )  # fmt: skip


@pytest.fixture
def measured(monkeypatch, fuseproof):
    """`fuseproof run` that finds a given run instead of measuring."""
    monkeypatch.setattr(machine, "examine", list)

    def call(found, *arguments, code=None):
        expected = code if code is not None else 0 if found.benchmarks else 1
        monkeypatch.setattr(runner, "run", lambda directory, progress, profile: found)
        code, out, err = fuseproof("run", "smoke", "-o", "out", "--only", "torch.compile", *arguments)
        assert code == expected
        return out, err

    return call


def failures(kind, count, message="differs from float64 in every element, and in many more words " * 5):
    return [
        Failure(
            group=f"layer_norm[{index}x768_residual-float32-forward_backward]",
            implementation="torch.compile-composed-max-autotune",
            kind=kind,
            stage="check",
            message=message,
        )
        for index in range(count)
    ]


def with_notes(run, notes):
    return dataclasses.replace(run, notes=tuple(notes))


def test_the_summary_fits_a_terminal_of_80_by_24(measured):
    everything = make_run(
        make_comparisons([1.45] * 6, operators=OPERATORS),
        failures=[*failures("error", 12), *failures("skipped", 30, "needs cuda")],
    )
    notes = (f"kernels of case {number} were not counted: {'no profiler ' * 20}" for number in range(7))
    out, err = measured(with_notes(everything, notes))
    assert longest(out) <= 80 and longest(err) <= 80
    assert len(out.splitlines()) + len(err.splitlines()) <= 24
    verdict, speedup, *_ = out.splitlines()[1].split()
    assert (verdict, speedup) == ("supported", "1.450×")
    assert "36 cases, 3 implementations: 12 measured, 12 failed, 30 skipped; 7 notes\n" in out
    assert "run: out\n" in out and "report: fuseproof report out\n" in out
    assert err.count("FAILED ") == 3 and "… and 9 more, in out/run.json" in err
    assert err.count("note: ") == 2 and "… and 5 more, in out/run.json" in err


def test_each_claim_has_one_line_with_the_word_of_its_verdict(measured):
    slower = make_comparisons([1.0] * 6, pass_="forward_backward")
    out, err = measured(make_run([*make_comparisons([1.45] * 6, operators=OPERATORS), *slower]))
    (line,) = [line for line in out.splitlines() if "torch-compile-30-60" in line]
    assert line.split() == ["supported", "1.450×", "[1.450–1.450]", "6", "torch-compile-30-60"]
    assert "All 4: 2 supported, 2 refuted-low" in " ".join(out.split())
    assert err == ""


def test_verbose_prints_every_sentence_failure_and_note_in_full(measured):
    everything = with_notes(
        make_run(make_comparisons([1.45] * 6, operators=OPERATORS), failures=failures("error", 12)),
        (f"note {number} " * 30 for number in range(7)),
    )
    out, err = measured(everything, "--verbose")
    for row in claims.evaluate([everything]):
        assert claims.verdict_sentence(row) in out
    for failure in everything.failures:
        assert f"FAILED {failure.group} {failure.implementation}: {failure.message}\n" in err
    for note in everything.notes:
        assert f"note: {note}\n" in err


def test_a_run_of_nothing_that_a_claim_is_about_has_no_verdicts(measured):
    out, err = measured(make_run([]))
    assert out.splitlines() == [
        "0 cases, 0 implementations: 0 measured, 0 failed, 0 skipped; 0 notes",
        "run: out",
        "report: fuseproof report out",
    ]
    assert err == "fuseproof: nothing that was asked for could be measured: no implementation is left\n"


def test_a_run_that_measures_only_what_nobody_asked_for_exits_with_1(measured):
    """The baseline is in the plan only because the other needs it."""
    alone = make_run(
        [each for each in make_comparisons([1.45] * 2) if each.implementation == "torch.eager"],
        failures=[*failures("error", 1, "the output is wrong"), *failures("error", 1, "it crashed")],
    )
    _, err = measured(alone, code=1)
    assert err.splitlines()[-1] == (
        "fuseproof: nothing that was asked for could be measured: the output is wrong (and 1 more reason)"
    )


def test_our_own_crash_is_one_line_and_a_log(here, refused, monkeypatch):
    def crash(*_):
        raise RuntimeError("a bug\nof ours")

    monkeypatch.setattr(machine, "examine", list)
    monkeypatch.setattr(runner, "run", crash)
    line = refused("run", "smoke", "-o", "out", "--quiet")
    assert "internal error: RuntimeError: a bug of ours; the traceback is in" in line


def test_resuming_says_which_pieces_are_not_used(here, fuseproof, monkeypatch):
    monkeypatch.setattr(machine, "examine", list)

    def stop(directory, progress, profile):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", stop)
    fuseproof("run", "smoke", "-o", "out", "--only", "torch.compile", "--quiet")
    (here / "out" / "blocks").mkdir()
    (here / "out" / "blocks" / "000-000.json").write_text("{}")
    code, out, err = fuseproof("run", "--resume", "out", "--quiet")
    assert (code, out) == (130, "")
    assert err.splitlines()[0] == (
        "not used: out/blocks/000-000.json, it has schema None instead of 2; it is measured again"
    )
