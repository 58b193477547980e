"""What a speedup is of, on every page: beside it median and mean, and a doubt where they differ."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.pages import Page

from fuseproof.reports import report
from fuseproof.reports.report import wording

NOISE = {"process_noise": 0.004, "round_noise": 0.01}


@pytest.fixture
def run(a_run, a_benchmark):
    """torch.compile as fast as its baseline but for one call of eight; triton without such calls."""
    rng = np.random.default_rng(0)
    baseline, slow, steady = (
        a_benchmark(name, **NOISE, rng=rng) for name in ("torch.eager", "torch.compile", "triton")
    )
    eighth = np.arange(len(slow.seconds)) % 8 == 7
    return a_run([baseline, replace(slow, seconds=np.where(eighth, 5.0, 1.0) * slow.seconds), steady])


def test_the_data_hold_all_three_and_the_doubt(run):
    rows = {row.implementation: row for row in report.summarise([run]).rows}
    slow = rows["torch.compile"]
    assert slow.speedup.value == pytest.approx(1, rel=0.02)
    assert slow.speedup_by_mean.value == pytest.approx(8 / 12, rel=0.02)
    assert slow.doubt is not None and rows["triton"].doubt is None
    assert rows["torch.eager"].speedup_by_mean is None
    document = json.loads(report.render(report.summarise([run]), "json"))
    (written,) = (row for row in document["rows"] if row["implementation"] == "torch.compile")
    assert written["doubt"] == slow.doubt
    assert written["speedup_by_mean"]["value"] == slow.speedup_by_mean.value
    assert written["speedup_by_median"]["low"] == slow.speedup_by_median.low


def test_page_and_markdown_say_what_is_doubted_and_why(run):
    summary = report.summarise([run])
    ((which, why),) = wording.doubts(summary)
    row = next(row for row in summary.rows if row.doubt)
    for text in (Page(report.render(summary, "html")).words, report.render(summary, "md")):
        for expected in (which, why, "1 of 2 speedups doubted", wording.by_rounds(row), "throughput"):
            assert expected in text.replace("\\", "")


def test_nothing_is_said_of_doubt_where_there_is_none(run):
    summary = report.summarise([replace(run, benchmarks=(run.benchmarks[0], run.benchmarks[2]))])
    assert "mean 1.00×" in report.render(summary, "md")
    for text in (Page(report.render(summary, "html")).words, report.render(summary, "md")):
        assert "## Doubted" not in text and "doubted:" not in text
