"""Whose framework a tensor and a function are of, as far as they show it. Imports none."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import CodeType, ModuleType
from typing import Any

# By the package that a type or a module belongs to.
_FRAMEWORK_OF: Mapping[str, str] = {
    "torch": "torch",
    "triton": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "flax": "jax",
    "equinox": "jax",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
}


def tensor(given: Any) -> str:
    """The framework of a tensor; empty for NumPy's arrays and what is no tensor."""
    return _FRAMEWORK_OF.get(type(given).__module__.partition(".")[0], "")


def function(given: Any) -> str:
    """The one framework whose objects the function is or names; empty if there is none, or several."""
    for kind in type(given).__mro__:
        if found := _FRAMEWORK_OF.get(kind.__module__.partition(".")[0], ""):
            return found
    if hasattr(given, "_torchdynamo_orig_callable"):
        return "torch"
    named = {_FRAMEWORK_OF[top] for top in packages(given) if top in _FRAMEWORK_OF}
    return named.pop() if len(named) == 1 else ""


def packages(given: Any) -> set[str]:
    """Top-level packages that a function's names are of, and those of functions that it calls."""
    while hasattr(given, "__wrapped__"):
        given = given.__wrapped__
    return _packages(getattr(given, "func", given))  # of a functools.partial


def _packages(function: Any, depth: int = 2) -> set[str]:
    code = getattr(function, "__code__", None)
    if code is None:
        own = type(function).__call__ if not inspect.isroutine(function) else None
        return _packages(own, depth) if hasattr(own, "__code__") else {_top(function)}
    names = set(_names(code))
    values = [getattr(function, "__globals__", {}).get(name) for name in names]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            continue
    found = {name for name in names if name in _FRAMEWORK_OF}
    for value in values:
        if value is None:
            continue
        found.add(_top(value))
        if depth and hasattr(value, "__code__"):
            found |= _packages(value, depth - 1)
    return found


def _top(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0]
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0]


def _names(code: CodeType) -> set[str]:
    found = set(code.co_names)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found |= _names(each)
    return found
