"""Text of files, messages and names, made safe for each place that we write it to.

It is never trusted: whoever names a benchmark or raises an exception chooses the text. HTML is escaped by its
templates (`offline_page`); every other format escapes here and nowhere else.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters but tab and line feed, and the invisible ones that turn text around or hide it: bidi
# marks, overrides and isolates, Unicode's line separators, tag characters. Lone surrogates cannot be encoded.
_HIDDEN: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff"
    "\U000e0000-\U000e007f]"
)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
# CI systems obey lines of a log that begin with `::` (GitHub) and `##[` anywhere in a line (GitHub, Azure).
_COMMAND: Final = re.compile(r"^((?:\s|\x1b\[[0-9;]*m)*):(?=:)", re.MULTILINE)
# What Markdown means something by: anywhere; in an address or a command; at the beginning of a line.
_PUNCTUATION: Final = re.compile(
    r"[\\`*_\[\]|~$]|!(?=\[)|(?<=\])\(|:(?=//|:)|(?<=www)\.|^[-+#=]|(?<=^\d)[.)]"
)
_PLAIN: Final = re.compile(r"[\w.,;:/+%=*\-\[\]{}() ~@#$&^?'\"]+")
_LINK: Final = re.compile(r"\]\(|://|www\.|::")


def visible(text: str) -> str:
    r"""`text` with hidden characters as their escapes, such as `\x1b`; lines and tabs stay.

    What comes out can be encoded, is legal in XML, and shows in the order in which it is stored.
    """
    text = _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
    return text.replace("##[", "# #[")


def line(text: str) -> str:
    """`visible` text on one line, its white space single."""
    return visible(" ".join(text.split()))


def terminal(text: str, *, colours: bool = False) -> str:
    """What a terminal or a log of CI may show: nothing in it moves the cursor or gives a command.

    colours: `text` was coloured by us, after what is in it was made `visible`; the colours stay.
    """
    pieces = _COLOUR.split(text) if colours else [text]
    kept = [*(_COLOUR.findall(text) if colours else ()), ""]
    shown = "".join(visible(piece) + colour for piece, colour in zip(pieces, kept, strict=True))
    return _COMMAND.sub(r"\1: ", shown)


def markdown(text: str) -> str:
    """`text` as itself in Markdown, on one line, also in a table: no tag, link, image or mention."""
    text = _PUNCTUATION.sub(r"\\\g<0>", line(text))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"@(?=\w)", "@\N{WORD JOINER}", text)


def markdown_code(text: str) -> str:
    """A name or a command as a code span, also in the cell of a table.

    Text that a code span cannot hold, or that would look like a tag or a link there, is escaped instead.
    """
    text = line(text)
    if _PLAIN.fullmatch(text) and not _LINK.search(text):
        return f"`{text}`"
    return markdown(text)
