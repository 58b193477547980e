"""Text of others is only text, in every format."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fuseproof import escaping

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![pixel](https://evil.example/p.png)",
    "[click](javascript:alert(1))",
    "https://evil.example www.evil.example <https://evil.example>",
    "a | b | c",
    "first\n| second |\n# third\n\n- fourth",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    "::error file=x::no\n::add-mask::no",
    "##[error]no",
    "\u202eevil\u2066\u061c",
    "\udc80 \ud800",
    "`code` ``` **bold** _it_ ~~no~~ $x$ &amp; &lt;",
    "@alice",
    "    indented",
    "1. one",
    "---",
    "a\\",
    "",
)
ANY = st.sampled_from(HOSTILE) | st.text(st.characters(), max_size=30)
HARMLESS = {"inline", "text", "paragraph_open", "paragraph_close", "code_inline", "softbreak", "text_special"}
CELLS = {
    f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")
}


def tokens(markdown):
    """What a reader of GitHub's Markdown finds in it."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found = parser.parse(markdown)
    return found + [child for token in found for child in token.children or ()]


def is_plain(text):
    """Whether it can be encoded, and a terminal only shows it."""
    text.encode()
    return not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", text)


@given(ANY)
@pytest.mark.parametrize("escape", [escaping.markdown, escaping.markdown_code])
def test_markdown_has_the_text_and_nothing_else(escape, text):
    escaped = escape(text)
    assert is_plain(escaped) and "\n" not in escaped
    assert {token.type for token in tokens(escaped)} <= HARMLESS
    assert "<" not in escaped and not re.search(
        r"^\s*::|##\[|!\[|\]\(|(?<!\\)://|@\w", re.sub("`.*`", "", escaped)
    )
    shown = "".join(t.content for t in tokens(escaped) if t.type in ("text", "code_inline", "text_special"))
    assert shown.replace("\N{WORD JOINER}", "").split() == escaping.line(text).split()


@given(st.lists(ANY, min_size=2, max_size=4))
def test_a_cell_of_a_table_stays_one(texts):
    row = [escaping.markdown(text) if i % 2 else escaping.markdown_code(text) for i, text in enumerate(texts)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in (row, ["---"] * len(row), row))
    found = [token.type for token in tokens(table)]
    assert set(found) <= HARMLESS | CELLS
    assert (found.count("th_open"), found.count("td_open")) == (len(row), len(row))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("layer_norm[512x768-float32-forward]", "`layer_norm[512x768-float32-forward]`"),
        ("fuseproof run 'a[1]' --only x", "`fuseproof run 'a[1]' --only x`"),
        ("test_it[a|b]", r"test\_it\[a\|b\]"),
        ("a`b", r"a\`b"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_a_name_is_code_if_code_can_hold_it(name, code):
    assert escaping.markdown_code(name) == code


@given(ANY)
def test_a_terminal_shows_it_and_a_log_of_ci_obeys_nothing(text):
    shown = escaping.terminal(text)
    assert is_plain(shown)
    assert not re.search(r"^\s*::", shown, re.MULTILINE) and "##[" not in shown


def test_our_colours_stay_and_what_they_hold_does_not():
    coloured = f"\x1b[31m::error::{chr(27)}[2J\x1b[0m ok"
    assert escaping.terminal(coloured, colours=True) == "\x1b[31m: :error::\\x1b[2J\x1b[0m ok"


@given(ANY)
def test_xml_can_hold_it(text):
    element = ElementTree.Element("a", name=escaping.visible(text))
    again = ElementTree.fromstring(ElementTree.tostring(element))
    assert again.get("name") == escaping.visible(text)
