"""Write one page about one or several runs: HTML that needs no network, Markdown or JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuseproof.commands import arguments

HELP = "write the report of runs"
_FORMATS = {".html": "html", ".htm": "html", ".md": "md", ".json": "json"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_runs(parser)
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
    from fuseproof import files
    from fuseproof.reports import report

    runs = arguments.load_runs(options.runs)
    output: Path | None = options.output
    chosen = options.format or (_FORMATS.get(output.suffix.lower(), "html") if output else "html")
    text = report.render(report.summarise(runs, beside=output.parent if output else None), chosen)
    if output is None and chosen != "html":
        sys.stdout.write(text)
        return 0
    output = output or Path("report.html")
    files.write_text(output, text)
    print(f"report: {output.resolve()}")
    return 0
