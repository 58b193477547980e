"""Text that fits the terminal: nothing is lost, tables stay tables."""

from __future__ import annotations

import pytest
from support.command_line import longest

from fuseproof.commands.terminal import fit, hanging, width
from fuseproof.units import count

NAMES = ("torch.compile-composed", "jax.jit")


def table(*rows):
    return "\n".join(f"  {row[0]:24}" + "".join(f"{cell:>19}" for cell in row[1:]) for row in rows)


def test_the_width_is_that_of_the_terminal_or_80(monkeypatch):
    assert width() == 80
    monkeypatch.setenv("COLUMNS", "40")
    assert width() == 40
    monkeypatch.delenv("COLUMNS")
    assert width() > 0


def test_what_fits_is_left_as_it_is():
    text = "a\n\n  b   c   d   e\n" + "x" * 80 + "\n"
    assert fit(text) == text


def test_into_a_pipe_lines_go_whole(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    line = "OVER BUDGET: " + "word " * 60
    assert fit(line) == line


def test_a_wide_table_is_broken_at_one_column():
    rows = [("", "kernels", "operations", "MB moved", "peak MB")]
    rows += [(name, "9 → 1", "10 → 12", "12.23 → 3.45", "-") for name in NAMES]
    lines = fit(table(*rows)).split("\n")
    assert longest("\n".join(lines)) <= 80
    assert len(lines) == 6
    assert [line[:26].strip() for line in lines[::2]] == ["", *NAMES]
    for part in (lines[::2], lines[1::2]):
        assert len({len(line) for line in part}) == 1, "figures stand below each other, right-aligned"
    assert lines[1].split() == ["MB", "moved", "peak", "MB"]
    assert [line.split() for line in lines[3::2]] == [["12.23", "→", "3.45", "-"]] * 2


def test_a_table_much_too_wide_is_broken_several_times(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    row = ("name", *(f"figure{number}" for number in range(9)))
    lines = fit(table(row, row)).split("\n")
    assert longest("\n".join(lines)) <= 40
    assert "".join("".join(lines).split()) == "".join(row) * 2


@pytest.mark.parametrize("words", [["word"] * 60, ["a-path/" * 30], ["short", "a-path/" * 30, "short"]])
def test_a_sentence_is_broken_between_words(words):
    lines = fit("  " + " ".join(words)).split("\n")
    assert " ".join(lines).split() == words
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in lines)
    assert all(line.startswith("      ") for line in lines[1:])


def test_a_paragraph_hangs_below_its_heading():
    lines = hanging("heading: ", "word " * 40).split("\n")
    assert lines[0].startswith("heading: word") and longest("\n".join(lines)) <= 80
    assert all(line.startswith(" " * 9 + "word") for line in lines[1:])
    short = hanging("heading: ", "word " * 40, lines=2).split("\n")
    assert len(short) == 2 and short[1].endswith(" …")


def test_a_count_has_its_noun():
    assert [count(number, "case") for number in (0, 1, 2000)] == ["0 cases", "1 case", "2,000 cases"]
