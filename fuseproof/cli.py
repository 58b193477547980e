"""The command line. Every command imports what it needs when it is called, so `--help` stays fast."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fuseproof.errors import UserError

if TYPE_CHECKING:
    from fuseproof.runs.directory import RunDirectory
    from fuseproof.runs.records import Run

# The shell's convention for a program ended by SIGINT.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. A UserError becomes one line on standard error and exit code 2."""
    try:
        options = _parser().parse_args(arguments)
        code: int = options.command(options)
    except UserError as error:
        print(f"fuseproof: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stderr.close()
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fuseproof",
        description="Does compiling and fusing make this faster, here, and why?",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="measure a suite", description=_run.__doc__)
    run.set_defaults(command=_run)
    run.add_argument("suite", nargs="?", metavar="SUITE", help="see `fuseproof list` (default: demo)")
    run.add_argument(
        "--resume", nargs="?", const="", metavar="RUN", help="finish a run (default: the newest)"
    )
    run.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: .fuseproof/runs/<id>")
    what = run.add_argument_group("what to measure (comma-separated; default: all of the suite)")
    what.add_argument(
        "--only", type=_names, default=(), metavar="IMPL", help="implementations (and baselines), or all"
    )
    what.add_argument("--operator", type=_names, default=(), metavar="NAME")
    what.add_argument("--dtype", type=_names, default=(), metavar="NAME")
    what.add_argument("--pass", type=_names, default=(), dest="passes", metavar="NAME")
    what.add_argument("--cache", type=_names, default=(), metavar="warm,cold")
    what.add_argument(
        "--case", action="append", default=[], metavar="CASE", help="instead of the suite's cases"
    )
    what.add_argument(
        "--implementations", action="append", default=[], metavar="MODULE:NAME", help="add rows of your own"
    )
    what.add_argument(
        "--null", action="store_true", help="add an identical twin of each implementation (A/A)"
    )
    how = run.add_argument_group("how to measure")
    how.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    how.add_argument("--threads", type=_positive, metavar="N", help="CPU threads (default: all usable cores)")
    how.add_argument("--seed", type=_seed, default=0, metavar="N")
    how.add_argument(
        "--blocks", type=_positive, metavar="N", help="fresh processes, at least this many times"
    )
    how.add_argument("--max-blocks", type=_positive, metavar="N")
    how.add_argument("--palindromes", type=_positive, metavar="N", help="of each case in a block, at least")
    how.add_argument(
        "--precision", type=_fraction, metavar="2%", help="stop when all intervals are this narrow"
    )
    how.add_argument(
        "--no-profile", action="store_true", help="do not count each implementation's kernels afterwards"
    )
    how.add_argument("--quiet", action="store_true", help="no progress")

    report = commands.add_parser("report", help="write the report of runs", description=_report.__doc__)
    report.set_defaults(command=_report)
    _add_runs(report)
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: report.html, or the terminal"
    )
    report.add_argument(
        "--format", choices=("html", "md", "json"), help="default: by FILE's ending, else html"
    )

    claims = commands.add_parser("claims", help="check published claims", description=_claims.__doc__)
    claims.set_defaults(command=_claims)
    _add_runs(claims)
    claims.add_argument("--claims", type=Path, metavar="FILE", help="a TOML file of claims instead of ours")
    claims.add_argument(
        "--estimates",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also judge what `compile --target tpu-… --without-fusion --json` printed; alone without RUN",
    )
    claims.add_argument("--json", action="store_true")
    claims.add_argument("--require", metavar="VERDICT", help="exit with 1 unless every row has this verdict")

    gate = commands.add_parser("gate", help="is HEAD slower than BASE?", description=_gate.__doc__)
    gate.set_defaults(command=_gate)
    gate.add_argument("base", metavar="BASE", help="run directory, file, or quoted glob of files")
    gate.add_argument("head", metavar="HEAD")
    gate.add_argument("--margin", type=_fraction, default=0.02, metavar="2%", help="tolerated slowdown")
    gate.add_argument("--json", action="store_true")
    gate.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML")
    gate.add_argument("--summary", type=Path, metavar="FILE", help="also append Markdown, for a CI summary")

    compilation = commands.add_parser(
        "compile", help="ahead of time, for hardware that is not here", description=_compile.__doc__
    )
    compilation.set_defaults(command=_compile)
    compilation.add_argument(
        "--target",
        type=_names,
        required=True,
        metavar="NAME,...",
        help="sm_80, sm_90, sm_100; tpu-v5e, tpu-v5p, tpu-v6e",
    )
    compilation.add_argument("--operator", type=_names, default=(), metavar="NAME,...")
    compilation.add_argument("--case", action="append", default=[], metavar="CASE", help="(TPU)")
    compilation.add_argument(
        "--only",
        type=_names,
        default=(),
        metavar="IMPL",
        help="implementations, or all; the usual if none (TPU)",
    )
    compilation.add_argument("--implementations", action="append", default=[], metavar="MODULE:NAME")
    compilation.add_argument("--dtype", type=_names, default=(), metavar="NAME,...", help="(GPU)")
    compilation.add_argument(
        "--launch", type=_names, default=(), metavar="TEXT,...", help="launches whose label has it (GPU)"
    )
    compilation.add_argument(
        "--update-budget", action="store_true", help="pin what is found in kernels/triton/budget.toml (GPU)"
    )
    compilation.add_argument("--quiet", action="store_true", help="print only what is wrong (GPU)")
    compilation.add_argument(
        "--topology", default="1x1", metavar="1x1|2x2|4x4", help="chips to shard over (TPU)"
    )
    compilation.add_argument("--schedule", action="store_true", help="also what runs when")
    compilation.add_argument(
        "--without-fusion",
        action="store_true",
        help="also compile without the fusion passes, for `claims --estimates` (TPU)",
    )
    compilation.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="keep the compiler's files here"
    )
    compilation.add_argument("--json", action="store_true")

    fusion = commands.add_parser(
        "fusion", help="what compilers fused, and what that saved", description=_fusion.__doc__
    )
    fusion.set_defaults(command=_fusion)
    fusion.add_argument("cases", nargs="*", metavar="CASE", help="layer_norm[512x768-float32-forward]")
    fusion.add_argument(
        "--run", type=Path, metavar="RUN", help="account for what a run measured; its report shows it"
    )
    fusion.add_argument(
        "--only", type=_names, default=(), metavar="IMPL", help="implementations, compiled ones"
    )
    fusion.add_argument("--implementations", action="append", default=[], metavar="MODULE:NAME")
    fusion.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    fusion.add_argument("--threads", type=_positive, metavar="N")
    fusion.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: .fuseproof/fusion/<time>")
    fusion.add_argument("--json", action="store_true")

    profile = commands.add_parser(
        "profile", help="what runs in a call, side by side", description=_profile.__doc__
    )
    profile.set_defaults(command=_profile)
    profile.add_argument(
        "case", metavar="CASE", help="layer_norm[512x768-float32-forward], or a directory of captures"
    )
    profile.add_argument(
        "--only", type=_names, default=(), metavar="IMPL", help="implementations (and baselines)"
    )
    profile.add_argument("--implementations", action="append", default=[], metavar="MODULE:NAME")
    profile.add_argument("--device", choices=("cpu", "cuda", "tpu"), help="default: cpu")
    profile.add_argument(
        "--target", metavar="NAME", help="tpu-v5e, tpu-v5p or tpu-v6e: no TPU needed, the compiler's plan"
    )
    profile.add_argument("--calls", type=_positive, metavar="N", help="profiled calls (default: 5)")
    profile.add_argument("--threads", type=_positive, metavar="N", help="CPU threads (default: all)")
    profile.add_argument("--stacks", action="store_true", help="Python frames too; slows every call")
    profile.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html", help="default: profile-<case>-<device>.html"
    )
    profile.add_argument("--json", action="store_true", help="print what the page says")

    timeline = commands.add_parser(
        "timeline", help="show traces of any profiler side by side", description=_timeline.__doc__
    )
    timeline.set_defaults(command=_timeline)
    timeline.add_argument(
        "traces",
        nargs="+",
        type=Path,
        metavar="TRACE",
        help="Kineto JSON, XPlane, torch memory snapshot, plain or gzip; or a directory with such files",
    )
    timeline.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html", help="write one offline HTML page"
    )
    timeline.add_argument("--json", action="store_true", help="print what devices and allocators did")
    timeline.add_argument("--perfetto", type=Path, metavar="FILE", help="also write Perfetto TrackEvents")

    listing = commands.add_parser("list", help="suites, shapes, implementations", description=_list.__doc__)
    listing.set_defaults(command=_list)
    listing.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    listing.add_argument("--implementations", action="append", default=[], metavar="MODULE:NAME")
    listing.add_argument("--json", action="store_true")

    doctor = commands.add_parser(
        "doctor", help="is this machine fit to measure?", description=_doctor.__doc__
    )
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("--json", action="store_true")
    return parser


def _run(options: argparse.Namespace) -> int:
    """Measure a suite. Interrupt it at any time: what is finished is kept, --resume goes on from there."""
    from rich.console import Console

    from fuseproof.commands import doctor
    from fuseproof.measure import runner
    from fuseproof.measure.progress import LineProgress, LiveProgress
    from fuseproof.profiling.capture import stage

    directory = _directory(options)
    console = Console(quiet=options.quiet, stderr=True)
    for finding in doctor.examine():
        if finding.status == "warning":
            console.print(
                f"{finding.name}: {finding.found}; {finding.remedy}", highlight=False, soft_wrap=True
            )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if console.is_terminal and not options.quiet:
            with LiveProgress(console) as progress:
                run = runner.run(directory, progress, stage)
        else:
            run = runner.run(directory, LineProgress(console), stage)
    except KeyboardInterrupt:
        resume = shlex.join(["fuseproof", "run", "--resume", str(directory.path)])
        print(
            f"\nstopped; what is measured is kept in {directory.path}\ncontinue with: {resume}",
            file=sys.stderr,
        )
        return _INTERRUPTED
    _summarise(run, directory)
    return 0


def _directory(options: argparse.Namespace) -> RunDirectory:
    from fuseproof import implementations, suites
    from fuseproof.measure import planning
    from fuseproof.runs import environment
    from fuseproof.runs.directory import RunDirectory

    if options.resume is not None:
        if options.suite:
            raise UserError("--resume finishes a run as it was planned; leave out the suite")
        return RunDirectory.open_unfinished(Path(options.resume) if options.resume else None)
    suite = suites.get(options.suite or "demo")
    usable = len(environment.usable_cpus())
    threads = options.threads or usable
    if threads > usable:
        raise UserError(f"--threads {threads} is more than the {usable} usable cores")
    settings = planning.settings_for(
        suite,
        device=options.device,
        threads=threads,
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


def _summarise(run: Run, directory: RunDirectory) -> None:
    from fuseproof.reports import claims

    for row in claims.evaluate([run]):
        print(claims.verdict_sentence(row))
    for failure in run.failures:
        if failure.kind == "error":
            print(f"FAILED {failure.group} {failure.implementation}: {failure.message}", file=sys.stderr)
    for note in run.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"run: {directory.path}")
    print(f"report: fuseproof report {shlex.quote(str(directory.path))}")


def _report(options: argparse.Namespace) -> int:
    """Write one self-contained HTML file, or Markdown or JSON, about one or several runs."""
    from fuseproof.reports import report

    runs = _load_runs(options.runs)
    endings = {".html": "html", ".htm": "html", ".md": "md", ".json": "json"}
    output: Path | None = options.output
    chosen = options.format or (endings.get(output.suffix.lower(), "html") if output else "html")
    text = report.render(report.summarise(runs, beside=output.parent if output else None), chosen)
    if output is None and chosen != "html":
        sys.stdout.write(text)
        return 0
    output = output or Path("report.html")
    _write(output, text)
    print(f"report: {output.resolve()}")
    return 0


def _claims(options: argparse.Namespace) -> int:
    """Print whether the data support published claims such as "torch.compile gives 30-60 %"."""
    from fuseproof.reports import claims
    from fuseproof.reports.claims import reductions

    if options.require is not None and options.require not in claims.VERDICTS:
        raise UserError(f"unknown verdict {options.require!r}; there are {', '.join(claims.VERDICTS)}")
    estimates = [reductions.load_estimates(path) for path in options.estimates]
    runs = _load_runs(options.runs) if options.runs or not estimates else []
    rows = claims.evaluate(runs, options.claims, estimates=estimates)
    if options.json:
        print(json.dumps([row.to_json() for row in rows], indent=1, allow_nan=False))
    else:
        sys.stdout.write(claims.render_text(rows))
    if options.require is None:
        return 0
    return 0 if rows and all(row.verdict == options.require for row in rows) else 1


def _gate(options: argparse.Namespace) -> int:
    """Compare two runs: 0 pass, 1 confirmed regression, 2 bad input, 3 inconclusive."""
    from fuseproof.reports import gate
    from fuseproof.reports.gate import junit
    from fuseproof.runs import run_file

    try:
        result = gate.compare(
            run_file.load_all(options.base), run_file.load_all(options.head), margin=options.margin
        )
    except UserError as error:
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
        _write(options.summary, gate.render_markdown(result), append=True)
    return result.exit_code


def _compile(options: argparse.Namespace) -> int:
    """Compile for hardware that need not be here; every figure is an estimate of the compiler."""
    from rich.console import Console

    from fuseproof.commands import compile as compile_command
    from fuseproof.profiling.ahead_of_time.request import Request

    with Console(stderr=True).status("compiling") as status:
        request = Request(
            targets=options.target,
            operators=options.operator,
            cases=tuple(options.case),
            dtypes=options.dtype,
            only=options.only,
            launches=options.launch,
            extra=tuple(options.implementations),
            topology=options.topology,
            schedule=options.schedule,
            without_fusion=options.without_fusion,
            update_budget=options.update_budget,
            quiet=options.quiet,
            output=options.output,
            progress=lambda what: status.update(f"compiling {what}"),
        )
        text, code = compile_command.run(request, as_json=options.json)
    sys.stdout.write(text)
    return code


def _fusion(options: argparse.Namespace) -> int:
    """What compiling changed: kernels, fusions, bytes and peak memory, eager against compiled."""
    from rich.console import Console

    from fuseproof.commands import fusion as fusion_command

    with Console(stderr=True).status("compiling") as status:
        text, code = fusion_command.run(
            options.cases,
            of_run=options.run,
            only=options.only,
            extra=options.implementations,
            device=options.device,
            threads=options.threads,
            output=options.output,
            as_json=options.json,
            progress=lambda what: status.update(f"compiling {what}"),
        )
    sys.stdout.write(text)
    return code


def _profile(options: argparse.Namespace) -> int:
    """Profile each implementation of a case in a process of its own; timelines and memory in one HTML page.

    Interrupt it at any time: what is captured is shown.
    """
    from rich.console import Console

    from fuseproof.commands import profile as profile_command

    request = profile_command.Request(
        case=options.case,
        only=options.only,
        extra=options.implementations,
        device=options.device,
        target=options.target,
        calls=options.calls,
        threads=options.threads,
        stacks=options.stacks,
        output=options.output,
    )
    console = Console(stderr=True)
    doing = "profiling" if options.target is None else "compiling"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with console.status(doing) as status:

            def progress(what: str) -> None:
                if console.is_terminal:
                    status.update(f"{doing} {what}")
                else:
                    console.print(f"{doing} {what}", highlight=False, markup=False, soft_wrap=True)

            outcome = profile_command.run(request, as_json=options.json, progress=progress)
    except KeyboardInterrupt:
        print("\nstopped before anything was captured", file=sys.stderr)
        return _INTERRUPTED
    sys.stdout.write(outcome.text)
    print(f"profile: {outcome.page.resolve()}", file=sys.stderr if options.json else sys.stdout)
    return _INTERRUPTED if outcome.stopped else 0


def _timeline(options: argparse.Namespace) -> int:
    """Read traces of torch, JAX or TensorFlow: a summary, one HTML page for all, or Perfetto's format."""
    from fuseproof.profiling import readers
    from fuseproof.profiling.analysis import summary

    timelines = [timeline for path in options.traces for timeline in readers.load_all(path)]
    if options.perfetto is not None:
        from fuseproof.profiling.pages import perfetto

        perfetto.write(timelines, options.perfetto)
    if options.output is not None:
        from fuseproof.profiling.pages import timeline_page

        _write(options.output, timeline_page.to_html(timelines))
    if options.json:
        documents = [summary.document(timeline) for timeline in timelines]
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=1, allow_nan=False))
        return 0
    for timeline in timelines:
        sys.stdout.write(summary.render_text(timeline))
    if options.output is not None:
        print(f"timeline: {options.output.resolve()}")
    return 0


def _list(options: argparse.Namespace) -> int:
    """Suites with their cases, operators with their named shapes, implementations and why some cannot run."""
    from fuseproof.commands import list as listing

    document = listing.document(options.implementations, device=options.device)
    print(json.dumps(document, indent=1) if options.json else listing.render_text(document))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    """Look at what would make measurements here wrong or noisy, and what is missing."""
    from fuseproof.commands import doctor

    findings = doctor.examine()
    if options.json:
        print(json.dumps([finding.to_json() for finding in findings], indent=1))
    else:
        print(doctor.render_text(findings))
    return 0


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run directory or file (default: the newest run)"
    )


def _load_runs(given: Sequence[str]) -> list[Run]:
    from fuseproof.runs import run_file
    from fuseproof.runs.directory import DEFAULT_ROOT

    if given:
        return [run_file.load(path) for path in given]
    newest = sorted(DEFAULT_ROOT.glob("*/run.json"))
    if not newest:
        raise UserError(f"no run under {DEFAULT_ROOT}; name one, or measure with `fuseproof run`")
    return [run_file.load(newest[-1].parent)]


def _write(path: Path, text: str, *, append: bool = False) -> None:
    try:
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose a writable place") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _fraction(text: str) -> float:
    """`2%` or `0.02`."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share below 100 %; write it like 2% or 0.02")
    return value


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments as every other bad input: in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


class _Version(argparse.Action):
    """Asks for the version only when it is wanted: looking it up costs more than parsing."""

    def __call__(self, *_: Any) -> None:
        from fuseproof import __version__

        print(f"fuseproof {__version__}")
        raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
