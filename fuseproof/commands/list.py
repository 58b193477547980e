"""List suites, operators with named shapes, and implementations, with the reason if one cannot run here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

from fuseproof.commands import arguments

HELP = "suites, shapes, implementations"
_NAME_COLUMNS = 32  # longer names of implementations move what follows them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_device(parser)
    arguments.add_implementations(parser)
    arguments.add_json(parser)


def run(options: argparse.Namespace) -> int:
    document = _document(options.implementations, device=options.device)
    print(json.dumps(document, indent=1) if options.json else "\n".join(_lines(document)))
    return 0


def _document(added: Sequence[str], *, device: str) -> dict[str, Any]:
    """The lists as plain data; `added` are the user's implementations, as `module:NAME`."""
    from fuseproof import implementations, suites
    from fuseproof.measure.planning import reason_to_skip
    from fuseproof.workloads.operators import OPERATORS

    loaded = [suites.get(name) for name in suites.names()]
    probe = {case.operator.name: case for suite in loaded for case in suite.cases if case.pass_ == "forward"}
    return {
        "suites": [
            {"name": suite.name, "summary": suite.summary, "cases": [case.group for case in suite.cases]}
            for suite in loaded
        ],
        "operators": [
            {"name": name, "shape": operator.label_example, "named_shapes": dict(operator.named_shapes)}
            for name, operator in OPERATORS.items()
        ],
        "implementations": [
            {
                "operator": each.operator,
                "name": each.name,
                "target": each.target,
                "baseline": each.baseline,
                "passes": list(each.passes),
                "not_here": reason_to_skip(each, probe[each.operator], device),
            }
            for each in implementations.table(added)
        ],
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    from fuseproof.commands.terminal import hanging

    width = max(len(suite["name"]) for suite in document["suites"])
    yield "SUITES"
    for suite in document["suites"]:
        heading = f"  {suite['name']:{width}} {len(suite['cases']):3} cases  "
        yield hanging(heading, suite["summary"])
    yield "\nOPERATORS (shape, then named shapes)"
    for operator in document["operators"]:
        yield f"  {operator['name']}: {operator['shape']}"
        for name, label in operator["named_shapes"].items():
            yield hanging(f"    {name:18} ", label)
    yield "\nIMPLEMENTATIONS (passes, or why it cannot run here)"
    for operator in document["operators"]:
        yield f"  {operator['name']}"
        for each in document["implementations"]:
            if each["operator"] == operator["name"]:
                state = f"no: {each['not_here']}" if each["not_here"] else ", ".join(each["passes"])
                yield hanging(f"    {each['name']:{_NAME_COLUMNS}} ", state, indent=_NAME_COLUMNS + 5)
