"""`fuseproof compile`: from the arguments to the request, exit codes, bad input. Nothing is compiled."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.command_line import longest

from fuseproof.profiling.ahead_of_time import families


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: --target"),
        ("--target sm_75", "unknown target 'sm_75'; there are tpu-v5e"),
        ("--target sm_90 --schedule", "--schedule means nothing for sm_90; there are --operator, --case"),
        ("--target tpu-v5e,sm_90 --quiet", "--quiet means nothing for tpu-v5e"),
        (
            "--target sm_90 --case 'layer_norm[4x8-float32-forward]'",
            "--case and --only choose among your own kernels",
        ),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    assert message in refused("compile", *shlex.split(arguments))


@pytest.fixture
def answered(monkeypatch, fuseproof):
    """The request that the families of targets get, and what is printed of their answer."""

    def call(text, code, *arguments):
        seen = []

        def run(request, *, as_json):
            seen.append((request, as_json))
            return text, code

        monkeypatch.setattr(families, "run", run)
        found, out, err = fuseproof("compile", *arguments)
        assert (found, err) == (code, "")
        return (*seen[0], out)

    return call


def test_the_request_is_what_the_user_asked_for(answered):
    request, as_json, _ = answered(
        "", 0,
        "--target", "sm_80,sm_90", "--operator", "matmul", "--dtype", "bfloat16", "--launch", "128x",
        "--quiet", "--update-budget", "-o", "kept",
    )  # fmt: skip
    assert not as_json
    assert (request.targets, request.operators) == (("sm_80", "sm_90"), ("matmul",))
    assert (request.dtypes, request.launches) == (("bfloat16",), ("128x",))
    assert request.quiet and request.update_budget and not request.schedule
    assert (request.output, request.topology) == (Path("kept"), "1x1")


def test_text_fits_the_terminal_and_json_is_left_alone(answered):
    wide = "name   " + "   ".join(f"figure {number}" for number in range(20)) + "\n"
    assert longest(answered(wide, 1, "--target", "sm_90")[2]) <= 80
    document = json.dumps([{"label": wide}]) + "\n"
    assert answered(document, 0, "--target", "sm_90", "--json")[2] == document
