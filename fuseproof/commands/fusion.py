"""Show what compiling changed: kernels, fusions, bytes and peak memory, eager against compiled.

Each framework compiles in its own process. Exit code 1: an implementation failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseproof.commands import arguments, completion
from fuseproof.errors import UserError

if TYPE_CHECKING:
    from fuseproof.fusion.account import Account
    from fuseproof.implementations import Implementation
    from fuseproof.runs.plan import Settings

    Accounts = tuple[list[Account], Settings, Path]

HELP = "what compilers fused, and what that saved"
_DEFAULT_ROOT = Path(".fuseproof/fusion")
_CALLS = 3  # under the profiler, to count kernels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cases = parser.add_argument(
        "cases", nargs="*", metavar="CASE", help="such as layer_norm[512x768-float32-forward]"
    )
    completion.offer(cases, completion.cases)
    parser.add_argument(
        "--run",
        type=Path,
        metavar="RUN",
        help="account for what a run measured, or for CASE of it; its report then shows the account",
    )
    arguments.add_only(parser, "implementations (default: all that are compiled)")
    arguments.add_implementations(parser)
    arguments.add_workloads(parser)
    arguments.add_device(parser)
    arguments.add_threads(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: .fuseproof/fusion/<time>")
    arguments.add_json(parser)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from fuseproof.commands.terminal import fit
    from fuseproof.fusion import account
    from fuseproof.fusion.account import session

    with Console(stderr=True).status("compiling") as status:

        def progress(what: str) -> None:
            status.update(f"compiling {what}")

        made = _of_cases(options, progress) if options.run is None else _of_run(options, progress)
    accounts, settings, folder = made
    if options.json:
        document = session.document(accounts, settings)
        sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(fit(account.render_text(accounts)))
        print(f"\naccount: {folder / account.FILE}")
        if options.run is not None:
            print(f"report: fuseproof report {folder}")
    return 1 if any(each.status == "failed" for each in accounts) else 0


def _of_cases(options: argparse.Namespace, progress: Callable[[str], None]) -> Accounts:
    from fuseproof import implementations
    from fuseproof.files import make_directory
    from fuseproof.fusion.account import selection, session
    from fuseproof.measure import planning
    from fuseproof.runs.plan import Settings

    if not options.cases:
        raise UserError("name a case, such as layer_norm[512x768-float32-forward], or a run with --run")
    settings = Settings(device=options.device, threads=arguments.usable_threads(options.threads))
    table, workloads = implementations.everything(options.implementations, options.workloads)
    cases = planning.named_cases(list(dict.fromkeys(options.cases)), workloads, table)
    chosen = [selection.of_case(case, table, options.only) for case in cases]
    folder = options.output or _DEFAULT_ROOT / datetime.now().strftime("%Y%m%d-%H%M%S")
    make_directory(folder)
    accounts = session.make(chosen, table, settings, folder, count_kernels=_count_kernels, progress=progress)
    return accounts, settings, folder


def _of_run(options: argparse.Namespace, progress: Callable[[str], None]) -> Accounts:
    """The account of a run, kept in the run's directory."""
    from fuseproof.fusion.account import selection, session
    from fuseproof.runs.directory import RunDirectory

    directory = RunDirectory.open(options.run)
    if options.implementations or options.output:
        raise UserError("--run takes its implementations from the run and keeps the account there")
    directory.refuse_another_machine("accounted for here")  # what is compiled now must be what was measured
    directory.refuse_changed_sources()
    with directory.locked():  # compiling would disturb what is being timed
        accounts = session.make(
            selection.of_run(directory, options.cases, options.only),
            directory.plan.implementations,
            directory.plan.settings,
            directory.path,
            count_kernels=_count_kernels,
            progress=progress,
        )
    return accounts, directory.plan.settings, directory.path


def _count_kernels(
    ask: Callable[..., dict[str, Any]], implementation: Implementation, **where: Any
) -> tuple[int | None, str]:
    """A `fuseproof.fusion.account.session.CountKernels`, by the framework's profiler."""
    from fuseproof.profiling import capture

    options = capture.Options(calls=_CALLS, memory=False, samples=False, energy_seconds=0.0)
    record = capture.profile_prepared(ask, implementation, options=options, **where)
    return record.kernels_per_call, "; ".join(record.warnings) or "the profiler gives no reason"
