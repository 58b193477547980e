"""Measure a suite. Interrupt it at any time: what is finished is kept, and --resume continues from there."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fuseproof.commands import INTERRUPTED, arguments, completion
from fuseproof.errors import UserError

if TYPE_CHECKING:
    from fuseproof.runs.directory import RunDirectory
    from fuseproof.runs.records import Run

HELP = "measure a suite"
# With the verdicts and the counts, this much fits a terminal of 24 lines.
_FAILURES_SHOWN: Final = 3
_NOTES_SHOWN: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    suite = parser.add_argument(
        "suite", nargs="?", metavar="SUITE", help="see `fuseproof list` (default: demo)"
    )
    completion.offer(suite, completion.suites)
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="RUN", help="finish a run (default: the newest unfinished)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="default: .fuseproof/runs/<time>-<suite>"
    )
    what = parser.add_argument_group("what to measure (default: everything in the suite)")
    arguments.add_only(what, 'implementations, to which their baselines are added, or "all"')
    arguments.add_names(what, "--operator", help="operators")
    arguments.add_names(what, "--dtype", help="dtypes")
    arguments.add_names(what, "--pass", dest="passes", help="forward, forward_backward")
    arguments.add_names(what, "--cache", help="warm, cold")
    arguments.add_cases(what, "measure this case instead of the suite's; may be repeated")
    arguments.add_implementations(what)
    what.add_argument(
        "--null", action="store_true", help="add an identical twin of each implementation (A/A)"
    )
    how = parser.add_argument_group("how to measure")
    arguments.add_device(how)
    arguments.add_threads(how)
    how.add_argument(
        "--seed", type=arguments.seed, default=0, metavar="N", help="of inputs and orders (default: 0)"
    )
    how.add_argument(
        "--blocks", type=arguments.positive, metavar="N", help="blocks of fresh processes, at least"
    )
    how.add_argument("--max-blocks", type=arguments.positive, metavar="N", help="blocks, at most")
    how.add_argument(
        "--palindromes", type=arguments.positive, metavar="N", help="of each case in a block, at least"
    )
    how.add_argument(
        "--precision",
        type=arguments.fraction,
        metavar="SHARE",
        help="stop when every interval is this narrow, such as 2%% or 0.02",
    )
    how.add_argument(
        "--no-profile", action="store_true", help="do not count each implementation's kernels afterwards"
    )
    printed = parser.add_argument_group("what to print")
    printed.add_argument("--quiet", action="store_true", help="no progress")
    printed.add_argument(
        "--verbose", action="store_true", help="at the end every verdict, failure and note in full"
    )


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from fuseproof.measure import machine, runner
    from fuseproof.measure.progress import LineProgress, LiveProgress
    from fuseproof.profiling.capture import stage

    directory = _directory(options)
    console = Console(quiet=options.quiet, stderr=True)
    for finding in machine.examine():
        if finding.status == "warning":
            console.print(
                f"{finding.name}: {finding.found}; {finding.remedy}", highlight=False, soft_wrap=True
            )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if console.is_terminal and not options.quiet:
            with LiveProgress(console, keep_table=options.verbose) as progress:
                measured = runner.run(directory, progress, stage)
        else:
            measured = runner.run(directory, LineProgress(console), stage)
    except KeyboardInterrupt:
        resume = shlex.join(["fuseproof", "run", "--resume", str(directory.path)])
        print(
            f"\nstopped; what is measured is kept in {directory.path}\ncontinue with: {resume}",
            file=sys.stderr,
        )
        return INTERRUPTED
    _summarise(measured, directory, verbose=options.verbose)
    return 0


def _directory(options: argparse.Namespace) -> RunDirectory:
    """The directory of the run to finish, or a new one with its plan."""
    from fuseproof import implementations, suites
    from fuseproof.measure import planning
    from fuseproof.runs.directory import RunDirectory

    if options.resume is not None:
        if options.suite:
            raise UserError("--resume finishes a run as it was planned; leave out the suite")
        return RunDirectory.open_unfinished(Path(options.resume) if options.resume else None)
    suite = suites.get(options.suite or "demo")
    settings = planning.settings_for(
        suite,
        device=options.device,
        threads=arguments.usable_threads(options.threads),
        seed=options.seed,
        blocks=options.blocks,
        max_blocks=options.max_blocks,
        palindromes=options.palindromes,
        profile=not options.no_profile,
        **({} if options.precision is None else {"precision": options.precision}),
    )
    if settings.max_blocks < settings.blocks:
        raise UserError(f"--max-blocks {settings.max_blocks} is less than --blocks {settings.blocks}")
    selection = planning.Selection(
        only=options.only,
        operators=options.operator,
        dtypes=options.dtype,
        passes=options.passes,
        caches=options.cache,
        cases=tuple(options.case),
        null=options.null,
    )
    planned = planning.make(
        suite,
        implementations.table(options.implementations),
        selection,
        settings,
        command=["fuseproof", *sys.argv[1:]],
    )
    return RunDirectory.create(planned, options.output)


def _summarise(measured: Run, directory: RunDirectory, *, verbose: bool) -> None:
    """Verdicts, counts, and where to read more; failures and notes on standard error.

    Fits a terminal of 80 × 24 unless `verbose`.
    """
    from fuseproof.reports import claims

    rows = claims.evaluate([measured])
    if verbose:
        for row in rows:
            print(claims.verdict_sentence(row))
    else:
        sys.stdout.write(claims.render_summary(rows))
    errors = [failure for failure in measured.failures if failure.kind == "error"]
    failed = [f"{each.group} {each.implementation}: {each.message}" for each in errors]
    rest = f"{directory.path}/run.json"
    _print_some("FAILED ", failed, rest, limit=None if verbose else _FAILURES_SHOWN)
    _print_some("note: ", measured.notes, rest, limit=None if verbose else _NOTES_SHOWN)
    print(_counts(measured))
    path = shlex.quote(str(directory.path))
    print(f"run: {directory.path}")
    print(f"report: fuseproof report {path}")
    if rows:
        print(f"all verdicts: fuseproof claims {path}")


def _counts(measured: Run) -> str:
    """`10 cases, 8 implementations: 78 measured, 2 failed, 12 skipped; 3 notes`."""
    from fuseproof.units import count

    pairs = {(each.group, each.implementation) for each in measured.benchmarks}
    missing = {
        kind: {(f.group, f.implementation) for f in measured.failures if f.kind == kind}
        for kind in ("error", "skipped")
    }
    everything = pairs.union(*missing.values())
    cases, names = ({pair[side] for pair in everything} for side in (0, 1))
    failed, skipped = len(missing["error"]), len(missing["skipped"])
    return (
        f"{count(len(cases), 'case')}, {count(len(names), 'implementation')}: {len(pairs)} measured, "
        f"{failed} failed, {skipped} skipped; {count(len(measured.notes), 'note')}"
    )


def _print_some(heading: str, messages: Sequence[str], rest: str, *, limit: int | None) -> None:
    """Messages on standard error: all of them in full, or the first `limit` on two lines each."""
    from fuseproof.commands.terminal import hanging

    for message in messages[:limit]:
        text = f"{heading}{message}" if limit is None else hanging(heading, message, lines=2)
        print(text, file=sys.stderr)
    if limit is not None and len(messages) > limit:
        print(f"… and {len(messages) - limit} more, in {rest}", file=sys.stderr)
