"""Everything compared with one implementation, whatever its framework: in the run, the report and Python."""

import json
from dataclasses import replace

import pytest

from fuseproof.api.comparison import Comparison
from fuseproof.errors import UserError
from fuseproof.reports import report
from fuseproof.reports.report.html.render import to_html
from fuseproof.runs import run_file, statistics
from fuseproof.runs.records import OWN, Failure

CASE, OTHER = "layer_norm[64x64-float32-forward]", "layer_norm[8x8-float32-forward]"


@pytest.fixture(scope="module")
def run(a_run, a_benchmark):
    """Two frameworks in one case, an A/A twin, and a case that PyTorch has no measurement of."""
    noise = {"process_noise": 0.01, "round_noise": 0.01, "legs": 8, "rounds": 1}
    jax = {"baseline": "jax.eager", "framework": "jax", **noise}
    benchmarks = [
        a_benchmark("torch.eager", seconds=2e-3, **noise),
        a_benchmark("torch.eager-null", seconds=2e-3, **noise),
        a_benchmark("torch.compile", seconds=1e-3, **noise),
        a_benchmark("jax.eager", seconds=4e-3, **jax),
        a_benchmark("jax.jit", seconds=0.5e-3, compile_seconds=3.0, **jax),
        a_benchmark("jax.eager", seconds=4e-3, case=OTHER, **jax),
        a_benchmark("jax.jit", seconds=1e-3, case=OTHER, **jax),
    ]
    failure = Failure(
        group=OTHER, implementation="torch.eager", kind="error", stage="check", message="crashed"
    )
    skipped = Failure(group=CASE, implementation="triton", kind="skipped", stage="plan", message="needs cuda")
    return a_run(benchmarks, failures=[failure, skipped])


def speedups(summary):
    return {
        (row.case.group, row.implementation): round(row.speedup.value, 1)
        for row in summary.rows
        if row.speedup
    }


def test_each_is_compared_with_its_own_unless_another_is_chosen(run):
    own = {(CASE, "torch.compile"): 2.0, (CASE, "jax.jit"): 8.0, (OTHER, "jax.jit"): 4.0}
    assert speedups(report.summarise([run])) == speedups(report.summarise([run], baseline=OWN)) == own
    chosen = {(CASE, "torch.compile"): 2.0, (CASE, "jax.eager"): 0.5, (CASE, "jax.jit"): 4.0}
    assert speedups(report.summarise([run], baseline="torch.eager")) == chosen
    inverse = {(CASE, "torch.eager"): 0.5, (CASE, "jax.eager"): 0.2, (CASE, "jax.jit"): 2.0}
    assert speedups(report.summarise([run], baseline="torch.compile")) == inverse


def test_the_speedup_is_that_of_the_palindromes_that_both_have(run):
    """The legs of all frameworks of a case are of one palindrome: paired, and not a ratio of medians."""
    eager, _, _, _, jit, *_ = run.benchmarks
    expected = statistics.speedup(eager, jit)
    summary = report.summarise([run], baseline="torch.eager")
    (row,) = [r for r in summary.rows if r.implementation == "jax.jit" and r.case.group == CASE]
    assert (row.speedup.value, row.speedup.low, row.speedup.high) == (expected.value, *expected.ci95)
    assert row.break_even_calls.value == statistics.break_even_calls(eager, jit).value


def test_a_case_without_the_baseline_is_said_in_every_format(run):
    summary = report.summarise([run], baseline="torch.eager")
    assert (summary.runs[0].baseline, summary.runs[0].uncompared) == ("torch.eager", (OTHER,))
    says = "Everything is compared with torch.eager; 1 case without it, where nothing is compared"
    assert says in to_html(summary)
    assert says in report.render(summary, "md")
    document = json.loads(report.render(summary, "json"))
    assert document["runs"][0]["uncompared"] == [OTHER]
    (mean,) = [
        m for m in summary.means if m.implementation == "jax.jit" and m.operator is None and not m.dtype
    ]
    assert (mean.baseline, mean.cases) == ("torch.eager", 1)
    assert "is compared with" not in to_html(report.summarise([run]))


def test_twins_and_claims_keep_what_they_compare(run):
    own, chosen = report.summarise([run]), report.summarise([run], baseline="jax.jit")
    assert own.null_control == chosen.null_control
    assert own.claims == chosen.claims and own.claims


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.eagre", r"unknown baseline 'torch\.eagre'.*torch\.eager"),
        ("triton", r"baseline 'triton' was not measured in run: needs cuda"),
        ("torch.eager-null", r"unknown baseline 'torch\.eager-null'"),
    ],
)
def test_what_was_not_measured_is_no_baseline(run, name, message):
    with pytest.raises(UserError, match=message) as caught:
        report.summarise([run], baseline=name)
    assert "\n" not in str(caught.value)


def test_a_run_may_have_been_asked_for_it_and_its_file_keeps_each_one_s_own(run, tmp_path):
    asked = replace(run, settings={"baseline": "torch.eager"})
    file = tmp_path / "run.json"
    file.write_text(json.dumps(run_file.run_to_json(asked)))
    read = run_file.load(file)
    assert [b.baseline for b in read.benchmarks] == [b.baseline for b in run.benchmarks]
    assert speedups(report.summarise([read])) == speedups(report.summarise([run], baseline="torch.eager"))
    assert speedups(report.summarise([read], baseline=OWN)) == speedups(report.summarise([run]))


def test_a_comparison_in_python_is_against_any(run):
    comparison = Comparison(run)
    assert comparison["torch.compile"].speedup == pytest.approx(2.0, rel=0.05)
    against = comparison.against("torch.compile")
    assert against["torch.eager"].baseline == "torch.compile"
    assert against["jax.jit"].speedup == pytest.approx(2.0, rel=0.05)
    assert {each.implementation for each in against.against(OWN)} == {"torch.compile", "jax.jit"}
    with pytest.raises(UserError, match="unknown baseline"):
        comparison.against("jax.jitt")


def test_report_writes_it(run, tmp_path):
    text = Comparison(run).against("jax.jit").report(tmp_path / "r.md").read_text()
    assert "Everything is compared with jax.jit" in text


def test_what_a_run_was_asked_for_and_could_not_measure_is_said(run):
    asked = replace(run, settings={"baseline": "triton"})
    assert asked.as_asked() is asked
    summary = report.summarise([asked])
    assert speedups(summary) == speedups(report.summarise([run]))
    says = "triton, which everything was to be compared with, was not measured."
    assert says in report.render(summary, "md") and says in to_html(summary)
