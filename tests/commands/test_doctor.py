"""`fuseproof doctor`: what it looks at, a remedy for each warning, and whether cheating is caught here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from support.command_line import longest, strict
from support.runs import make_run

from fuseproof.implementations import FRAMEWORKS
from fuseproof.measure import canaries, self_test


def test_doctor_names_a_remedy_for_each_warning(fuseproof, monkeypatch):
    monkeypatch.setattr("fuseproof.measure.machine._LOAD_SECONDS", 0.01)
    code, out, err = fuseproof("doctor", "--json")
    assert (code, err) == (0, "")
    findings = strict(out)
    assert {"C++ compiler", "CPU", "load", "memory", "GPU", *FRAMEWORKS} <= {f["name"] for f in findings}
    for finding in findings:
        assert finding["status"] in ("ok", "note", "warning")
        assert finding["found"]
        assert finding["remedy"] or finding["status"] != "warning"
    code, out, err = fuseproof("doctor")
    assert (code, err) == (0, "")
    assert longest(out) <= 80
    assert all(finding["name"] in out for finding in findings)


def outcome(name, *, honest=False, measured=False, reason="", expected=True):
    return self_test.Outcome(
        name=name, does="does little", honest=honest, measured=measured, reason=reason, expected=expected
    )


CAUGHT = outcome("cached", reason="the output of a timed call was wrong: " + "it was stale, " * 20)
PASSED = outcome("refilled", honest=True, measured=True)
MISSED = outcome("forged", measured=True, expected=False)
ACCUSED = outcome("prepared", honest=True, reason="the state was changed", expected=False)


@pytest.mark.parametrize(
    ("found", "exit_code", "words"),
    [
        ([PASSED, CAUGHT], 0, ["honest  refilled", "caught  cached", "all 1 that cheat were caught"]),
        ([PASSED, CAUGHT, MISSED], 1, ["MISSED  forged", "not as it has to be: forged"]),
        ([ACCUSED, CAUGHT], 1, ["ACCUSED prepared", "not as it has to be: prepared"]),
    ],
    ids=["as it has to be", "a cheat gets through", "an honest one is accused"],
)
def test_the_self_test_says_of_each_canary_what_became_of_it(fuseproof, monkeypatch, found, exit_code, words):
    monkeypatch.setattr(self_test, "measure", lambda framework, **_: found)
    code, out, err = fuseproof("doctor", "--self-test")
    assert (code, err) == (exit_code, "")
    assert all(each in out for each in words)
    assert longest(out) <= 80
    code, out, _ = fuseproof("doctor", "--self-test", "--json")
    document = strict(out)
    assert (code, document["passed"]) == (exit_code, exit_code == 0)
    assert [each["name"] for each in document["canaries"]] == [each.name for each in found]


def test_without_any_framework_the_self_test_says_what_to_install(refused, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install" in refused("doctor", "--self-test")


def test_a_failure_of_the_baseline_is_no_verdict():
    with pytest.raises(self_test.UserError, match=r"torch\.eager could not be measured"):
        self_test.outcomes({}, make_run([]), baseline="torch.eager")


def test_every_framework_has_every_canary():
    """Read, not imported: a process has one framework."""
    folder = Path(canaries.__file__).parent
    for framework in FRAMEWORKS:
        text = (folder / f"in_{framework}.py").read_text(encoding="utf-8")
        for canary in canaries.CANARIES:
            if not canary.device or framework == "torch":
                assert f"\ndef {canary.name}(" in text or f"\n{canary.name} = " in text, canary.name


def test_canaries_are_caught_and_honest_ones_measured(fuseproof, monkeypatch):
    """Four of them, in JAX, through real workers; tests/cheats has many more."""
    pytest.importorskip("jax", reason="jax is not installed; pip install 'fuseproof[jax]'")
    few = [each for each in canaries.CANARIES if each.name in ("prepared", "cached", "slow_clock", "forged")]
    monkeypatch.setattr(canaries, "CANARIES", few)
    monkeypatch.setattr(self_test, "framework_here", lambda: "jax")
    code, out, err = fuseproof("doctor", "--self-test", "--json")
    assert [each for each in strict(out)["canaries"] if not each["expected"]] == []
    assert (code, err) == (0, "")
