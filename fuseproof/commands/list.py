"""What there is to measure, and what cannot run here and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuseproof import implementations, suites
from fuseproof.measure.planning import reason_to_skip
from fuseproof.workloads.operators import OPERATORS


def document(extra: Sequence[str], *, device: str) -> dict[str, Any]:
    """Suites, operators and implementations as plain data; `extra` are further rows, `module:NAME`."""
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
                "operator": row.operator,
                "name": row.name,
                "target": row.target,
                "baseline": row.baseline,
                "passes": list(row.passes),
                "not_here": reason_to_skip(row, probe[row.operator], device),
            }
            for row in implementations.table(extra)
        ],
    }


def render_text(document: dict[str, Any]) -> str:
    def width(rows: str) -> int:
        return max(len(row["name"]) for row in document[rows])

    lines = ["SUITES"]
    for suite in document["suites"]:
        name = f"{suite['name']:{width('suites')}}"
        lines.append(f"  {name} {len(suite['cases']):3} cases  {suite['summary']}")
    lines.append("\nOPERATORS (shape, then named shapes)")
    for operator in document["operators"]:
        lines.append(f"  {operator['name']}: {operator['shape']}")
        lines += [f"    {name:18} {label}" for name, label in operator["named_shapes"].items()]
    lines.append("\nIMPLEMENTATIONS")
    for operator in document["operators"]:
        lines.append(f"  {operator['name']}")
        for row in document["implementations"]:
            if row["operator"] == operator["name"]:
                state = f"cannot run here: {row['not_here']}" if row["not_here"] else ", ".join(row["passes"])
                lines.append(f"    {row['name']:{width('implementations')}} {state}")
    return "\n".join(lines)
