"""Completion on the Tab key, by argcomplete: values that it cannot read from the parser.

The shell runs `fuseproof` with an environment variable that argcomplete reads; only then is it imported.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

Completer = Callable[..., Iterable[str]]


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Print the completions and exit, if a shell asks for them; else do nothing."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def offer(action: argparse.Action, completer: Completer) -> None:
    """Complete the values of an argument with what `completer` gives."""
    action.completer = completer  # type: ignore[attr-defined]


def suites(**_: Any) -> list[str]:
    from fuseproof import suites

    return suites.names()


def cases(**_: Any) -> list[str]:
    from fuseproof import suites

    return list(dict.fromkeys(group for name in suites.names() for group in suites.get(name).groups))


def implementations(prefix: str = "", **_: Any) -> list[str]:
    """The names to put after the last comma, each with what is before it."""
    from fuseproof.implementations import IMPLEMENTATIONS

    before = prefix[: prefix.rfind(",") + 1]
    return [before + name for name in dict.fromkeys(each.name for each in IMPLEMENTATIONS)]


def verdicts(**_: Any) -> tuple[str, ...]:
    from fuseproof.reports.claims import VERDICTS

    return VERDICTS
