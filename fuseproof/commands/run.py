"""Measure a suite. Interrupt it at any time: what is finished is kept, and --resume continues from there.

Exit code 0; 1: nothing that was asked for could be measured; 2: bad input, or a device that is not there;
130: interrupted.
"""

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
        "-o",
        "--output",
        type=arguments.run_folder,
        metavar="DIR",
        help="default: .fuseproof/runs/<time>-<suite>",
    )
    what = parser.add_argument_group("what to measure (default: everything in the suite)")
    what.add_argument(
        "--scale",
        choices=("cpu", "gpu"),
        help="the sizes of a population such as claims-blocks (default: cpu)",
    )
    arguments.add_only(what, 'implementations, to which their baselines are added, or "all"')
    arguments.add_names(what, "--operator", help="workloads, by name")
    arguments.add_names(what, "--dtype", help="dtypes")
    passes = "forward, forward_backward; of modules inference, training_step"
    arguments.add_names(what, "--pass", dest="passes", help=passes)
    arguments.add_names(what, "--cache", help="warm, cold")
    arguments.add_cases(what, "measure this case instead of the suite's; may be repeated")
    arguments.add_implementations(what)
    arguments.add_workloads(what)
    arguments.add_baseline(what, " (which is the default)")
    what.add_argument(
        "--null", action="store_true", help="add an identical twin of each implementation (A/A)"
    )
    how = parser.add_argument_group("how to measure")
    arguments.add_device(how)
    arguments.add_threads(how)
    how.add_argument(
        "--seed",
        type=arguments.seed,
        metavar="N",
        help="of the order of legs (default: 0)",
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
        type=arguments.precision,
        metavar="SHARE",
        help="stop when every interval is this narrow, such as 2%% or 0.02",
    )
    how.add_argument(
        "--first-result",
        action="store_true",
        help="also time fresh processes, from their start to the first result, of every chosen case: "
        "half a minute and more for each",
    )
    how.add_argument(
        "--no-profile", action="store_true", help="do not count each implementation's kernels afterwards"
    )
    how.add_argument(
        "--share-process",
        action="store_true",
        help="run your implementations in the processes of the built-in ones: less memory and time, "
        "but what one does to its process then changes the times of the others",
    )
    # Without a default, so that --resume can refuse it.
    parser.set_defaults(device=None)
    printed = parser.add_argument_group("what to print")
    printed.add_argument("--quiet", action="store_true", help="no progress")
    printed.add_argument(
        "--verbose", action="store_true", help="at the end every verdict, failure and note in full"
    )


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from fuseproof.measure import display, machine, runner
    from fuseproof.profiling.capture import stage
    from fuseproof.units import count

    directory = _directory(options)
    for piece, reason in directory.refused.items():
        print(f"not used: {directory.path / piece}, {reason}; it is measured again", file=sys.stderr)
    console = Console(quiet=options.quiet, stderr=True)
    for finding in machine.examine():
        if finding.status == "warning":
            console.print(
                f"{finding.name}: {finding.found}; {finding.remedy}", highlight=False, soft_wrap=True
            )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with display.progress(console, keep_table=options.verbose) as progress:
            measured = runner.run(directory, progress, stage)
    except KeyboardInterrupt:
        resume = shlex.join(["fuseproof", "run", "--resume", str(directory.path)])
        print(
            f"\nstopped; what is measured is kept in {directory.path}\ncontinue with: {resume}",
            file=sys.stderr,
        )
        return INTERRUPTED
    _summarise(measured, directory, verbose=options.verbose)
    if any((each.operator, each.implementation) not in directory.plan.added for each in measured.benchmarks):
        return 0
    reasons = dict.fromkeys(each.message for each in measured.failures)
    first, *more = reasons or ["no implementation is left"]
    rest = f" (and {count(len(more), 'more reason')})" if more else ""
    print(f"fuseproof: nothing that was asked for could be measured: {first}{rest}", file=sys.stderr)
    return 1


def _directory(options: argparse.Namespace) -> RunDirectory:
    """The directory of the run to finish, or a new one with its plan."""
    from fuseproof import implementations, suites
    from fuseproof.measure import planning, reasons
    from fuseproof.runs.directory import RunDirectory

    if options.resume is not None:
        _refuse_other_than_resume(options)
        return RunDirectory.open_unfinished(Path(options.resume) if options.resume else None)
    table, workloads = implementations.everything(options.implementations, options.workloads)
    asked_for = options.suite or not workloads
    if options.scale and not asked_for:
        raise UserError("--scale is of a population such as claims-blocks; name one, or leave it out")
    suite = (
        suites.get(options.suite or "demo", options.scale or "")
        if asked_for
        else planning.suite_of(workloads)
    )
    settings = planning.settings_for(
        suite,
        device=options.device or "cpu",
        threads=arguments.usable_threads(options.threads),
        seed=options.seed or 0,
        blocks=options.blocks,
        max_blocks=options.max_blocks,
        palindromes=options.palindromes,
        profile=not options.no_profile,
        share_process=options.share_process,
        **({} if options.precision is None else {"precision": options.precision}),
        **({} if options.baseline is None else {"baseline": options.baseline}),
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
        first_result=options.first_result,
    )
    planned = planning.make(
        suite,
        table,
        selection,
        settings,
        workloads=workloads,
        command=["fuseproof", *sys.argv[1:]],
    )
    reasons.refuse_absent_device(planned)
    return RunDirectory.create(planned, options.output)


def _refuse_other_than_resume(options: argparse.Namespace) -> None:
    """Raises UserError, naming them, for arguments that a run to be finished has fixed already."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [
        action.option_strings[-1] if action.option_strings else "the suite"
        for action in parser._actions
        if action.dest not in ("help", "resume", "quiet", "verbose")
        and getattr(options, action.dest) != action.default
    ]
    if given:
        raise UserError(f"--resume finishes a run as it was planned; leave out {', '.join(given)}")


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
