"""The sources of the kernels that Inductor generates, C++ or Triton: their parameters and their loops."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_CPP_PARAMETERS = re.compile(r"void\s+kernel\((.*?)\)", re.DOTALL)
_LAST_WORD = re.compile(r"(\w+)\s*$")


@dataclass(frozen=True, kw_only=True)
class KernelSource:
    """The source of a generated kernel."""

    parameters: tuple[str, ...]
    loop_nests: int | None


def definition(node: ast.stmt) -> Iterator[tuple[str, KernelSource]]:
    """`name = async_compile.cpp_pybinding(types, source)` and `name = async_compile.triton(name, source)`."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
        return
    function, target = dotted(node.value.func), node.targets[0]
    if not function.startswith("async_compile.") or not isinstance(target, ast.Name):
        return
    texts = [a.value for a in node.value.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    text = max(texts, key=len, default="")
    if function.startswith("async_compile.cpp"):
        match = _CPP_PARAMETERS.search(text)
        parts = match[1].split(",") if match else []
        names = tuple(last[1] for part in parts if (last := _LAST_WORD.search(part)))
        yield target.id, KernelSource(parameters=names, loop_nests=_loop_nests(text))
        return
    match = re.search(rf"def {re.escape(texts[0] if texts else target.id)}\((.*?)\):", text, re.DOTALL)
    parts = match[1].split(",") if match else []
    yield (
        target.id,
        KernelSource(parameters=tuple(p.partition(":")[0].strip() for p in parts), loop_nests=None),
    )


def _loop_nests(text: str) -> int:
    """How many loops follow each other in a C++ kernel: the passes over its data.

    Where an outermost loop holds several loops side by side (Inductor fuses the loops over rows), those are
    the passes over a row.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("//", "#"))]
    return _side_by_side(lines)


def _side_by_side(lines: list[str]) -> int:
    bodies = list(_loops(lines))
    return sum(max(1, _side_by_side(body)) for body in bodies)


def _loops(lines: list[str]) -> Iterator[list[str]]:
    """The bodies of the outermost loops in these lines."""
    body: list[str] | None = None
    depth = 0
    for line in lines:
        if body is None:
            if re.match(r"\s*for\s*\(", line):
                body, depth = [], line.count("{") - line.count("}")
            continue
        depth += line.count("{") - line.count("}")
        if depth <= 0 and "}" in line:
            yield body
            body = None
        else:
            body.append(line)


def dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            return f"{dotted(value)}.{attribute}"
    return ""
