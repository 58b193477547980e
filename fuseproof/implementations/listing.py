"""The table: the implementations that come with Fuseproof, and those that users add."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fuseproof.errors import UserError, require_known
from fuseproof.implementations.builtin import IMPLEMENTATIONS
from fuseproof.implementations.implementation import FRAMEWORKS, Implementation

if TYPE_CHECKING:
    from fuseproof.workloads.declared import Declared


def table(extra: Iterable[str] = ()) -> tuple[Implementation, ...]:
    """The built-in implementations, then those that users add, as `everything` finds them."""
    return everything(extra)[0]


def everything(
    extra: Iterable[str] = (), workloads: Iterable[str] = ()
) -> tuple[tuple[Implementation, ...], tuple[Declared, ...]]:
    """The built-in implementations and those that users add; and the workloads that users add.

    Users add them by an entry point of an installed package, in the pyproject.toml of the working directory,
    and by `extra` and `workloads`, references such as `module:NAME`. Raises UserError for a reference that
    does not resolve, for two implementations or workloads of one name, and for a workload or a baseline that
    does not exist.
    """
    # Imported here, because at the top they would slow down `--help`.
    from importlib.metadata import entry_points

    from fuseproof.implementations import declared
    from fuseproof.workloads.builtin import NAMES

    configured = _configured()
    references = [
        *(point.value for point in entry_points(group="fuseproof.implementations")),
        *configured["implementations"],
        *extra,
    ]
    of_workloads = [
        *(point.value for point in entry_points(group="fuseproof.workloads")),
        *configured["workloads"],
        *workloads,
    ]
    added: list[Implementation] = []
    found: list[Declared] = []
    if references or of_workloads:
        added, found = declared.read(references, list(dict.fromkeys(of_workloads)))
    by_name: dict[str, Declared] = {}
    for workload in found:
        other = by_name.setdefault(workload.name, workload)
        if other is not workload:
            raise UserError(
                f"two workloads are named {workload.name!r}: {other.target} and {workload.target}; rename one"
            )
    require_known("workload", [each.workload for each in added], [*NAMES, *by_name])
    added = [_with_baseline(each, added) if each.workload in by_name else each for each in added]
    implementations = [*IMPLEMENTATIONS, *dict.fromkeys(added)]
    _refuse_same_names(implementations)
    return tuple(implementations), tuple(found)


def _with_baseline(implementation: Implementation, among: Sequence[Implementation]) -> Implementation:
    """Of a user's workload: where there is no default call of its framework, the first implementation of its
    framework is the baseline, else the first of all.
    """
    beside = [each for each in among if each.workload == implementation.workload]
    if any(each.name == implementation.baseline for each in beside):
        return implementation
    if implementation.baseline != FRAMEWORKS[implementation.framework]:
        return implementation  # named by its author, so it is missed
    own = [each for each in beside if each.framework == implementation.framework]
    return replace(implementation, baseline=own[0].name)


def _refuse_same_names(implementations: Sequence[Implementation]) -> None:
    names: set[tuple[str, str]] = set()
    for each in implementations:
        if (each.workload, each.name) in names:
            raise UserError(f"two implementations of {each.workload} are named {each.name!r}; rename one")
        names.add((each.workload, each.name))
    for each in implementations:
        if (each.workload, each.baseline) not in names:
            raise UserError(
                f"{each.workload} {each.name}: no implementation of {each.workload} is named "
                f"{each.baseline!r}, its baseline"
            )


def _configured() -> dict[str, list[str]]:
    """References in the pyproject.toml of the working directory, by what they refer to."""
    found: dict[str, list[str]] = {"implementations": [], "workloads": []}
    path = Path("pyproject.toml")
    if not path.is_file():
        return found
    try:
        section = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("fuseproof", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path.resolve()} is not TOML: {error}") from None
    for key in found:
        references = section.get(key, [])
        if not isinstance(references, list) or not all(isinstance(r, str) for r in references):
            raise UserError(f"{path.resolve()}: [tool.fuseproof] {key} must be a list of 'module:NAME'")
        found[key] = references
    return found
