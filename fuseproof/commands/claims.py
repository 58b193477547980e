"""Judge published claims, such as "torch.compile gives 30-60 %", by runs or the TPU compiler's estimates."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fuseproof.commands import arguments, completion
from fuseproof.errors import UserError, require_known

HELP = "check published claims against runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_runs(parser)
    parser.add_argument(
        "--claims", type=Path, metavar="FILE", help="a TOML file of claims instead of the built-in ones"
    )
    parser.add_argument(
        "--estimates",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also judge what `fuseproof compile --target tpu-... --without-fusion --json` printed; without "
        "RUN, judge only that",
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="ask instead whether the comparisons are fair: synchronised, same precision, inputs, threads, …",
    )
    arguments.add_json(parser)
    require = parser.add_argument(
        "--require", metavar="VERDICT", help="exit with 1 unless every verdict is this one"
    )
    completion.offer(require, completion.verdicts)


def run(options: argparse.Namespace) -> int:
    from fuseproof.reports import claims
    from fuseproof.reports.claims import audit, reductions

    if options.require is not None:
        require_known("verdict", [options.require], claims.VERDICTS)
    if options.audit:
        if options.require or options.estimates or options.claims:
            raise UserError(
                "--audit is of runs and judges no claim: leave out --require, --estimates, --claims"
            )
        audited = {each.label: audit.audit(each) for each in arguments.load_runs(options.runs)}
        if options.json:
            found = [{"run": run, "checks": [one.to_json() for one in each]} for run, each in audited.items()]
            print(json.dumps(found, indent=1))
        else:
            sys.stdout.write(audit.render(audited))
        return 0
    estimates = [reductions.load_estimates(path) for path in options.estimates]
    runs = arguments.load_runs(options.runs) if options.runs or not estimates else []
    rows = claims.matrix(runs, options.claims, estimates=estimates)
    if options.json:
        print(json.dumps([row.to_json() for row in rows], indent=1, allow_nan=False))
    else:
        sys.stdout.write(claims.render_text(rows))
    if options.require is None:
        return 0
    # What a run cannot decide is no verdict on it, unless that is what is asked for.
    if options.require != claims.UNDECIDABLE:
        rows = [row for row in rows if row.verdict != claims.UNDECIDABLE]
    return 0 if rows and all(row.verdict == options.require for row in rows) else 1
