"""Compile for hardware that you do not have. Every figure is an estimate of the compiler, not a measurement.

For a GPU the project's own Triton kernels are compiled and compared with their budget; with --workloads or
--implementations yours are, those that a call of the function launches.

Exit code 1: something does not compile or is over its budget. (GPU) and (TPU) mark what only they take.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuseproof.commands import arguments

HELP = "compile for hardware that you do not have"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        type=arguments.names,
        required=True,
        metavar="NAME,...",
        help="sm_80, sm_90, sm_100; tpu-v5e, tpu-v5p, tpu-v6e",
    )
    arguments.add_names(parser, "--operator", help="default: all")
    arguments.add_cases(parser, "default: a few for each operator (TPU); of your workloads all named shapes")
    arguments.add_only(parser, 'implementations, or "all" (default: the most used (TPU), or all of yours)')
    arguments.add_implementations(parser)
    arguments.add_workloads(parser)
    arguments.add_names(parser, "--dtype", help="default: all (GPU)")
    parser.add_argument(
        "--launch",
        type=arguments.names,
        default=(),
        metavar="TEXT,...",
        help="only launches whose label contains one of these (GPU)",
    )
    parser.add_argument(
        "--update-budget",
        action="store_true",
        help="write the results into kernels/triton/budget.toml instead of comparing them with it (GPU)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print only what is wrong and a line of summary (GPU)"
    )
    parser.add_argument("--topology", metavar="1x1|2x2|4x4", help="chips to shard over (default: 1x1; TPU)")
    parser.add_argument("--schedule", action="store_true", help="also print what runs when (TPU)")
    parser.add_argument(
        "--without-fusion",
        action="store_true",
        help="also compile without the fusion passes, for `fuseproof claims --estimates` (TPU)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="keep the compiler's files in DIR")
    arguments.add_json(parser)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from fuseproof.commands.terminal import fit
    from fuseproof.profiling.ahead_of_time import families
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
            workloads=tuple(options.workloads),
            topology=options.topology or Request.topology,
            schedule=options.schedule,
            without_fusion=options.without_fusion,
            update_budget=options.update_budget,
            quiet=options.quiet,
            output=options.output,
            progress=lambda what: status.update(f"compiling {what}"),
        )
        text, code = families.run(request, as_json=options.json)
    sys.stdout.write(text if options.json else fit(text))
    return code
