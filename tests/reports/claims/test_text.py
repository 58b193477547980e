"""Verdicts in words: a table that fits the terminal, one line for each claim, every verdict explained."""

import pytest
from support.command_line import longest
from support.runs import OPERATORS

from fuseproof.reports import claims

COMPOSED = ("torch.eager-composed", "torch.compile-composed")


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_every_verdict_is_explained_in_one_sentence():
    assert tuple(claims.MEANINGS) == claims.VERDICTS
    assert all(meaning and "\n" not in meaning for meaning in claims.MEANINGS.values())


def test_a_sentence_begins_with_its_verdict(a_run, comparisons):
    for row in claims.evaluate([a_run(comparisons([1.05] * 6))]):
        assert claims.verdict_sentence(row).startswith(
            "refuted-low: “torch.compile gives 30–60 %” does not hold"
        )


def test_the_table_fits_80_columns_and_cuts_nothing(a_run, comparisons):
    source = "runs/" + "a-folder-with-a-very-long-name/" * 4
    benchmarks = [
        *comparisons([1.45] * 6, operators=OPERATORS),
        *comparisons([1.05] * 6, pair=COMPOSED, pass_="forward_backward"),
    ]
    text = claims.render_text(claims.evaluate([a_run(benchmarks, source=source)]))
    assert longest(text) <= 80
    unwrapped = "".join(text.split())
    for part in (
        source,
        "torch.compile-composedovertorch.eager-composed",
        "forward_backward,float32,walltime",
    ):
        assert part in unwrapped
    for verdict in ("supported", "refuted-low"):
        assert f"{verdict}: {claims.MEANINGS[verdict]}" in text
    assert "mean-only" not in text, "only the verdicts that occur are explained"


def test_a_wider_terminal_is_used(a_run, comparisons, monkeypatch):
    rows = claims.evaluate([a_run(comparisons([1.45] * 6), source="a-word " * 20)])
    narrow = claims.render_text(rows)
    monkeypatch.setenv("COLUMNS", "200")
    assert len(claims.render_text(rows).splitlines()) < len(narrow.splitlines())


def test_text_shows_names_with_brackets_as_they_are(a_run, comparisons):
    rows = claims.evaluate([a_run(comparisons([1.45] * 6), source="runs/[red]")])
    assert "runs/[red]" in claims.render_text(rows)


def test_the_summary_takes_the_first_comparison_over_all_dtypes(a_run, comparisons):
    benchmarks = [
        *comparisons([1.45] * 5),
        *comparisons([1.05] * 6, dtype="bfloat16"),
        *comparisons([3.0] * 5, pair=COMPOSED),
    ]
    heading, line, *tally = claims.render_summary(claims.evaluate([a_run(benchmarks)])).splitlines()
    assert heading.split()[0] == "verdict"
    assert line.split()[0] == "refuted-low" and line.split()[-2:] == ["11", "torch-compile-30-60"]
    assert " ".join(tally).startswith(
        "First comparison of each claim: torch.compile over torch.eager. All 8: "
    )
    assert longest("\n".join([line, *tally])) <= 80


def test_the_summary_of_nothing_is_empty():
    assert claims.render_summary([]) == ""
