"""The table with the implementations that users add, and the functions that targets name."""

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

# Modules of `fuseproof` that targets in old run directories and captures name, and where their functions are.
_MOVED: Mapping[str, str] = {
    **{
        f"fusion.{name}_ops": f"fusion.ops.{name}"
        for name in ("torch", "jax", "tensorflow", "keras", "triton", "helion")
    },
    "fusion.peers": "fusion.ops.peers",
    **{
        f"kernels.triton.{name}": "kernels.triton"
        for name in ("attention", "matmul", "layer_norm", "rms_norm")
    },
}


def table(extra: Iterable[str] = ()) -> tuple[Implementation, ...]:
    """The built-in implementations, then those that users add, which are named as `module:NAME`.

    Users add them by an entry point of an installed package, in the pyproject.toml of the working directory,
    and by `extra`. Raises UserError for a reference that does not resolve, for two implementations of one
    name, and for an operator or a baseline that does not exist.
    """
    # Imported here, because at the top they would slow down `--help`.
    from importlib.metadata import entry_points

    from fuseproof.workloads import operators

    references = [
        *(point.value for point in entry_points(group="fuseproof.implementations")),
        *_pyproject_references(),
        *extra,
    ]
    implementations = list(IMPLEMENTATIONS)
    for reference in references:
        found = resolve(reference)
        added = (found,) if isinstance(found, Implementation) else found
        if not isinstance(added, tuple | list) or not all(isinstance(each, Implementation) for each in added):
            raise UserError(f"{reference} is not a tuple of fuseproof.Implementation")
        implementations += [_with_absolute_target(each) for each in added]
    names: set[tuple[str, str]] = set()
    for each in implementations:
        operators.get(each.operator)
        if (each.operator, each.name) in names:
            raise UserError(f"two implementations of {each.operator} are named {each.name!r}; rename one")
        names.add((each.operator, each.name))
    for each in implementations:
        if (each.operator, each.baseline) not in names:
            raise UserError(
                f"{each.operator} {each.name}: no implementation of {each.operator} is named "
                f"{each.baseline!r}, its baseline"
            )
    return tuple(implementations)


def _with_absolute_target(implementation: Implementation) -> Implementation:
    """With an absolute path, because a run may be resumed in, and start workers from, another folder."""
    place, _, attribute = implementation.target.rpartition(":")
    if not place.endswith(".py"):
        return implementation
    if not Path(place).is_file():
        raise UserError(f"{implementation.operator} {implementation.name}: no such file: {place}, its target")
    return replace(implementation, target=f"{Path(place).absolute()}:{attribute}")


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


def current_module(name: str) -> str:
    """The module that has the functions of the module `name` of any version."""
    package, _, module = name.partition(".")
    return f"{package}.{_MOVED.get(module, module)}" if package == "fuseproof" and module else name


def _import(name: str) -> ModuleType:
    # A user's module lies in the working directory, which the `fuseproof` script does not put on the path.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(current_module(name))


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
        del sys.modules[name]  # else the next reference to this file would find the half that was executed
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
