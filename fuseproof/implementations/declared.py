"""The implementations and workloads that users' modules declare, read in a process of their own.

Importing such a module runs its code. In the process that plans, judges and writes the results it could
change all three, so only plain data comes back from here: `python -m fuseproof.implementations.declared`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from fuseproof.child_process import PlainError, Process, ProcessDied, serve
from fuseproof.errors import UserError
from fuseproof.implementations.implementation import Implementation
from fuseproof.implementations.loading import load, resolve
from fuseproof.workloads.declared import Declared
from fuseproof.workloads.operators import Operator

_TIMEOUT = 600.0  # seconds; the module may import a framework


def read(
    references: Sequence[str], workloads: Sequence[str] = ()
) -> tuple[list[Implementation], list[Declared]]:
    """What `module:NAME` or `path/to/file.py:NAME` of each reference declares.

    workloads: references to workloads; without `:NAME`, to all workloads and implementations of a module or a
        file. Raises UserError.
    """
    named = ", ".join((*references, *workloads))
    process = Process(
        "fuseproof.implementations.declared",
        name="the import of users' modules",
        environment={},
        detached=True,
    )
    try:
        process.send({"references": list(references), "workloads": list(workloads)})
        answer = process.receive(_TIMEOUT)
    except ProcessDied as death:
        raise UserError(f"{named}: {death}") from None
    finally:
        process.close()
    if "ok" not in answer:
        raise UserError(str(answer.get("error") or answer.get("skipped")))
    try:
        return (
            [
                Implementation.from_json({**fields, "outside": True})
                for fields in answer["ok"]["implementations"]
            ],
            [msgspec.convert(fields, Declared) for fields in answer["ok"]["workloads"]],
        )
    except (TypeError, KeyError, msgspec.ValidationError) as error:  # code there may have written anything
        raise UserError(f"{named} declare what is neither implementation nor workload ({error})") from None


def _declared(request: dict[str, Any]) -> dict[str, Any]:
    found: list[Implementation] = []
    workloads: list[Declared] = []
    try:
        for reference in request["references"]:
            found += _in(reference)
        for reference in request["workloads"]:
            more, declared = _workloads_in(reference)
            found += more
            workloads += declared
    except UserError as error:
        raise PlainError(str(error)) from None
    return {
        "implementations": [each.to_json() for each in dict.fromkeys(found)],
        "workloads": [each.to_json() for each in workloads],
    }


def _workloads_in(reference: str) -> tuple[list[Implementation], list[Declared]]:
    """The workloads that a reference names, and the implementations of them beside them."""
    place, colon, attribute = reference.rpartition(":")
    whole = not colon or not attribute.isidentifier()
    place = reference if whole else place
    module = load(place)
    beside = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    if whole:
        workloads = {
            name: value for name, value in beside.items() if _is_workload(value) and _is_of(value, module)
        }
        if not workloads:
            raise UserError(f"{place} defines no workload: no subclass of fuseproof.Operator")
    else:
        value = resolve(reference)
        several = value if isinstance(value, tuple | list) else (value,)
        if not several or not all(_is_workload(each) for each in several):
            raise UserError(
                f"{reference} is no workload: neither a subclass of fuseproof.Operator nor several"
            )
        names = {id(each): name for name, each in beside.items()}
        workloads = {names.get(id(each), attribute): each for each in several}
    declared = [Declared.of(value, f"{_absolute(place)}:{name}") for name, value in workloads.items()]
    known = {each.name for each in declared}
    return (
        [
            _with_absolute_target(each, place)
            for value in beside.values()
            for each in (value if isinstance(value, tuple | list) else (value,))
            if isinstance(each, Implementation) and (whole or each.workload in known)
        ],
        declared,
    )


def _is_workload(value: object) -> bool:
    if isinstance(value, type):
        return issubclass(value, Operator) and value is not Operator
    return isinstance(value, Operator)


def _is_of(value: object, module: ModuleType) -> bool:
    """Whether a module defines the value itself; what it imports is not its own."""
    return not isinstance(value, type) or value.__module__ == module.__name__


def _absolute(place: str) -> str:
    return str(Path(place).absolute()) if place.endswith((".py", ".pickle")) else place


def _in(reference: str) -> list[Implementation]:
    found = resolve(reference)
    added = (found,) if isinstance(found, Implementation) else found
    if not isinstance(added, tuple | list) or not all(isinstance(each, Implementation) for each in added):
        raise UserError(f"{reference} is not a tuple of fuseproof.Implementation")
    return [_with_absolute_target(each, reference.rpartition(":")[0]) for each in added]


def _with_absolute_target(implementation: Implementation, declared_in: str) -> Implementation:
    """With an absolute path, because a run may be resumed in, and start workers from, another folder.

    A target without a place, `:function`, is in the module that declares it.
    """
    place, _, attribute = implementation.target.rpartition(":")
    place = place or declared_in
    if not place.endswith((".py", ".pickle")):
        return replace(implementation, target=f"{place}:{attribute}")
    if not Path(place).is_file():
        raise UserError(f"{implementation.workload} {implementation.name}: no such file: {place}, its target")
    return replace(implementation, target=f"{Path(place).absolute()}:{attribute}")


if __name__ == "__main__":
    serve(_declared)
