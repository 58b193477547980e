"""What all HTML pages share: templates beside the code, the style sheet, escaping, embedded data."""

from __future__ import annotations

import json
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup


def read(package: str, name: str) -> str:
    """The text of a file in the folder of `package`."""
    return (files(package) / name).read_text(encoding="utf-8")


def style(package: str, *names: str) -> Markup:
    """The style sheet of every page, then those of one page from the folder of `package`."""
    sheets = [read(__name__, "base.css"), *(read(package, name) for name in names)]
    return Markup("\n".join(sheets))


def templates(package: str) -> Environment:
    """The templates in the folder of `package`: all values are escaped, a missing name is an error."""
    return Environment(
        loader=FunctionLoader(lambda name: read(package, name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embed(value: object) -> Markup:
    """`value` as JSON that no browser can mistake for the end of its script block or for a comment."""
    document = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        document = document.replace(character, f"\\u{ord(character):04x}")
    return Markup(document)
