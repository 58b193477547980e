"""The program of an XLA-compiled implementation, from its HLO before and after optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fuseproof.errors import UserError
from fuseproof.fusion.programs import hlo, operations
from fuseproof.fusion.programs.operations import Operation, Reading

_NAMES = {"before": "HLO before optimisation", "after": "HLO after optimisation"}


def read(texts: Mapping[str, str], folder: Path) -> Reading:
    """texts: HLO by `before` and `after`, which is kept in `folder` even where it cannot be read."""
    artifacts: dict[str, str] = {}
    found: dict[str, tuple[Operation, ...]] = {}
    unknown: dict[str, str] = {}
    for stage, text in texts.items():
        name = f"{stage}_optimisation.hlo.txt"
        (folder / name).write_text(text, encoding="utf-8")
        artifacts[_NAMES[stage]] = name
        try:
            module = hlo.parse(text, source=f"the {_NAMES[stage]}")
        except UserError as error:
            unknown[stage] = str(error)
            continue
        found[stage] = operations.operations_of(module)
        if operations.has_loop(module):
            unknown[f"bytes_{stage}"] = (
                "the program has a loop or branch; how often it runs is not in its text"
            )
    return Reading(before=found.get("before"), after=found.get("after"), artifacts=artifacts, unknown=unknown)
