"""In a notebook, Markdown and a terminal every figure has its interval, and what was wrong a reason."""

from __future__ import annotations

import re

import pytest
from support import browser as browsers
from support.pages import HOSTILE, Page
from support.runs import make_benchmark, make_comparisons, make_run

from fuseproof.api import Comparison, display
from fuseproof.runs.records import Failure, Run

GROUP = "layer_norm[64x64-float32-forward]"
FORMS = {
    "html": lambda comparison: Page(comparison._repr_html_()).words,
    "markdown": lambda comparison: comparison._repr_markdown_().replace("\\", ""),
    "text": repr,
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def failure(implementation="torch.bad", message="it is wrong", **more):
    fields = {"group": GROUP, "implementation": implementation, "kind": "error", "stage": "check"}
    return Failure(**{**fields, "message": message, **more})


def pair(**more):
    return [
        make_benchmark("torch.eager", seconds=2e-3, process_noise=0.05, **more),
        make_benchmark("torch.compile", seconds=1e-3, round_noise=0.01, **more),
    ]


@every_form
def test_every_figure_has_its_interval(form):
    text = form(Comparison(make_run(pair())))
    (speedup,) = re.findall(r"[\d.]+× \[[\d.]+–[\d.]+\]", text)
    value, low, high = map(float, re.findall(r"[\d.]+", speedup))
    assert low < value < high
    assert len(re.findall(r"\d [mµ]s \[[\d.,]+–[\d.,]+\]", text)) == 2
    assert "against torch.eager" in " ".join(text.replace("|", " against ").split())


@every_form
def test_one_block_says_that_it_has_no_interval(form):
    text = form(Comparison(make_run(pair(blocks=1))))
    assert text.count("(one block: no interval)") == 3


@every_form
def test_a_wrong_result_has_its_reason_and_no_speedup(form):
    fast = make_benchmark("torch.bad", seconds=1e-4)
    text = form(Comparison(make_run([*pair(), fast], failures=[failure()])))
    assert "FAILED torch.bad at check" in text and "it is wrong" in text
    assert "20.0×" not in text and text.count("torch.bad") == 1


@every_form
def test_nothing_but_failures_is_shown_too(form):
    failures = [failure(), failure("x", kind="skipped", stage="plan")]
    text = form(Comparison(make_run([], failures=failures)))
    assert "FAILED torch.bad" in text and "skipped x at plan" in text and "×" not in text


@every_form
def test_several_cases_have_a_geometric_mean(form):
    text = form(Comparison(make_run(make_comparisons([2.0, 8.0]))))
    assert "geometric mean of 2 cases, forward" in text and "4.00× [4.00–4.00]" in text


@every_form
def test_a_run_that_was_stopped_says_so_first(form):
    text = form(Comparison(make_run(pair(blocks=3), complete=False)))
    assert text.index("Incomplete run: it was stopped after 3 blocks.") < text.index("torch.eager")


@every_form
def test_notes_and_caveats_are_shown(form):
    run = make_run(pair(blocks=2))
    text = form(Comparison(Run(**{**vars(run), "notes": ("the profile failed",)})))
    assert "note: the profile failed" in text and "Fewer than 5 blocks" in text


@every_form
def test_a_doubted_speedup_is_said_with_its_reason(form):
    """One round of eight takes ten times as long, which the fast rounds do not show."""
    baseline, candidate = pair()
    candidate.seconds[7::8] *= 10
    text = form(Comparison(make_run([baseline, candidate])))
    assert "doubted: torch.compile vs torch.eager" in text.replace("\\", "") and "by their mean" in text
    assert "doubted:" not in form(Comparison(make_run(pair())))


@every_form
def test_what_is_too_long_for_a_cell_is_counted(form, monkeypatch):
    monkeypatch.setattr(display, "MOST_LINES", dict.fromkeys(display.MOST_LINES, 5))
    text = form(Comparison(make_run(make_comparisons([2.0] * 4, blocks=2, legs=2))))
    assert "… and 3 more measurements" in text
    assert text.count("1.00 ms") + text.count("2.00 ms") == 5


@every_form
def test_hostile_names_are_only_text(form):
    hostile = HOSTILE + "\x1b[31m\n# x | y"
    run = make_run(pair(case=f"a[b-c-d]{hostile}"), failures=[failure(hostile, hostile, group=hostile)])
    comparison = Comparison(Run(**{**vars(run), "suite": hostile, "notes": (hostile,)}))
    assert "alert(1)" in form(comparison)
    page = Page(comparison._repr_html_())
    assert page.scripts == [] and {"img"} & {tag for tag, _ in page.elements} == set()
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\x1b" not in repr(comparison)
    assert "<" not in comparison._repr_markdown_() and "\x1b" not in comparison._repr_markdown_()


def test_the_html_is_a_fragment_that_fetches_nothing_and_styles_only_itself():
    page = Page(Comparison(make_run(pair()))._repr_html_())
    assert {tag for tag, _ in page.elements}.isdisjoint({"html", "body", "script", "link", "iframe", "img"})
    assert not [value for name, value in page.attributes if name in ("src", "href")]
    (style,) = page.styles
    assert "url(" not in style and "@import" not in style
    for rule in style.strip().splitlines():
        selectors = rule.partition("{")[0].split(",")
        assert all(each.strip().startswith(".fuseproof-comparison") for each in selectors), rule


def test_a_mark_shows_whether_the_interval_leaves_one():
    def marks(eager, compiled):
        benchmarks = [
            make_benchmark("torch.eager", seconds=eager, process_noise=0.05),
            make_benchmark("torch.compile", seconds=compiled, round_noise=0.001),
        ]
        page = Page(Comparison(make_run(benchmarks))._repr_html_())
        return [attributes["class"] for tag, attributes in page.elements if tag == "svg"]

    assert (marks(2e-3, 1e-3), marks(1e-3, 2e-3), marks(1e-3, 1e-3)) == (["faster"], ["slower"], ["even"])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_marks_stand_out_in_a_notebook(browser, tmp_path, dark):
    shown = Comparison(make_run(pair()))._repr_html_()
    colours = "#111; color: #ddd" if dark else "#fff; color: #111"
    (tmp_path / "cell.html").write_text(f"<!doctype html><body style='background: {colours}'>{shown}")
    with browsers.open_page(browser, (tmp_path / "cell.html").as_uri(), dark=dark) as (page, log):
        circle = page.eval_on_selector("circle", "e => getComputedStyle(e).fill")
        text = page.eval_on_selector(".fuseproof-comparison td", "e => getComputedStyle(e).color")
        assert circle == "rgb(47, 134, 201)"
        assert text == ("rgb(221, 221, 221)" if dark else "rgb(17, 17, 17)")
        assert log.errors == []
