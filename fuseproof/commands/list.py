"""List suites, workloads with named shapes, and implementations, with the reason if one cannot run here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fuseproof.commands import arguments

if TYPE_CHECKING:
    from fuseproof.implementations import Implementation

HELP = "suites, shapes, implementations"
_NAME_COLUMNS = 32  # longer names of implementations move what follows them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_device(parser)
    arguments.add_implementations(parser)
    arguments.add_workloads(parser)
    arguments.add_json(parser)


def run(options: argparse.Namespace) -> int:
    document = _document(options.implementations, options.workloads, device=options.device)
    print(json.dumps(document, indent=1) if options.json else "\n".join(_lines(document)))
    return 0


def _document(added: Sequence[str], workloads: Sequence[str], *, device: str) -> dict[str, Any]:
    """The lists as plain data; `added` and `workloads` are the user's, as `module:NAME`."""
    from fuseproof import implementations, suites
    from fuseproof.measure.reasons import reason_not_here
    from fuseproof.workloads.builtin import WORKLOADS

    loaded = [suites.get(name) for name in suites.names()]
    table, declared = implementations.everything(added, workloads)
    return {
        "suites": [
            {"name": suite.name, "summary": suite.summary, "cases": list(suite.groups)} for suite in loaded
        ],
        "operators": [
            {"name": name, "shape": operator.label_example, "named_shapes": dict(operator.named_shapes)}
            for name, operator in WORKLOADS.items()
        ]
        + [
            {
                "name": each.name,
                "shape": each.label_example,
                "named_shapes": dict(each.named_shapes),
                "from": each.target,
            }
            for each in declared
        ],
        "implementations": [
            {
                "operator": each.workload,
                "name": each.name,
                "target": each.target,
                "baseline": each.baseline,
                "passes": _passes(each),
                "not_here": reason_not_here(each, device),
                **({"from": each.target} if each.outside else {}),
            }
            for each in table
        ],
    }


def _passes(implementation: Implementation) -> list[str]:
    """Of a module that comes with Fuseproof those that it has; a user's is not looked into here."""
    from fuseproof.workloads.builtin import MODULES

    module = MODULES.get(implementation.workload)
    own = implementation.passes if module is None else module.passes
    return [each for each in own if implementation.takes(each)]


def _lines(document: dict[str, Any]) -> Iterator[str]:
    from fuseproof.commands.terminal import hanging

    width = max(len(suite["name"]) for suite in document["suites"])
    yield "SUITES"
    for suite in document["suites"]:
        heading = f"  {suite['name']:{width}} {len(suite['cases']):3} cases  "
        yield hanging(heading, suite["summary"])
    yield "\nWORKLOADS (shape, then named shapes)"
    for operator in document["operators"]:
        yield f"  {operator['name']}: {operator['shape']}"
        if "from" in operator:
            yield hanging("    from ", operator["from"])
        for name, label in operator["named_shapes"].items():
            yield hanging(f"    {name:18} ", label)
    yield "\nIMPLEMENTATIONS (passes, or why it cannot run here)"
    for operator in document["operators"]:
        yield f"  {operator['name']}"
        for each in document["implementations"]:
            if each["operator"] == operator["name"]:
                state = f"no: {each['not_here']}" if each["not_here"] else ", ".join(each["passes"])
                whence = f"; from {each['from']}" if "from" in each else ""
                heading = f"    {each['name']:{_NAME_COLUMNS}} "
                yield hanging(heading, state + whence, indent=_NAME_COLUMNS + 5)
