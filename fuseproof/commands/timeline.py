"""Read traces of PyTorch, JAX or TensorFlow: a summary, one HTML page for all, or Perfetto's format."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fuseproof.commands import arguments

HELP = "show traces of any profiler side by side"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "traces",
        nargs="+",
        type=Path,
        metavar="TRACE",
        help="Kineto JSON, XPlane or torch memory snapshot, plain or gzip; or a directory of such files",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="write one offline HTML page")
    arguments.add_json(parser, "print what devices and allocators did as JSON")
    parser.add_argument(
        "--perfetto", type=Path, metavar="FILE", help="also write TrackEvents, which Perfetto opens"
    )


def run(options: argparse.Namespace) -> int:
    from fuseproof import files
    from fuseproof.commands.terminal import fit
    from fuseproof.profiling import readers
    from fuseproof.profiling.analysis import summary

    timelines = [timeline for path in options.traces for timeline in readers.load_all(path)]
    if options.perfetto is not None:
        from fuseproof.profiling.writers import perfetto

        perfetto.write(timelines, options.perfetto)
    if options.output is not None:
        from fuseproof.profiling.pages import timeline_page

        files.write_text(options.output, timeline_page.to_html(timelines))
    if options.json:
        documents = [summary.document(timeline) for timeline in timelines]
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=1, allow_nan=False))
        return 0
    for timeline in timelines:
        sys.stdout.write(fit(summary.render_text(timeline)))
    if options.output is not None:
        print(f"timeline: {options.output.resolve()}")
    return 0
