"""Write one page about one or several runs: HTML that needs no network, Markdown or JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuseproof.commands import arguments

HELP = "write the report of runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_runs(parser)
    arguments.add_baseline(parser, " (default: as the run was asked to)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default: report.html; without it, md and json go to the terminal",
    )
    parser.add_argument(
        "--format", choices=("html", "md", "json"), help="default: by the ending of FILE, else html"
    )


def run(options: argparse.Namespace) -> int:
    from fuseproof.reports import report

    runs = arguments.load_runs(options.runs)
    output: Path | None = options.output
    chosen = options.format or (report.format_of(output) if output else "html")
    if output is None and chosen != "html":
        sys.stdout.write(report.render(report.summarise(runs, baseline=options.baseline), chosen))
        return 0
    written = report.write(runs, output or Path("report.html"), chosen, baseline=options.baseline)
    print(f"report: {written}")
    return 0
