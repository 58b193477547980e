"""Profiles of a comparison: what was measured and right is captured, as the command captures it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support import run_directories
from support.run_directories import CASE, OTHER, ran, save_cell, save_check

import fuseproof
from fuseproof.errors import UserError
from fuseproof.measure import results
from fuseproof.profiling import capture
from fuseproof.profiling.capture import loading
from fuseproof.profiling.pages import profile_page
from fuseproof.runs.directory import RunDirectory


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    """Of two cases, where torch.eager and torch.compile are right and jax.jit is not."""
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory.create(run_directories.make_plan(monkeypatch), tmp_path / "run")
    save_check(directory, torch_eager=ran(1e-7), torch_compile=ran(2e-7))
    save_check(directory, "jax", jax_eager=ran(1e-7), jax_jit=ran(0.5))
    for block in range(2):
        save_cell(directory, block, {"torch.eager": [[2e-3]] * 4, "torch.compile": [[1e-3]] * 4})
    results.write_run_file(directory, complete=False)
    return fuseproof.load(tmp_path / "run")


@pytest.fixture
def captured(monkeypatch):
    """Captures that are noted instead of made, and what happens at each."""
    taken, happens = [], {}

    def fake(case, implementation, **more):
        taken.append((case.group, implementation.name, more))
        if implementation.name in happens:
            raise happens[implementation.name]

    record = SimpleNamespace(device="cpu")
    monkeypatch.setattr(capture, "capture", fake)
    monkeypatch.setattr(loading, "load", lambda folder: SimpleNamespace(name=folder.name, record=record))
    monkeypatch.setattr(profile_page, "to_html", lambda group, found, failures: f"page of {group}")
    monkeypatch.setattr(
        profile_page,
        "render_text",
        lambda group, found, failures: f"{[one.name for one in found]} {failures}\n",
    )
    return taken, happens


def test_what_was_right_is_captured_as_it_was_measured(comparison, captured, tmp_path):
    profile = comparison.profile(CASE.group, calls=2, stacks=True)
    assert [(group, name) for group, name, _ in captured[0]] == [
        (CASE.group, "torch.eager"),
        (CASE.group, "torch.compile"),
    ]
    settings = RunDirectory.open(comparison.directory).plan.settings
    options = captured[0][0][2]["options"]
    assert (options.calls, options.stacks, options.threads, options.seed) == (
        2,
        True,
        settings.threads,
        settings.seed,
    )
    assert profile.page.read_text() == f"page of {CASE.group}" and not profile.stopped
    ((name, reason),) = profile.failures
    assert name == "jax.jit" and reason.startswith("output is wrong: relative RMS error 0.5, limit")
    assert repr(profile).startswith("['torch.eager', 'torch.compile']") and str(profile.page) in repr(profile)


def test_some_can_be_chosen_and_the_page_has_its_place(comparison, captured, tmp_path):
    profile = comparison.profile(CASE.group, only=["torch.compile"], page=tmp_path / "x.html")
    assert [name for _, name, _ in captured[0]] == ["torch.compile"]
    assert (profile.page, profile.failures) == (tmp_path / "x.html", [])


def test_interrupted_it_has_what_was_captured(comparison, captured):
    captured[1]["torch.compile"] = KeyboardInterrupt()
    profile = comparison.profile(CASE.group)
    assert profile.stopped and [one.name for one in profile.profiles] == ["torch.eager"]


def test_interrupted_at_once_it_is_an_interrupt(comparison, captured):
    captured[1]["torch.eager"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        comparison.profile(CASE.group)


@pytest.mark.parametrize(
    ("case", "more", "says"),
    [
        (None, {}, f"2 cases; name one to profile: {CASE.group}"),
        ("nothing", {}, "unknown case 'nothing'"),
        (OTHER.group, {}, "nothing was profiled: no implementation matches"),
        (CASE.group, {"only": ["jax.jit"]}, "nothing was profiled: jax.jit: output is wrong"),
        (CASE.group, {"only": ["triton"]}, "unknown implementation of layer_norm"),
        (CASE.group, {"page": "nowhere/x.html"}, "cannot write nowhere/x.html"),
        (CASE.group, {"calls": 0}, "cannot profile 0 calls"),
    ],
)
def test_what_cannot_be_profiled_is_one_line(comparison, captured, case, more, says):
    with pytest.raises(UserError) as raised:
        comparison.profile(case, **more)
    assert says in str(raised.value) and "\n" not in str(raised.value)
    assert captured[0] == []


def test_only_what_was_measured_is_captured(comparison, captured, monkeypatch):
    def refuse(directory, wanted):
        raise UserError(f"cannot be {wanted}")

    monkeypatch.setattr(RunDirectory, "refuse_another_machine", refuse)
    with pytest.raises(UserError, match="cannot be profiled here"):
        comparison.profile(CASE.group)
    assert captured[0] == []


def test_a_run_file_alone_says_what_to_do(tmp_path, write_run):
    alone = fuseproof.load(write_run(tmp_path / "x.json", {"torch.eager": [1.0]}))
    with pytest.raises(
        UserError, match="load the run's directory, or capture a case with `fuseproof profile"
    ):
        alone.profile()
