"""What griffe, which reads the sources for the Python API, must know of this project's habits.

The fields that a docstring lists as aligned `name:  text` become a list on the page. The four folders without
`__init__.py` belong to the package, which griffe does not assume of folders within a package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

_FIELD = re.compile(r"(?P<name>[a-z_`][\w`, ]*):\s+(?P<text>\S.*)")


_ROOT = Path(__file__).parents[2]


class Fuseproof(griffe.Extension):
    """Changes what griffe has loaded; the sources stay as they are."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        if pkg.path != "fuseproof":
            return
        for link in sorted((_ROOT / "fuseproof").iterdir()):
            if link.is_symlink():
                pkg.set_member(link.name, loader.load(link.name))

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fields_as_list(obj.docstring.value)


def fields_as_list(docstring: str) -> str:
    """`docstring` with each paragraph that consists of `name: text` entries as a Markdown list."""
    paragraphs = docstring.split("\n\n")
    return "\n\n".join([paragraphs[0], *map(_paragraph, paragraphs[1:])])


def _paragraph(paragraph: str) -> str:
    lines = paragraph.split("\n")
    entries: list[str] = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is not None:
            entries.append(f"- **{match['name'].strip('`')}**: {match['text']}")
        elif entries and line.startswith("  "):
            entries[-1] += " " + line.strip()
        else:  # running text
            return paragraph
    return "\n".join(entries)
