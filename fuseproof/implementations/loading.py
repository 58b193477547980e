"""The table as a run sees it, with the rows that users add, and the functions that its targets name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from fuseproof.errors import UserError
from fuseproof.implementations.builtin import IMPLEMENTATIONS
from fuseproof.implementations.implementation import Implementation

# Modules that targets in old run directories and captures name, and where their functions are now.
_MOVED: Mapping[str, str] = {
    **{
        f"fuseproof.fusion.{name}_ops": f"fuseproof.fusion.ops.{name}"
        for name in ("torch", "jax", "tensorflow", "keras", "triton", "helion")
    },
    "fuseproof.fusion.peers": "fuseproof.fusion.ops.peers",
    **{
        f"fuseproof.kernels.triton.{name}": "fuseproof.kernels.triton"
        for name in ("attention", "matmul", "layer_norm", "rms_norm")
    },
}


def table(extra: Iterable[str] = ()) -> tuple[Implementation, ...]:
    """Our rows, then those of installed packages, of pyproject.toml here, and of `extra` (`module:NAME`).

    Raises UserError for a reference that does not resolve, for two rows of one name, and for a row whose
    operator or baseline does not exist.
    """
    # Here and not at the top, because `--help` would pay for them.
    from importlib.metadata import entry_points

    from fuseproof.workloads import operators

    references = [
        *(point.value for point in entry_points(group="fuseproof.implementations")),
        *_pyproject_references(),
        *extra,
    ]
    rows = list(IMPLEMENTATIONS)
    for reference in references:
        added = resolve(reference)
        added = (added,) if isinstance(added, Implementation) else added
        if not isinstance(added, tuple | list) or not all(isinstance(row, Implementation) for row in added):
            raise UserError(f"{reference} is not a tuple of fuseproof.Implementation rows")
        rows += [_with_absolute_target(row) for row in added]
    seen: set[tuple[str, str]] = set()
    for row in rows:
        operators.get(row.operator)
        if (row.operator, row.name) in seen:
            raise UserError(f"two implementations of {row.operator} are named {row.name!r}; rename one")
        seen.add((row.operator, row.name))
    for row in rows:
        if (row.operator, row.baseline) not in seen:
            raise UserError(
                f"{row.operator} {row.name}: no implementation of {row.operator} is named {row.baseline!r}, "
                "its baseline"
            )
    return tuple(rows)


def _with_absolute_target(row: Implementation) -> Implementation:
    """A run may be resumed, and its workers started, from another folder than this."""
    place, _, attribute = row.target.rpartition(":")
    if not place.endswith(".py"):
        return row
    if not Path(place).is_file():
        raise UserError(f"{row.operator} {row.name}: no such file: {place}, its target")
    return replace(row, target=f"{Path(place).absolute()}:{attribute}")


def resolve(reference: str) -> Any:
    """The attribute that `module:attribute` or `path/to/file.py:attribute` names. Raises UserError."""
    place, _, attribute = reference.rpartition(":")
    if not place or not attribute:
        raise UserError(f"{reference!r} is not module:attribute or file.py:attribute")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"cannot import {place!r} of {reference!r}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{place!r} of {reference!r} failed on import: {type(error).__name__}: {reason}"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UserError(f"{place!r} has no attribute {attribute!r}") from None


def resolve_function(reference: str) -> Callable[..., Any]:
    """As `resolve`, for a target. Raises UserError if it cannot be called."""
    function = resolve(reference)
    if not callable(function):
        raise UserError(f"{reference} is not callable")
    return function  # type: ignore[no-any-return]


def _import(name: str) -> ModuleType:
    name = _MOVED.get(name, name)
    # A user's module lies where they stand; an entry-point script does not put that folder on the path.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    name = f"fuseproof_user_{path.resolve().stem}_{abs(hash(str(path.resolve()))):x}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # else the next row of this file would find the half that was executed
        raise
    return module


def _pyproject_references() -> list[str]:
    path = Path("pyproject.toml")
    if not path.is_file():
        return []
    try:
        section = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("fuseproof", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path.resolve()} is not TOML: {error}") from None
    references = section.get("implementations", [])
    if not isinstance(references, list) or not all(isinstance(r, str) for r in references):
        raise UserError(f"{path.resolve()}: [tool.fuseproof] implementations must be a list of 'module:NAME'")
    return references
