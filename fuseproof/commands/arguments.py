"""Arguments that several commands take, each defined once, and what their values may be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fuseproof.commands import completion
from fuseproof.errors import UserError

if TYPE_CHECKING:
    from fuseproof.runs.records import Run

# Endings of what `report` and other commands write.
_REPORTS = frozenset(
    {".html", ".htm", ".md", ".json", ".csv", ".tex", ".pdf", ".txt", ".xml", ".png", ".svg", ".parquet"}
)

Arguments = argparse.ArgumentParser | argparse._ArgumentGroup


def names(text: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b")."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


def seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def fraction(text: str) -> float:
    """`2%` or `0.02` as 0.02; at least 0 and below 1."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share below 100 %; write it like 2% or 0.02")
    return value


def precision(text: str) -> float:
    """As `fraction`, above 0: no interval is ever of no width."""
    value = fraction(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is never reached; write it like 2% or 0.02")
    return value


def run_folder(text: str) -> Path:
    """A folder for a run: one that is there, or a name that no report has."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a file; name a folder for the run")
    if not path.exists() and path.suffix.lower() in _REPORTS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is named like a report; name a folder, and write the report with `fuseproof report`"
        )
    return path


def add_baseline(parser: Arguments, more: str = "") -> None:
    """`--baseline NAME`; None where it is not given."""
    argument = parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="compare everything with this implementation, of whatever framework; "
        f'"own": each with its framework\'s default{more}',
    )
    completion.offer(argument, completion.implementations)


def add_device(parser: Arguments) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")


def add_threads(parser: Arguments) -> None:
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: one for each usable core)"
    )


def add_only(parser: Arguments, help: str) -> None:
    """`--only`, whose default differs from command to command, as `help` says."""
    action = parser.add_argument("--only", type=names, default=(), metavar="NAME,...", help=help)
    completion.offer(action, completion.implementations)


def add_implementations(parser: Arguments) -> None:
    parser.add_argument(
        "--implementations",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="add implementations of your own, such as mine.py:IMPLEMENTATIONS",
    )


def add_workloads(parser: Arguments) -> None:
    parser.add_argument(
        "--workloads",
        action="append",
        default=[],
        metavar="FILE|MODULE[:NAME]",
        help="add workloads of your own, such as mine.py; without SUITE only they are measured",
    )


def add_cases(parser: Arguments, help: str) -> None:
    """`--case`, which may be repeated."""
    action = parser.add_argument("--case", action="append", default=[], metavar="CASE", help=help)
    completion.offer(action, completion.cases)


def add_names(parser: Arguments, *flags: str, help: str, dest: str | None = None) -> None:
    """An option that takes names separated by commas; without it, all."""
    dest = dest or flags[0].lstrip("-")
    parser.add_argument(*flags, type=names, default=(), dest=dest, metavar="NAME,...", help=help)


def add_json(parser: Arguments, help: str = "print JSON instead of text") -> None:
    parser.add_argument("--json", action="store_true", help=help)


def add_runs(parser: Arguments) -> None:
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run directory or file (default: the newest run)"
    )


def load_runs(given: Sequence[str]) -> list[Run]:
    """The runs given for `add_runs`. Raises UserError if one cannot be read, and if there is none."""
    from fuseproof.runs import merging
    from fuseproof.runs.directory import DEFAULT_ROOT

    if given:
        return [merging.load_all(str(path)) for path in given]
    newest = sorted(DEFAULT_ROOT.glob("*/run.json"))
    if not newest:
        raise UserError(f"no run under {DEFAULT_ROOT}; name one, or measure with `fuseproof run`")
    return [merging.load_all(str(newest[-1].parent))]


def usable_threads(asked: int | None) -> int:
    """The threads asked for, or all. Raises UserError for more than there are usable cores."""
    from fuseproof.runs import environment

    usable = len(environment.usable_cpus())
    if asked is not None and asked > usable:
        raise UserError(f"--threads {asked} is more than the {usable} usable cores")
    return asked or usable
