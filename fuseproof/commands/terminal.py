"""Text that fits the width of the terminal: COLUMNS, the terminal's own, or 80 where there is none.

What it holds may be anybody's: it only shows, moves no cursor and gives CI no command.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence

from fuseproof import escaping


def width() -> int:
    return shutil.get_terminal_size().columns


def hanging(heading: str, text: str, *, indent: int | None = None, lines: int | None = None) -> str:
    """`heading` and `text`, whose further lines begin below its first, or at column `indent`.

    At most `lines` lines if given: "…" then stands for the rest.
    """
    indent = len(heading) if indent is None else indent
    filled = textwrap.fill(
        escaping.line(text),
        max(width(), indent + 20),
        initial_indent=heading,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        max_lines=lines,
        placeholder=" …",
    )
    return escaping.terminal(filled)


def fit(text: str) -> str:
    """`text` with lines that are too wide broken at spaces; words, such as paths, stay whole.

    Into a pipe or a log of CI lines go whole, so that one line remains one finding, unless COLUMNS is set.

    Lines of a table, those of one paragraph with three or more gaps, are broken at one column, so that what
    stood below each other still does. The rest of a line follows on the next, indented.
    """
    text = escaping.visible(text)
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        limit = width()
        text = "\n\n".join("\n".join(_fit_lines(each.split("\n"), limit)) for each in text.split("\n\n"))
    return escaping.terminal(text)


def _fit_lines(lines: Sequence[str], limit: int) -> list[str]:
    table = [line for line in lines if len(line) > limit and len(re.findall(r"\S {2,}(?=\S)", line)) >= 3]
    pieces = dict(zip(table, _split(table, limit), strict=True))
    return [piece for line in lines for piece in pieces.get(line) or _fit_line(line, limit)]


def _split(lines: Sequence[str], limit: int) -> list[list[str]]:
    """Each line in pieces, all broken at the same columns; what has no common gap is broken line by line."""
    if all(len(line) <= limit for line in lines):
        return [[line.rstrip()] for line in lines]
    first = max(len(line) - len(line.lstrip()) for line in lines) + 1
    gaps = (c for c in range(limit, first, -1) if all(line[c : c + 1] in ("", " ") for line in lines))
    column = next(gaps, None)
    if column is None:
        return [_fit_line(line, limit) for line in lines]
    rest = textwrap.dedent("\n".join(line[column:] for line in lines)).split("\n")
    following = _split([f"    {line}" for line in rest], limit)
    return [
        [line[:column].rstrip(), *(piece for piece in pieces if piece.strip())]
        for line, pieces in zip(lines, following, strict=True)
    ]


def _fit_line(line: str, limit: int) -> list[str]:
    if len(line) <= limit:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line,
        limit,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
