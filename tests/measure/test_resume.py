"""Runs that are interrupted or killed in the middle, and finished afterwards.

The implementation under test waits in the second block for as long as a file is there, so that the middle of
the run is a place and not a moment.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fuseproof.runs import run_file

if importlib.util.find_spec("jax") is None:
    pytest.skip(
        "the implementation that waits is written in JAX, which starts fastest", allow_module_level=True
    )

CASE = "layer_norm[3x5-float32-forward]"

HELD = """
import os, time
from pathlib import Path
import jax.numpy as jnp

here = Path(__file__).parent
with (here / "workers").open("a") as file:
    file.write(f"{os.getpid()}\\n")
# The first worker checks, the second measures the first block.
in_second_block = len((here / "workers").read_text().split()) >= 3

def held(x, weight, bias):
    while in_second_block and (here / "hold").exists():
        (here / "held").touch()
        time.sleep(0.02)
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias
"""

MINE = """
from pathlib import Path
from fuseproof import Implementation

target = f"{Path(__file__).with_name('held.py')}:held"
MINE = [Implementation("layer_norm", "held", framework="jax", target=target)]
"""

# Nothing here takes a minute; this is for machines that are busy with something else.
PATIENCE = 600.0


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "fuseproof", "run", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.fixture
def held_run(tmp_path):
    """A run that has finished its checks and its first block, and hangs in the second."""
    (tmp_path / "held.py").write_text(HELD)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "hold").touch()
    process = start(
        tmp_path, "smoke", "--case", CASE, "--implementations", "mine.py:MINE", "--only", "held",
        "--blocks", "2", "--max-blocks", "2", "--threads", "1", "-o", "run", "--quiet",
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "held").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run never came to its second block"
        time.sleep(0.05)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def pieces(folder):
    """Content and time of every finished piece."""
    paths = [path for part in ("checks", "blocks") for path in sorted((folder / part).glob("*.json"))]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def assert_gone(processes):
    """All have ended; the process that inherits them may not have collected them yet."""

    def alive(process):
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + PATIENCE
    while left := [process for process in processes if alive(process)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_stopped_run_goes_on_where_it_was(tmp_path, held_run, how):
    folder = tmp_path / "run"
    workers = psutil.Process(held_run.pid).children(recursive=True)
    assert workers

    refused = start(tmp_path, "--resume", "run", "--quiet")
    code, _, err = finish(refused)
    assert code == 2
    assert err.splitlines() == ["fuseproof: run is being measured by another process"]

    held_run.send_signal(how)
    code, _, err = finish(held_run)
    assert_gone(workers)
    if how == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130
        assert "fuseproof run --resume run" in err
        assert "Traceback" not in err
    stopped = run_file.load(folder)
    assert not stopped.complete
    assert {int(block) for benchmark in stopped.benchmarks for block in benchmark.block} == {0}
    finished = pieces(folder)
    assert len(finished) == 2, "one check and one block"

    (tmp_path / "hold").unlink()
    code, out, err = finish(start(tmp_path, "--resume", "run", "--quiet"))
    assert (code, err) == (0, ""), err
    assert "run: run" in out.splitlines()
    assert finished.items() <= pieces(folder).items(), "finished pieces are not touched"
    resumed = run_file.load(folder)
    assert resumed.complete
    assert {benchmark.implementation for benchmark in resumed.benchmarks} == {"jax.eager", "held"}
    for benchmark in resumed.benchmarks:
        assert set(benchmark.block) == {0, 1}
        before = next(b for b in stopped.benchmarks if b.name == benchmark.name)
        assert benchmark.seconds[benchmark.block == 0].tolist() == before.seconds.tolist()
    assert json.loads((folder / "run.json").read_text())["fuseproof"]["complete"] is True

    code, out, err = finish(start(tmp_path, "--resume", "run", "--quiet"))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "is complete" in err
