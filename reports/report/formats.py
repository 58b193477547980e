"""The formats of a report: functions from a Summary to text, by name in FORMATS."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol

from fuseproof.errors import UserError
from fuseproof.reports.report.html.render import to_html
from fuseproof.reports.report.markdown import to_markdown
from fuseproof.reports.report.summary import Summary


class Format(Protocol):
    """How a summary becomes one text document."""

    def __call__(self, summary: Summary, /) -> str: ...


def render(summary: Summary, format: str) -> str:
    """`summary` as html, md or json. Raises UserError for any other format."""
    if format not in FORMATS:
        raise UserError(f"unknown report format {format!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[format](summary)


def to_json(summary: Summary) -> str:
    """Every field of the summary; what is unbounded or unknown is null, so that any JSON reader takes it."""
    return json.dumps(_plain(summary), allow_nan=False, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name.removesuffix("_"): _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


FORMATS: Mapping[str, Format] = {"html": to_html, "md": to_markdown, "json": to_json}
