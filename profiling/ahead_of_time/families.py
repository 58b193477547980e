"""Compiling for several targets: each belongs to a family, a module with the functions of `Family`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol, cast

from fuseproof.errors import UserError
from fuseproof.profiling.ahead_of_time.request import Request

# First characters of a target's name, and the module that compiles for it.
FAMILIES: Mapping[str, str] = {
    "tpu-": "fuseproof.profiling.ahead_of_time.tpu.programs",
    "sm_": "fuseproof.profiling.ahead_of_time.triton.compile_kernels",
}

# The fields of Request that a family may reject, as the user writes them.
_FLAGS: Mapping[str, str] = {
    "cases": "--case",
    "dtypes": "--dtype",
    "only": "--only",
    "launches": "--launch",
    "extra": "--implementations",
    "workloads": "--workloads",
    "topology": "--topology",
    "schedule": "--schedule",
    "without_fusion": "--without-fusion",
    "update_budget": "--update-budget",
    "quiet": "--quiet",
}


class Result(Protocol):
    """The outcome for one program or kernel. status: `ok`, `skipped`, `failed` or `over budget`."""

    @property
    def status(self) -> str: ...

    def to_json(self) -> dict[str, Any]: ...


class Family(Protocol):
    """What a module in FAMILIES provides. TAKES: the fields of Request in _FLAGS that it uses.

    `render` takes what `answer` gave: records of the family's own.
    """

    TARGETS: Mapping[str, Any]
    TAKES: frozenset[str]

    def answer(self, request: Request) -> Sequence[Result]: ...

    def render(self, results: Sequence[Any], request: Request) -> str: ...


def run(request: Request, *, as_json: bool = False) -> tuple[str, int]:
    """The text to print and the exit code: 1 if anything did not compile or is over budget, else 0.

    Raises UserError for an unknown target, and for an option that one of the families does not use.
    """
    families = _by_family(request.targets)
    for family, targets in families.items():
        _refuse_useless(family, targets, request)
    results: list[Result] = []
    texts = []
    for family, targets in families.items():
        own = replace(request, targets=targets)
        found = family.answer(own)
        results += found
        if not as_json:
            texts.append(family.render(found, own))
    if not results:
        raise UserError("nothing to compile: no implementation of these cases matches; see `fuseproof list`")
    text = (
        json.dumps([result.to_json() for result in results], indent=1, allow_nan=False) + "\n"
        if as_json
        else "\n".join(texts)
    )
    return text, 1 if any(result.status in ("failed", "over budget") for result in results) else 0


def _by_family(targets: Sequence[str]) -> dict[Family, list[str]]:
    modules = {prefix: cast(Family, importlib.import_module(name)) for prefix, name in FAMILIES.items()}
    chosen: dict[Family, list[str]] = {}
    for target in dict.fromkeys(targets):
        module = next((m for m in modules.values() if target in m.TARGETS), None)
        if module is None:
            names = ", ".join(name for m in modules.values() for name in m.TARGETS)
            raise UserError(f"unknown target {target!r}; there are {names}")
        chosen.setdefault(module, []).append(target)
    return chosen


def _refuse_useless(family: Family, targets: Sequence[str], request: Request) -> None:
    """Raise UserError for an option that would silently change nothing."""
    for field in fields(Request):
        flag = _FLAGS.get(field.name)
        if flag and field.name not in family.TAKES and getattr(request, field.name) != field.default:
            useful = ", ".join(sorted(_FLAGS[name] for name in family.TAKES))
            raise UserError(f"{flag} means nothing for {', '.join(targets)}; there are --operator, {useful}")
