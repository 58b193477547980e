"""What all HTML pages share: templates, the style sheet, escaping, embedded data, and what may run."""

from __future__ import annotations

import base64
import hashlib
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


def security_policy(*scripts: str) -> str:
    """The content security policy of a page: these scripts run and no other, and nothing is fetched.

    scripts: the whole text of each `<script>` element, to the last line break.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {sources}"


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
