"""All cases together, on every page: failures counted, shares, a flattering mean, families, budget."""

import json
import math

import pytest
from support.pages import HOSTILE, Page

from fuseproof.reports import report
from fuseproof.reports.report import wording
from fuseproof.runs.records import Failure

NOISE = {"process_noise": 0.004, "round_noise": 0.01, "legs": 8, "rounds": 2}


def failed(group, implementation="torch.compile", kind="error"):
    return Failure(group=group, implementation=implementation, kind=kind, stage="check", message="wrong")


@pytest.fixture
def run(a_run, comparisons):
    """Six cases of three operators, a seventh that failed, and one that was skipped."""
    failures = [
        failed("rms_norm[8x8-float32-forward]"),
        failed("softmax[8x8-float32-forward]", kind="skipped"),
    ]
    return a_run(comparisons([0.5, 1.0, 1.4, 1.5, 2.0, 3.0], **NOISE), failures=failures)


def test_every_planned_case_counts_and_a_skipped_one_does_not(run):
    (each,) = report.summarise([run]).populations
    assert (each.means.cases, each.means.failed, each.means.slower, each.families) == (7, 1, 1 + 0, 4)
    counts = [share.count for share in (each.shares.above, each.shares.inside, each.shares.below)]
    assert counts == [4, 1, 1]
    product = 0.5 * 1.0 * 1.4 * 1.5 * 2.0 * 3.0
    assert each.means.all.value == pytest.approx(product ** (1 / 7), rel=0.02)
    assert each.means.measured.value == pytest.approx(product ** (1 / 6), rel=0.02)
    assert each.means.flattering == pytest.approx((2 * product) ** (1 / 6), rel=0.02)
    assert each.budget.shares["cases"] > 0.9


def test_a_case_whose_baseline_failed_counts_too(a_run, comparisons):
    run = a_run(
        comparisons([1.2, 1.3], **NOISE), failures=[failed("rms_norm[8-float32-forward]", "torch.eager")]
    )
    (each,) = report.summarise([run]).populations
    assert (each.means.cases, each.means.failed) == (3, 1)


def test_a_failure_in_another_pass_is_of_another_population(a_run, comparisons):
    other = failed("rms_norm[8-float32-forward_backward]")
    (each,) = report.summarise([a_run(comparisons([1.2, 1.3], **NOISE), failures=[other])]).populations
    assert each.means.failed == 0


def test_one_case_is_no_population(a_run, comparisons):
    assert report.summarise([a_run(comparisons([1.2], **NOISE))]).populations == ()


def test_one_block_has_no_budget_and_no_interval(a_run, comparisons):
    run = a_run(comparisons([1.2, 1.3], **{**NOISE, "blocks": 1}))
    (each,) = report.summarise([run]).populations
    assert each.budget is None
    assert each.means.over_cases == (0.0, math.inf)
    for format in report.FORMATS:
        assert report.render(report.summarise([run]), format)


def test_all_formats_say_the_same(run):
    summary = report.summarise([run])
    cells = wording.population(summary.populations[0], summary)
    assert len(cells) == len(wording.POPULATION_COLUMNS)
    for text in (Page(report.render(summary, "html")).words, report.render(summary, "md")):
        assert "All cases together" in text
        for cell in cells:
            assert cell.replace("\u00a0", " ") in text.replace("\\", "").replace("\u00a0", " ")
    (written,) = json.loads(report.render(summary, "json"))["populations"]
    assert written["means"]["flattering"] == summary.populations[0].means.flattering
    assert written["shares"]["failed"]["count"] == 1
    assert written["left_out"]["low_without"] == "layer_norm"


def test_names_of_others_are_text(a_run, comparisons):
    pair = ("torch.eager", HOSTILE)
    summary = report.summarise([a_run(comparisons([1.2, 1.3], pair=pair, **NOISE))])
    assert summary.populations
    assert "<img" not in report.render(summary, "md")
    assert not any(tag == "img" for tag, _ in Page(report.render(summary, "html")).elements)
