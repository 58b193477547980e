"""What several commands take: runs from files of any content; and help that says what is so."""

from __future__ import annotations

import argparse
import inspect
import re

import pytest

from fuseproof.cli import COMMANDS
from fuseproof.profiling import capture
from fuseproof.profiling.ahead_of_time.request import Request
from fuseproof.profiling.ahead_of_time.tpu.targets import MESHES
from fuseproof.profiling.ahead_of_time.tpu.targets import TARGETS as TPUS
from fuseproof.profiling.ahead_of_time.triton.compile_kernels import TARGETS as GPUS
from fuseproof.reports import gate


@pytest.mark.parametrize("command", ["report", "claims", "gate"])
@pytest.mark.parametrize(
    "content",
    [b"", b'{"benchmarks": [', b"[]", b'{"traceEvents": []}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "truncated", "a list", "another format", "not text", "deep"],
)
def test_foreign_files_are_one_line(here, refused, command, content):
    (here / "foreign.json").write_bytes(content)
    files = ["foreign.json", "foreign.json"] if command == "gate" else ["foreign.json"]
    assert "foreign.json" in refused(command, *files)


@pytest.fixture(scope="module")
def options():
    """The options of every command by `command --option`."""
    found = {}
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        name = command.__name__.rpartition(".")[2]
        found |= {f"{name} {flag}": action for action in parser._actions for flag in action.option_strings}
    return found


def test_help_names_the_defaults_that_are_defined_elsewhere(options):
    """Help is written out because importing what defines a default takes longer than printing help."""
    margin = inspect.signature(gate.compare).parameters["margin"].default
    assert f"{100 * margin:g}%% (the default)" in options["gate --margin"].help
    assert f"(default: {capture.Options.calls})" in options["profile --calls"].help
    assert f"(default: {Request.topology}; TPU)" in options["compile --topology"].help
    assert all(options[name].default is None for name in ("gate --margin", "compile --topology"))


def test_help_names_the_targets_that_there_are(options):
    assert re.findall(r"sm_\w+|tpu-\w+", options["compile --target"].help) == [*GPUS, *TPUS]
    assert re.findall(r"tpu-\w+", options["profile --target"].help) == [*TPUS]
    assert options["compile --topology"].metavar == "|".join(MESHES)
