"""Compare two runs, or two commits, for CI.

Exit code 0: pass, 1: confirmed regression, 2: bad input, 3: inconclusive, 130: interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseproof.commands import INTERRUPTED, arguments
from fuseproof.errors import UserError

if TYPE_CHECKING:
    from fuseproof.reports.gate import GateResult

HELP = "is HEAD slower than BASE?"
# Of the time that --budget gives, so much is for all benchmarks; the rest is for suspects.
_FIRST_SHARE = 0.6
_ROUNDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "fuseproof gate [options] BASE HEAD\n"
        "       fuseproof gate --against REV [options] -- pytest … | run …"
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="BASE HEAD",
        help="run directories, files, folders or quoted globs of files; with --against what to measure: "
        "`pytest` or `run` and its arguments",
    )
    parser.add_argument(
        "--margin",
        type=arguments.fraction,
        metavar="SHARE",
        help="tolerated slowdown, such as 2%% (the default) or 0.02",
    )
    parser.add_argument(
        "--absolute",
        action="store_true",
        help="compare times themselves, also where code that did not change was measured beside them",
    )
    parser.add_argument(
        "--accept", type=Path, metavar="FILE", help="known changes, each with a reason and a date: TOML"
    )
    arguments.add_json(parser)
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="also append Markdown, for a CI summary")
    against = parser.add_argument_group("two commits, measured in turn")
    against.add_argument(
        "--against", metavar="REV", help="the base: any revision of git; head is the working directory"
    )
    against.add_argument(
        "--rounds",
        type=arguments.positive,
        metavar="N",
        help=f"of base, head and base again, 5 or more (default: {_ROUNDS})",
    )
    against.add_argument("--budget", type=float, metavar="MINUTES", help="stop after five rounds or more")
    against.add_argument("--base-python", type=Path, metavar="PATH", help="the Python that measures base")
    against.add_argument("--seed", type=arguments.seed, metavar="N", help="of the order (default: 0)")


def run(options: argparse.Namespace) -> int:
    from fuseproof import files
    from fuseproof.reports import gate
    from fuseproof.reports.gate import accepted, junit

    try:
        how: dict[str, Any] = {
            "anchored": not options.absolute,
            "known": accepted.NOTHING if options.accept is None else accepted.load(options.accept),
        }
        if options.margin is not None:
            how["margin"] = options.margin
        result = _of_files(options, how) if options.against is None else _of_commits(options, how)
    except KeyboardInterrupt:
        _say("stopped before there was a verdict")
        return INTERRUPTED
    except Exception as error:
        if options.json:
            print(json.dumps({"verdict": "error", "message": str(error), "rows": []}))
        raise
    if options.json:
        print(json.dumps(result.to_json(), indent=1, allow_nan=False))
    else:
        sys.stdout.write(gate.render_text(result))
    if options.junit is not None:
        junit.write_junit(result, options.junit)
    if options.summary is not None:
        files.append_text(options.summary, gate.render_markdown(result))
    return result.exit_code


def _of_files(options: argparse.Namespace, how: dict[str, Any]) -> GateResult:
    from fuseproof.reports import gate
    from fuseproof.runs import merging

    if len(options.what) != 2:
        missing = ("BASE and HEAD", "HEAD")[len(options.what)] if len(options.what) < 2 else ""
        raise UserError(
            f"the following arguments are required: {missing}"
            if missing
            else f"{len(options.what)} runs are given, and two are compared: BASE HEAD"
        )
    for name in ("rounds", "budget", "base_python", "seed"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} is about measuring, which needs --against REV")
    return gate.compare(*map(merging.load_all, options.what), **how)


def _of_commits(options: argparse.Namespace, how: dict[str, Any]) -> GateResult:
    """Measure all, then the suspects again, in rounds of their own."""
    from dataclasses import replace
    from datetime import datetime

    from fuseproof.against import checkout, rounds
    from fuseproof.against.command import Command
    from fuseproof.reports import gate

    command, known = Command.of(options.what), how["known"]
    asked = options.rounds or _ROUNDS
    if asked < rounds.LEAST:
        raise UserError(f"--rounds {asked}: the noise of fewer than {rounds.LEAST} is unknown")
    if options.budget is not None and not 0 < options.budget < 24 * 60:
        raise UserError(f"--budget {options.budget:g} must be minutes, more than 0 and less than a day")
    seconds = None if options.budget is None else 60 * options.budget
    folder = Path(".fuseproof", "against", f"{datetime.now():%Y-%m-%dT%H-%M-%S}").absolute()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that is cancelled leaves no worktree
    more: dict[str, Any] = {"rounds": asked, "seed": options.seed or 0, "said": _say}
    with checkout.both(options.against, python=options.base_python) as (base, head):
        _say(f"measuring {base.name} against {head.name} into {folder}")
        first = rounds.measure(
            base, head, command, folder / "first", seconds=seconds and _FIRST_SHARE * seconds, **more
        )
        one, two, again = first.merged(base, head)
        result = gate.compare(one, two, null=again, **how)
        if suspects := result.suspects:
            _say(f"measuring {len(suspects)} suspects again")
            second = rounds.measure(
                *(base, head, command, folder / "again"),
                seconds=seconds and (1 - _FIRST_SHARE) * seconds,
                names=(*suspects, *(name for name, now in known.renamed.items() if now in suspects)),
                before=first,
                **more,
            )
            one, two, again = second.merged(base, head)
            held = {benchmark.name for benchmark in one.benchmarks}
            renamed = {name: now for name, now in known.renamed.items() if name in held}
            here = {**how, "known": replace(known, renamed=renamed)}
            result = gate.confirmed(result, gate.compare(one, two, null=again, **here), known=known)
        if base.python != head.python:
            apart = "base was measured by a Python of its own, with packages of its own"
            result = replace(result, notes=(apart, *result.notes))
    return result


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
