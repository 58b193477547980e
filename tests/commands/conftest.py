"""Commands called in an empty folder, with a terminal of 80 columns."""

from __future__ import annotations

import signal

import pytest
from support import command_line
from support.command_line import FAST, SLOW, noisy


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Commands look for runs, modules and a pyproject.toml in the folder they are called in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)  # `run` and `profile` take it over


@pytest.fixture
def fuseproof(capsys):
    """Exit code, standard output and standard error of one command."""
    return lambda *arguments: command_line.call(capsys, *arguments)


@pytest.fixture
def refused(fuseproof):
    """The one line that a command with bad input leaves."""

    def call(*arguments):
        code, out, err = fuseproof(*arguments)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("fuseproof: ")
        return line

    return call


@pytest.fixture
def a_run(here, write_run):
    return write_run(
        here / "a" / "run.json", {"torch.eager": noisy(SLOW), "torch.compile": noisy(FAST)}
    ).parent
