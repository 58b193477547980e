"""The shape of an operator in one word, made of its fields: `rows256_columns1000_causal`.

A whole number stands behind its field's name, a real number and a text behind the name and `=`; a truth is
the field's name alone, or nothing. Built-in operators whose fields are extents have a shorter one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

from fuseproof.errors import UserError

T = TypeVar("T")

FIXED = "fixed"  # the label of an operator without fields

_FORMS: Mapping[type, tuple[str, str]] = {
    int: ("{name}{value}", r"{name}(?P<{name}>\d+)"),
    bool: ("{name}", r"(?P<{name}>{name})"),
    float: ("{name}={value}", r"{name}=(?P<{name}>[-+.\de]+)"),
    str: ("{name}={value}", r"{name}=(?P<{name}>[A-Za-z][\w.]*)"),
}


def of(operator: Any) -> str:
    """The label of an operator, which is a dataclass."""
    parts = []
    for name, kind in _kinds(type(operator)).items():
        value = getattr(operator, name)
        if kind is not bool or value:
            parts.append(_FORMS[kind][0].format(name=name, value=value))
    return "_".join(parts) or FIXED


def parse(cls: type, label: str) -> dict[str, Any] | None:
    """The fields in a label of the class; None for any other text."""
    kinds = _kinds(cls)
    if not kinds:
        return {} if label == FIXED else None
    match = _pattern(cls).fullmatch(f"_{label}")
    if match is None:
        return None
    found = match.groupdict()
    try:
        return {
            name: found[name] is not None if kind is bool else kind(found[name])
            for name, kind in kinds.items()
        }
    except ValueError:
        return None


@lru_cache
def _pattern(cls: type) -> re.Pattern[str]:
    """What matches a label with an underscore before it; the groups are the fields."""
    text = ""
    for name, kind in _kinds(cls).items():
        part = _FORMS[kind][1].format(name=name)
        text += f"(?:_{part})?" if kind is bool else f"_{part}"
    return re.compile(text)


def made(cls: type[T], shape: Mapping[str, Any], *, of: str) -> T:
    """An operator of these fields. Raises UserError, which names it as `of`, for others."""
    kinds = _kinds(cls)
    for name, value in shape.items():
        if name not in kinds:
            raise UserError(f"{of} has no field {name!r}; there are {', '.join(kinds)}")
        if type(value) is not kinds[name] and not (kinds[name] is float and type(value) is int):
            raise UserError(f"{of}: {name} is {value!r}, not of type {kinds[name].__name__}")
        if type(value) is int and value < 1:
            raise UserError(f"{of}: {name} is {value}; every extent must be at least 1")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{of}: {name} is {value}; it must be finite")
    required = [each.name for each in fields(cls) if each.default is MISSING]  # type: ignore[arg-type]
    if absent := [name for name in required if name not in shape]:
        raise UserError(f"{of} lacks {', '.join(absent)}")
    return cls(**{name: kinds[name](value) for name, value in shape.items()})


def example(cls: type) -> str:
    """How a label of the class is written."""
    parts = []
    for name, kind in _kinds(cls).items():
        shown = {int: f"{name}128", bool: f"[{name}]", float: f"{name}=0.5", str: f"{name}=word"}
        parts.append(shown[kind])
    return "_".join(parts) or FIXED


def short(operator: Any) -> str:
    """The extents of an operator, then what is true of it: `1024x768_residual`."""
    values = {name: getattr(operator, name) for name in _kinds(type(operator))}
    extents = "x".join(str(value) for value in values.values() if not isinstance(value, bool))
    return extents + "".join(f"_{name}" for name, value in values.items() if value is True)


def short_pattern(cls: type) -> re.Pattern[str]:
    """What matches such a label; the groups are the fields, all of them extents or truths."""
    kinds = _kinds(cls)
    extents = "x".join(rf"(?P<{name}>\d+)" for name, kind in kinds.items() if kind is int)
    return re.compile(extents + "".join(f"(?P<{n}>_{n})?" for n, kind in kinds.items() if kind is bool))


def short_fields(cls: type, match: re.Match[str]) -> dict[str, Any]:
    """The fields in a match of that pattern."""
    return {
        name: match[name] is not None if kind is bool else int(match[name])
        for name, kind in _kinds(cls).items()
    }


def _kinds(cls: type) -> dict[str, type]:
    """The types of the fields. Raises UserError for one that no label can hold."""
    hints = get_type_hints(cls)
    found = {}
    for each in fields(cls):
        kind = hints[each.name]
        if kind not in _FORMS:
            raise UserError(
                f"{cls.__name__}: the field {each.name} is of {getattr(kind, '__name__', kind)}; as part "
                f"of a case's name it must be {', '.join(form.__name__ for form in _FORMS)}"
            )
        found[each.name] = kind
    return found
