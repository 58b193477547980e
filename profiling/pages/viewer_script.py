"""The viewer's ES modules joined into one script for a page: neither users nor browsers need a bundler.

The modules in `html/` keep to a small dialect, which Node and linters read as it stands. An import names what
it takes (`import { a, b } from "./c.js";`) and renames nothing, an export stands before its declaration, and
modules do not import each other in a circle. No two declare the same name at top level: joined, all of them
share the scope of one function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from fuseproof import offline_page

_FOLDER: Final = "fuseproof.profiling.pages.html"
_IMPORT: Final = re.compile(r'^import \{[\w\s,]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_RENAMED: Final = re.compile(r"^import \{[^}]*\bas\b[^}]*\}", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async function|function|class|const|let) )", re.MULTILINE)
_DECLARED: Final = re.compile(r"^(?:async function|function|class|const|let) (\w+)", re.MULTILINE)
_OTHER: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


@cache
def viewer_script() -> str:
    """What stands between the script tags of a page."""
    return join("viewer.js", lambda name: offline_page.read(_FOLDER, name))


def join(entry: str, read: Callable[[str], str]) -> str:
    """The module `entry` and all that it imports, each after its own imports, in the scope of one function.

    `read` gives the text of a module by its file name. Raises ValueError for text outside the dialect.
    """
    joined: dict[str, str] = {}
    declared: dict[str, str] = {}

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"modules import each other: {' → '.join((*importers, name))}")
        if name in joined:
            return
        text = read(name)
        if not _RENAMED.search(text):
            for imported in _IMPORT.findall(text):
                add(imported, (*importers, name))
            text = _EXPORT.sub("", _IMPORT.sub("", text))
        if found := _OTHER.search(text):
            raise ValueError(f"{name}: cannot join {found[0]!r}; the docstring of {__name__} says what can")
        for one in _DECLARED.findall(text):
            if one in declared:
                raise ValueError(f"{declared[one]} and {name} both declare {one}")
            declared[one] = name
        joined[name] = text

    add(entry, ())
    return '"use strict";\n(() => {\n' + "\n".join(joined.values()) + "})();"
