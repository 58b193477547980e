"""Nested arguments and results as flat names: `{"block": {"weight": w}, "x": x}` has `block.weight` and `x`.

A skeleton is plain data of the same nesting with a name in the place of each tensor, so that it can be
written down and filled again. A list in a skeleton stands for a list, {"tuple": [...]} for a tuple,
{"dict": {...}} for a dictionary, and {"value": v} for what is no tensor: a number, a truth, a text, None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

OUTPUT = "output"

Skeleton = Any


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The tensors by name; what is none, such as None, has no name."""
    return {name: leaf for name, leaf in _leaves(tree, prefix) if is_tensor(leaf)}


def skeleton(tree: Any, prefix: str = "") -> Skeleton:
    """The nesting of a tree, with names for its tensors."""
    if isinstance(tree, Mapping):
        return {"dict": {str(key): skeleton(value, _joined(prefix, key)) for key, value in tree.items()}}
    if isinstance(tree, list | tuple):
        parts = [skeleton(value, _joined(prefix, index)) for index, value in enumerate(tree)]
        return parts if isinstance(tree, list) else {"tuple": parts}
    return prefix if is_tensor(tree) else {"value": tree}


def fill(nesting: Skeleton, leaves: Mapping[str, Any]) -> Any:
    """The tree of a skeleton with these leaves. Raises KeyError for a name that is not among them."""
    if isinstance(nesting, str):
        return leaves[nesting]
    if isinstance(nesting, list):
        return [fill(each, leaves) for each in nesting]
    if "value" in nesting:
        return nesting["value"]
    if "tuple" in nesting:
        return tuple(fill(each, leaves) for each in nesting["tuple"])
    return {key: fill(each, leaves) for key, each in nesting["dict"].items()}


def names(nesting: Skeleton) -> Iterator[str]:
    """The names of the tensors in a skeleton, in order."""
    if isinstance(nesting, str):
        yield nesting
    elif isinstance(nesting, list):
        for each in nesting:
            yield from names(each)
    elif "value" not in nesting:
        for each in nesting["tuple"] if "tuple" in nesting else nesting["dict"].values():
            yield from names(each)


def results(raw: Any) -> dict[str, Any]:
    """What a call returned, by name: a single tensor is `output`, those of a tuple `output_0`, `output_1`, …,
    those of a dictionary have its keys. What is no tensor stays, to be refused; None is no result.
    """
    if isinstance(raw, Mapping):
        found = dict(_leaves(raw, ""))
    elif isinstance(raw, list | tuple):
        found = {
            name: leaf
            for index, value in enumerate(raw)
            for name, leaf in _leaves(value, f"{OUTPUT}_{index}")
        }
    else:
        return {OUTPUT: raw}
    return {name: leaf for name, leaf in found.items() if leaf is not None}


def is_tensor(leaf: Any) -> bool:
    """Whether it is an array of any library."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, _joined(prefix, key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _leaves(value, _joined(prefix, index))
    else:
        yield prefix, tree


def _joined(prefix: str, key: object) -> str:
    return f"{prefix}.{key}" if prefix else str(key)
