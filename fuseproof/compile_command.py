"""`fuseproof compile`: what implementations would cost on hardware that need not be here.

A target belongs to the family its name begins with; each family is a module with the functions of `Family`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from fuseproof import implementations, plan, suites
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation

Result = Mapping[str, Any]

# First characters of a target's name, and the module that compiles for it.
FAMILIES: Mapping[str, str] = {"tpu-": "fuseproof.profiling.tpu_static"}


class Family(Protocol):
    """What a module in FAMILIES provides. A result says `status`: `ok`, `skipped` or `failed`."""

    TARGETS: Mapping[str, Any]
    DEFAULT_CASES: Sequence[str]

    def compile_all(
        self,
        targets: Sequence[str],
        cases: Sequence[Case],
        rows: Sequence[Implementation],
        *,
        topology: str,
        output: Path | None,
        progress: Callable[[str], None],
    ) -> list[dict[str, Any]]: ...

    def render_text(self, results: Sequence[Result], *, schedule: bool) -> str: ...


def run(
    targets: Sequence[str],
    *,
    groups: Sequence[str] = (),
    operators: Sequence[str] = (),
    only: Sequence[str] = (),
    extra: Sequence[str] = (),
    topology: str = "1x1",
    output: Path | None = None,
    schedule: bool = False,
    as_json: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[str, int]:
    """The text to print and the exit code: 0, or 1 if anything did not compile. Raises UserError.

    groups: cases by name; each family has its own if there are none. operators, only: of those cases and of
    the implementations, these (the usual ones and the user's own if none is named). extra: further rows, as in `implementations.table`.
    """
    table = implementations.table(extra)
    _known("implementation", only, [plan.ALL, *(row.name for row in table)])
    chosen_rows = plan.wanted(table, only, usual=suites.USUAL)
    rows = [row for row in table if (row.operator, row.name) in chosen_rows]
    results: list[dict[str, Any]] = []
    texts = []
    for family, names in _by_family(targets).items():
        cases = [Case.from_group(group) for group in groups or family.DEFAULT_CASES]
        _known("operator", operators, [case.operator.name for case in cases])
        chosen = [case for case in cases if not operators or case.operator.name in operators]
        found = family.compile_all(names, chosen, rows, topology=topology, output=output, progress=progress)
        results += found
        if not as_json:
            texts.append(family.render_text(found, schedule=schedule))
    if not results:
        raise UserError("nothing to compile: no implementation of these cases matches; see `fuseproof list`")
    text = json.dumps(results, indent=1, allow_nan=False) + "\n" if as_json else "\n".join(texts)
    return text, 1 if any(result["status"] == "failed" for result in results) else 0


def _by_family(targets: Sequence[str]) -> dict[Family, list[str]]:
    modules = {prefix: cast(Family, importlib.import_module(name)) for prefix, name in FAMILIES.items()}
    chosen: dict[Family, list[str]] = {}
    for target in dict.fromkeys(targets):
        module = next((m for m in modules.values() if target in m.TARGETS), None)
        if module is None:
            known = ", ".join(name for m in modules.values() for name in m.TARGETS)
            raise UserError(f"unknown target {target!r}; there are {known}")
        chosen.setdefault(module, []).append(target)
    return chosen


def _known(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"unknown {kind} {name!r}; there are {', '.join(dict.fromkeys(known))}")
