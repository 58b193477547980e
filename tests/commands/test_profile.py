"""`fuseproof profile`: real captures, failures beside them, an interrupt, bad input in one line."""

from __future__ import annotations

import importlib.util
import json
from types import SimpleNamespace

import pytest

from fuseproof.cli import main
from fuseproof.profiling import capture
from fuseproof.profiling.capture import collection, loading
from fuseproof.profiling.capture import record as capture_record
from fuseproof.profiling.pages import profile_page

CASE = "layer_norm[64x256-float32-forward]"
USER_FILE = """
from fuseproof import Implementation

def raises(x, weight, bias, *, residual=None):
    raise ValueError("of several\\nlines")

IMPLEMENTATIONS = (
    Implementation("layer_norm", "jax.raises", framework="jax", target=f"{__file__}:raises"),
)
"""

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax to profile")
needs_tpu = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("jax", "libtpu")),
    reason="pip install 'fuseproof[tpu]'",
)


@needs_jax
def test_a_failing_implementation_does_not_affect_the_others(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(USER_FILE)
    more = ["--only", "jax.jit,jax.raises,pallas", "--implementations", "mine.py:IMPLEMENTATIONS"]
    assert main(["profile", CASE, *more, "--calls", "2", "--threads", "1", "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    eager, jitted = document["implementations"]
    assert (eager["implementation"], jitted["implementation"]) == ("jax.eager", "jax.jit")
    assert eager["kernels_per_call"] > jitted["kernels_per_call"] >= 1
    reasons = {one["implementation"]: one["reason"] for one in document["failures"]}
    assert set(reasons) == {"jax.raises", "pallas"}
    assert "ValueError" in reasons["jax.raises"] and "\n" not in reasons["jax.raises"]
    assert [(one["before"], one["after"]) for one in document["differences"]] == [("jax.eager", "jax.jit")]
    counted = sum(
        kernel["count_per_call"] for row in document["differences"][0]["rows"] for kernel in row["after"]
    )
    assert counted == jitted["kernels_per_call"]
    page = tmp_path / "profile-layer_norm-64x256-float32-forward-cpu.html"
    assert str(page) in printed.err and page.stat().st_size > 50_000
    # The captures stay, and are drawn again without running anything.
    folder = collection.DEFAULT_ROOT / "layer_norm-64x256-float32-forward-cpu"
    assert main(["profile", str(folder), "-o", "again.html"]) == 0
    assert "jax.eager → jax.jit" in capsys.readouterr().out
    assert (tmp_path / "again.html").exists()
    # The page is named by the captures, of which --only takes some.
    page.unlink()
    assert main(["profile", str(folder), "--only", "jax.jit"]) == 0
    assert page.exists() and "jax.eager" not in capsys.readouterr().out
    assert main(["profile", str(folder), "--only", "torch.eager"]) == 2
    assert "no capture of 'torch.eager'; there are jax.eager, jax.jit" in capsys.readouterr().err
    # Captures made differently do not compare; a record that cannot be read takes nothing from the others.
    record = folder / "jax.jit" / capture_record.FILE_NAME
    document = json.loads(record.read_text())
    record.write_text(json.dumps({**document, "threads": 2}))
    assert main(["profile", str(folder)]) == 2
    assert "threads: 1 (jax.eager), 2 (jax.jit); choose with --only" in capsys.readouterr().err
    record.write_text("{")
    assert main(["profile", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["implementation"] for one in document["implementations"]] == ["jax.eager"]
    assert [one["implementation"] for one in document["failures"]] == ["jax.jit"]


@needs_tpu
def test_a_target_draws_the_compiler_s_schedule(tmp_path, capsys):
    arguments = ["profile", CASE.replace("float32", "bfloat16"), "--target", "tpu-v5e"]
    assert main([*arguments, "--only", "jax.jit,pallas,triton", "--json"]) == 0
    printed = capsys.readouterr()
    assert "compiling" in printed.err and "profiling" not in printed.err
    document = json.loads(printed.out)
    assert document["estimate"] is True
    assert {one["implementation"] for one in document["implementations"]} == {"jax.jit", "pallas"}
    assert {one["source"] for one in document["implementations"]} == {"tpu-static"}
    assert [one["implementation"] for one in document["failures"]] == ["triton"]
    text = (tmp_path / "profile-layer_norm-64x256-bfloat16-forward-tpu-v5e.html").read_text()
    assert "not measured" in text and "width means nothing" in text


@pytest.fixture
def captured(monkeypatch):
    """Captures that are read instead of made: their names, and what happens at each."""
    taken = []
    happens = {}

    def fake(case, implementation, **more):
        taken.append(implementation.name)
        if implementation.name in happens:
            raise happens[implementation.name]

    monkeypatch.setattr(capture, "capture", fake)
    record = SimpleNamespace(device="cpu")
    monkeypatch.setattr(loading, "load", lambda folder: SimpleNamespace(name=folder.name, record=record))
    monkeypatch.setattr(profile_page, "to_html", lambda group, found, failures: "page")
    monkeypatch.setattr(
        profile_page,
        "render_text",
        lambda group, found, failures: f"{[one.name for one in found]} {failures}\n",
    )
    return taken, happens


def test_interrupted_it_shows_what_is_captured(captured, tmp_path, capsys):
    taken, happens = captured
    happens["torch.compile"] = KeyboardInterrupt()
    only = "torch.eager,torch.compile,torch.eager-composed"
    assert main(["profile", CASE, "--only", only, "-o", "x.html"]) == 130
    assert taken == ["torch.eager", "torch.compile"]
    out = capsys.readouterr().out
    assert "['torch.eager']" in out and "stopped before its turn" in out
    assert (tmp_path / "x.html").read_text() == "page"


def test_interrupted_at_once_it_writes_nothing(captured, tmp_path, capsys):
    captured[1]["torch.eager"] = KeyboardInterrupt()
    assert main(["profile", CASE, "--only", "torch.eager", "-o", "x.html"]) == 130
    assert "stopped before anything was captured" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_baselines_come_along(captured):
    assert main(["profile", CASE, "--only", "torch.compile"]) == 0
    assert captured[0] == ["torch.eager", "torch.compile"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["layer_norm"], "is not a case"),
        ([CASE, "--only", "none"], "unknown implementation 'none'"),
        ([CASE, "--only", "none", "--target", "tpu-v5e"], "unknown implementation 'none'"),
        ([CASE, "--target", "tpu-v9"], "unknown TPU target 'tpu-v9'"),
        ([CASE, "--threads", "100000"], "usable cores"),
        ([CASE, "--calls", "0"], "not a positive whole number"),
        (["."], "holds no capture"),
        ([CASE, "-o", "nowhere/x.html"], "cannot write nowhere/x.html"),
        ([CASE, "-o", "."], "is a folder"),
        ([".", "--calls", "3", "--stacks"], "leave out --calls, --stacks"),
        ([".", "--device", "cpu", "--threads", "1"], "leave out --device, --threads"),
        ([".", "--target", "tpu-v5e"], "leave out --target"),
    ],
)
def test_bad_input_is_one_line(arguments, says, capsys):
    assert main(["profile", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_nothing_profiled_is_an_error_with_every_reason(captured, capsys):
    captured[1]["torch.eager"] = capture.CaptureError(f"cannot profile torch.eager of {CASE}: it crashed")
    assert main(["profile", CASE, "--only", "torch.eager"]) == 2
    assert "nothing was profiled: torch.eager: it crashed" in capsys.readouterr().err


def test_the_page_does_not_say_where_the_user_lives(captured, capsys, monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    message = f"cannot profile torch.compile of {CASE}: bad \x1b[31m, see /home/alice/log"
    captured[1]["torch.compile"] = capture.CaptureError(message)
    assert main(["profile", CASE, "--only", "torch.compile", "-o", "x.html"]) == 0
    assert r"bad \\x1b[31m, see ~/log" in capsys.readouterr().out
