"""Profile each implementation of a case in its own process; draw timelines and memory in one page.

CASE may also be a directory of captures, which are drawn again. With --target the TPU compiler's
schedule is drawn, and no TPU is needed. Interrupt it at any time: the page shows the captures made so far.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fuseproof.commands import INTERRUPTED, arguments, completion
from fuseproof.errors import UserError, require_known

if TYPE_CHECKING:
    from fuseproof.implementations import Implementation
    from fuseproof.profiling.capture.collection import Collection

HELP = "what runs in a call, side by side"
# Its implementations are the ones profiled unless the user names others.
_SUITE: Final = "demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    case = parser.add_argument(
        "case", metavar="CASE", help="such as layer_norm[512x768-float32-forward], or a directory of captures"
    )
    completion.offer(case, completion.cases)
    arguments.add_only(parser, "implementations; their baselines are added")
    arguments.add_implementations(parser)
    arguments.add_workloads(parser)
    parser.add_argument("--device", choices=("cpu", "cuda", "tpu"), help="default: cpu")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="tpu-v5e, tpu-v5p or tpu-v6e: draw the compiler's schedule, no TPU needed",
    )
    parser.add_argument("--calls", type=arguments.positive, metavar="N", help="profiled calls (default: 5)")
    arguments.add_threads(parser)
    parser.add_argument(
        "--stacks", action="store_true", help="record Python frames too, which slows every call"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html", help="default: profile-<case>-<device>.html"
    )
    arguments.add_json(parser, "print what the page says as JSON")


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from fuseproof import files
    from fuseproof.measure import display

    if options.output is not None:
        files.require_writable(options.output)
    folder = Path(options.case)
    if folder.is_dir():
        _refuse_what_captures_fix(options, folder)
    doing = "profiling" if options.target is None else "compiling"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with display.status(Console(stderr=True), doing) as progress:
            if options.target is not None:
                text, page, stopped = _schedule(options, progress)
            elif folder.is_dir():
                text, page, stopped = _draw(options, _read(options, folder))
            else:
                text, page, stopped = _draw(options, _capture(options, progress))
    except KeyboardInterrupt:
        print("\nstopped before anything was captured", file=sys.stderr)
        return INTERRUPTED
    sys.stdout.write(text)
    print(f"profile: {page.resolve()}", file=sys.stderr if options.json else sys.stdout)
    return INTERRUPTED if stopped else 0


_Outcome = tuple[str, Path, bool]  # what to print, the page, whether the user stopped it


def _draw(options: argparse.Namespace, collection: Collection) -> _Outcome:
    from fuseproof.commands.terminal import fit
    from fuseproof.profiling.pages import profile_page

    drawn = profile_page.draw(collection, options.output)
    text = _json(drawn.document) if options.json else fit(drawn.text)
    return text, drawn.page, drawn.stopped


def _read(options: argparse.Namespace, folder: Path) -> Collection:
    from fuseproof.profiling.capture import collection

    return collection.read(folder, options.only)


def _capture(options: argparse.Namespace, progress: Callable[[str], None]) -> Collection:
    import dataclasses

    from fuseproof import implementations, suites
    from fuseproof.measure import planning
    from fuseproof.profiling import capture
    from fuseproof.profiling.capture import collection
    from fuseproof.runs.plan import Settings

    threads = arguments.usable_threads(options.threads)
    device = options.device or "cpu"
    table, workloads = implementations.everything(options.implementations, options.workloads)
    plan = planning.make(
        suites.get(_SUITE),
        table,
        planning.Selection(only=options.only, cases=(options.case,)),
        Settings(device="cpu" if device == "tpu" else device, threads=threads),
        workloads=workloads,
    )
    (case,) = plan.cases
    # No plan of a run covers a TPU: there the capture says what cannot run.
    chosen = plan.implementations if device == "tpu" else plan.implementations_of(case)
    skipped = [] if device == "tpu" else [(each.implementation, each.message) for each in plan.skipped]
    calls = options.calls or capture.Options.calls
    taken = collection.take(
        case,
        chosen,
        device=device,
        directory=collection.DEFAULT_ROOT / collection.plain(case.group, device),
        options=capture.Options(calls=calls, threads=threads, stacks=options.stacks),
        progress=progress,
    )
    return dataclasses.replace(taken, failures=[*skipped, *taken.failures])


def _schedule(options: argparse.Namespace, progress: Callable[[str], None]) -> _Outcome:
    from fuseproof import files, implementations
    from fuseproof.cases import Case
    from fuseproof.commands.terminal import fit
    from fuseproof.profiling.capture import collection
    from fuseproof.profiling.pages import tpu_schedule_page

    case, target = Case.from_group(options.case), str(options.target)
    name = collection.plain(case.group, target)
    table = implementations.table(options.implementations)
    schedules = tpu_schedule_page.compile_schedules(
        case,
        target,
        _to_compile([each for each in table if each.workload == case.workload.name], options.only),
        folder=collection.DEFAULT_ROOT / name,
        progress=progress,
    )
    page = options.output or Path(f"profile-{name}.html")
    files.write_text(page, schedules.to_html())
    return _json(schedules.to_json()) if options.json else fit(schedules.to_text()), page, False


def _to_compile(known: Sequence[Implementation], only: Sequence[str]) -> list[Implementation]:
    """Those in `only`; by default those of the suite, those the TPU compiler takes, and the user's."""
    from fuseproof import implementations, suites

    require_known("implementation", only, sorted(each.name for each in known))
    if only:
        return [each for each in known if each.name in only]
    usual, builtin = suites.get(_SUITE).only, implementations.table()
    return [each for each in known if each.name in usual or "tpu" in each.devices or each not in builtin]


def _refuse_what_captures_fix(options: argparse.Namespace, folder: Path) -> None:
    given = {
        "--target": options.target,
        "--device": options.device,
        "--calls": options.calls,
        "--threads": options.threads,
        "--stacks": options.stacks or None,
        "--implementations": options.implementations or None,
    }
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise UserError(
            f"{folder} holds captures, which are drawn as they are: leave out {', '.join(names)}, "
            "or name a case to capture it anew"
        )


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
