"""`fuseproof.compare` for tests of what is made of its result: times that the functions name themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from support.runs import make_benchmark, make_run

from fuseproof.api.comparison import Comparison
from fuseproof.errors import UserError
from fuseproof.runs.records import Failure

# In the current folder: the name and the arguments of each call, a line each.
LOG = "compared.jsonl"


def compare(
    functions: Mapping[str, Callable[..., Any]],
    *,
    name: str,
    inputs: Any,
    baseline: str,
    reference: Any,
    directory: Path,
    **settings: Any,
) -> Comparison:
    """A run of what the functions have for attributes.

    `seconds` of a call and `noise` of the blocks; or `wrong`, `skipped` or `refused`, with the message.
    """
    said = {"name": name, "baseline": baseline, "functions": [*functions], **settings}
    with Path(LOG).open("a") as log:
        log.write(json.dumps({**said, "inputs": str(inputs), "reference": bool(reference)}) + "\n")
    group = f"{name}[3x5-float32-forward]"
    benchmarks, failures = [], []
    for number, (key, function) in enumerate(functions.items()):
        given = vars(function)
        if "refused" in given:
            raise UserError(given["refused"])
        for kind, what in (("error", "wrong"), ("skipped", "skipped")):
            if what in given:
                failures.append(
                    Failure(group=group, implementation=key, kind=kind, stage="check", message=given[what])
                )
        if not {"wrong", "skipped"} & set(given):
            benchmarks += [
                make_benchmark(
                    key,
                    seconds=given["seconds"] * factor,
                    case=group,
                    metric=metric,
                    blocks=settings.get("blocks", 5),
                    legs=4,
                    process_noise=given.get("noise", 0.0),
                    rng=np.random.default_rng(number),
                    baseline=baseline,
                )
                # As on a GPU: another metric, of which nothing is asked.
                for metric, factor in (("wall", 1), ("device", 7))
            ]
    return Comparison(make_run(benchmarks, failures=failures), directory=directory)
