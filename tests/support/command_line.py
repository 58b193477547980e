"""Commands as a user calls them, and what they print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fuseproof import cli

SLOW, FAST = [2e-3] * 6, [1e-3] * 6


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def noisy(seconds: list[float], rate: float = 0.002) -> list[float]:
    """Blocks that differ a little, as real ones do."""
    return [value * (1 + rate * (-1) ** index) for index, value in enumerate(seconds)]


def strict(text: str) -> Any:
    """JSON without the NaN and Infinity that Python adds to it."""

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def longest(text: str) -> int:
    """Columns of the longest line."""
    return max(map(len, text.splitlines()), default=0)
