"""Arguments by name, where a caller gives them by position."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any


def parameters(function: Any) -> list[str]:
    """Names of the parameters that a function takes by position; none if it does not show them."""
    function = getattr(function, "_torchdynamo_orig_callable", function)
    function = getattr(function, "forward", None) or getattr(function, "call", None) or function
    try:
        return [
            each.name
            for each in inspect.signature(function).parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return []


def named(given: Any, names: Sequence[str]) -> dict[str, Any]:
    """A mapping as it is; a tuple, a list or a single argument with these names, then `argument_2`, …"""
    if isinstance(given, Mapping):
        return {str(key): value for key, value in given.items()}
    values = given if isinstance(given, tuple | list) else (given,)
    numbered = (f"argument_{n}" for n in range(len(names), len(values)))
    return dict(zip([*names[: len(values)], *numbered], values, strict=True))
