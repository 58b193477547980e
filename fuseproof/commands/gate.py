"""Compare two runs for CI. Exit code 0: pass, 1: confirmed regression, 2: bad input, 3: inconclusive."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fuseproof.commands import arguments

HELP = "is HEAD slower than BASE?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help="run directory, file, or quoted glob of files")
    parser.add_argument("head", metavar="HEAD", help="the same")
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


def run(options: argparse.Namespace) -> int:
    from fuseproof import files
    from fuseproof.reports import gate
    from fuseproof.reports.gate import accepted, junit
    from fuseproof.runs import merging

    margin = {} if options.margin is None else {"margin": options.margin}
    try:
        base, head = merging.load_all(options.base), merging.load_all(options.head)
        known = accepted.NOTHING if options.accept is None else accepted.load(options.accept)
        result = gate.compare(base, head, anchored=not options.absolute, known=known, **margin)
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
