"""What a report says of claims that it cannot decide, and of the counts behind those that it can."""

import re

import pytest
from support.runs import OPERATORS

from fuseproof.reports import report

NOISE = {"process_noise": 0.002, "round_noise": 0.004, "legs": 6, "rounds": 2, "operators": OPERATORS}


@pytest.mark.parametrize("format", ["html", "md"])
def test_each_format_has_the_counts_and_what_is_not_decided(a_run, comparisons, format):
    text = report.render(report.summarise([a_run(comparisons([1.45] * 6, **NOISE))]), format)
    text = re.sub(r"\\(?=[^\w\s])", "", text.replace("\u00a0", " ")).replace("&#34;", '"')
    assert "On this machine torch.compile made 6 of 6 cases faster than torch.eager by 30–60 %" in text
    assert (
        "the first result of a fresh process”: no time to a first result was measured; add --first-result"
        in text
    )


def test_a_claim_without_an_upper_limit_draws_no_band(a_run, comparisons):
    run = a_run(comparisons([1.2] * 6, pair=("tf.eager", "torch.eager"), **NOISE))
    summary = report.summarise([run])
    assert [claim.row.verdict for claim in summary.claims] == ["supported"]
    page = report.render(summary, "html")
    assert "over 1.00×" in page and "claimed-1" not in page.split("</style>")[1]


def test_a_page_of_many_claims_has_a_colour_for_each_band_that_is_drawn(a_run, comparisons):
    run = a_run(
        [
            *comparisons([1.4] * 6, pass_="inference", device="cuda", **NOISE),
            *comparisons([1.4] * 6, pass_="training_step", device="cuda", **NOISE),
        ]
    )
    summary = report.summarise([run])
    assert len({claim.row.claim for claim in summary.claims}) >= 6
    drawn = {int(n) for n in re.findall(r"claimed-(\d+)", report.render(summary, "html"))}
    assert drawn == {1, 2, 3}


def test_the_json_format_lists_what_is_not_decided(a_run, comparisons):
    summary = report.summarise([a_run(comparisons([1.45] * 6, **NOISE))])
    assert [undecided.run for undecided in summary.undecided] == [0]
    assert '"undecided"' in report.render(summary, "json")
