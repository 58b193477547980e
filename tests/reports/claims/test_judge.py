"""Verdicts on runs whose speedups are known."""

import json
import math

import pytest
from support.runs import OPERATORS

from fuseproof.reports import claims
from fuseproof.runs.records import Failure

NOISE = {"process_noise": 0.002, "round_noise": 0.004, "legs": 6, "rounds": 2, "operators": OPERATORS}
COMPOSED = ("torch.eager-composed", "torch.compile-composed")


def failure(benchmark, kind="error", stage="check", message="wrong: all zeros"):
    return Failure(
        group=benchmark.group,
        implementation=benchmark.implementation,
        kind=kind,
        stage=stage,
        message=message,
    )


def by_reading(rows):
    found = {row.reading: row for row in rows}
    assert len(found) == len(rows), "more than one slice"
    return found


@pytest.mark.parametrize(
    ("speedups", "blocks", "throughput", "time_reduction"),
    [
        pytest.param([1.45] * 6, 5, "supported", "supported", id="inside both bands"),
        pytest.param([1.35] * 6, 5, "supported", "refuted-low", id="inside the throughput band only"),
        pytest.param([1.62] * 6, 5, "refuted-high", "supported", id="inside the time band only"),
        pytest.param([1.05] * 6, 5, "refuted-low", "refuted-low", id="below"),
        pytest.param([3.0] * 6, 5, "refuted-high", "refuted-high", id="above"),
        pytest.param([0.9, 2.4] * 5, 5, "mean-only", "mean-only", id="mean inside, cases outside"),
        pytest.param([1.45] * 5, 5, "supported", "supported", id="just enough cases"),
        pytest.param([1.45] * 4, 5, "insufficient", "insufficient", id="four cases"),
        pytest.param([1.45] * 6, 4, "insufficient", "insufficient", id="four blocks"),
        pytest.param([1.30] * 6, 5, "inconclusive", "refuted-low", id="on the edge"),
    ],
)
def test_verdicts(a_run, comparisons, speedups, blocks, throughput, time_reduction):
    rows = by_reading(claims.evaluate([a_run(comparisons(speedups, blocks=blocks, **NOISE))]))
    assert rows["throughput"].verdict == throughput
    assert rows["time_reduction"].verdict == time_reduction
    expected = math.exp(sum(map(math.log, speedups)) / len(speedups))
    for row in rows.values():
        assert row.geomean == pytest.approx(expected, rel=0.01)
        assert row.ci95[0] < row.ci90[0] < row.geomean < row.ci90[1] < row.ci95[1]
        assert (row.cases, row.blocks, row.failed, row.missing) == (len(speedups), blocks, 0, 0)
        assert row.text in claims.verdict_sentence(row)


def test_bands_of_the_two_readings(a_run, comparisons):
    rows = by_reading(claims.evaluate([a_run(comparisons([1.45] * 6))]))
    assert rows["throughput"].band == pytest.approx((1.30, 1.60))
    assert rows["time_reduction"].band == pytest.approx((1 / 0.7, 1 / 0.4))


def test_a_claim_that_is_not_about_the_typical_case(a_run, comparisons, tmp_path):
    text = claims.DEFAULT_CLAIMS.read_text(encoding="utf-8").replace("typical = true", "typical = false")
    (tmp_path / "mean.toml").write_text(text, encoding="utf-8")
    run = a_run(comparisons([0.9, 2.4] * 5, **NOISE))
    assert {row.verdict for row in claims.evaluate([run], tmp_path / "mean.toml")} == {"supported"}


def test_failed_cases_count_as_outside_the_band(a_run, comparisons):
    measured = comparisons([1.45] * 13, **NOISE)
    wrong = [benchmark for benchmark in measured if benchmark.implementation == "torch.compile"][:7]
    run = a_run([b for b in measured if b not in wrong], failures=[failure(b) for b in wrong])
    for row in claims.evaluate([run]):
        assert (row.cases, row.failed, row.verdict) == (6, 7, "mean-only")
        assert row.share_in_band == pytest.approx(6 / 13)
        assert len(row.problems) == 7
        assert "all zeros" in row.problems[0]


def test_samples_of_a_wrong_implementation_are_not_used(a_run, comparisons):
    measured = comparisons([1.45] * 6, **NOISE)
    wrong, lost_a_leg = measured[1], measured[3]
    run = a_run(measured, failures=[failure(wrong), failure(lost_a_leg, stage="measure", message="killed")])
    assert {(row.cases, row.failed) for row in claims.evaluate([run])} == {(5, 1)}


def test_skipped_and_unmeasured_cases_are_reported(a_run, comparisons):
    measured = comparisons([1.45] * 8, **NOISE)
    run = a_run(
        measured[:12] + measured[12:16:2],  # of the last two cases only the baseline
        failures=[failure(measured[13], kind="skipped", stage="plan", message="no C++ compiler")],
    )
    for row in claims.evaluate([run]):
        assert (row.cases, row.failed, row.missing, row.verdict) == (6, 0, 2, "supported")
        assert any("no C++ compiler" in problem for problem in row.problems)
        assert any("not measured" in problem for problem in row.problems)


def test_nothing_measured_still_gives_a_row(a_run, comparisons):
    measured = comparisons([1.45] * 6)
    run = a_run([], failures=[failure(benchmark) for benchmark in measured])
    for row in claims.evaluate([run]):
        assert (row.cases, row.failed, row.verdict, row.pass_, row.dtype) == (
            0, 6, "insufficient", "forward", "float32",
        )  # fmt: skip
        document = row.to_json()
        assert document["geomean"] is None
        assert document["ci95"] == [0.0, None]
        assert claims.verdict_sentence(row)


def test_each_slice_and_comparison_is_judged_separately(a_run, comparisons):
    benchmarks = [
        *comparisons([1.45] * 5, **NOISE),
        *comparisons([1.05] * 5, dtype="bfloat16", **NOISE),
        *comparisons([3.0] * 5, pass_="forward_backward", **NOISE),
        *comparisons([1.05] * 5, metric="device", **NOISE),
        *comparisons([3.0] * 5, pair=COMPOSED, **NOISE),
    ]
    rows = [row for row in claims.evaluate([a_run(benchmarks)]) if row.reading == "throughput"]
    verdicts = {(row.candidate, row.metric, row.pass_, row.dtype): (row.cases, row.verdict) for row in rows}
    assert verdicts == {
        ("torch.compile", "wall", "forward", "float32"): (5, "supported"),
        ("torch.compile", "wall", "forward", "bfloat16"): (5, "refuted-low"),
        ("torch.compile", "wall", "forward", "all"): (10, "refuted-low"),
        ("torch.compile", "wall", "forward_backward", "float32"): (5, "refuted-high"),
        ("torch.compile", "device", "forward", "float32"): (5, "refuted-low"),
        ("torch.compile-composed", "wall", "forward", "float32"): (5, "refuted-high"),
    }


def test_runs_are_judged_separately(a_run, comparisons):
    runs = [
        a_run(comparisons([1.45] * 6, **NOISE), source="one"),
        a_run(comparisons([1.05] * 6, **NOISE), source="two"),
    ]
    assert {(row.run, row.verdict) for row in claims.evaluate(runs)} == {
        ("one", "supported"),
        ("two", "refuted-low"),
    }


def test_a_run_of_other_things_has_no_rows(a_run, a_benchmark):
    rows = claims.evaluate([a_run([a_benchmark("torch.mine"), a_benchmark("triton")])])
    assert rows == []
    assert claims.render_text(rows)


def test_one_case_without_a_block_does_not_make_the_others_insufficient(a_run, comparisons):
    benchmarks = [*comparisons([1.45] * 5, **NOISE), *comparisons([1.45] * 8, blocks=4, **NOISE)[10:]]
    assert {(row.cases, row.blocks) for row in claims.evaluate([a_run(benchmarks)])} == {(8, 5)}


def test_break_even_is_the_median_over_cases(a_run, comparisons):
    benchmarks = comparisons([2.0] * 5, compile_seconds=3.0)
    assert [row.break_even_calls for row in claims.evaluate([a_run(benchmarks)])] == pytest.approx(
        [1000 * 3] * 2
    )
    slower = claims.evaluate([a_run(comparisons([0.5] * 5, compile_seconds=3.0))])
    assert {row.break_even_calls for row in slower} == {math.inf}
    assert slower[0].to_json()["break_even_calls"] is None
    unknown = claims.evaluate([a_run(comparisons([2.0] * 5))])
    assert all(math.isnan(row.break_even_calls) for row in unknown)


def test_json_has_the_documented_keys(a_run, comparisons):
    rows = [
        row.to_json() for row in claims.evaluate([a_run(comparisons([1.45] * 6, **NOISE), source="here")])
    ]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    documented = {
        "claim", "reading", "metric", "pass", "dtype", "cases", "geomean", "ci95", "ci90",
        "share_in_band", "share_lower", "verdict",
    }  # fmt: skip
    for row in rows:
        assert documented <= set(row)
        assert (row["run"], row["claim"], row["pass"]) == ("here", "torch-compile-30-60", "forward")
        assert row["share_in_band"] == 1.0
        assert 0.5 < row["share_lower"] < 1.0


def test_a_gain_of_more_than_all_is_a_throughput(tmp_path, a_run, comparisons):
    (tmp_path / "claims.toml").write_text(
        """
        [[claim]]
        id = "c"
        text = "t"
        source = "s"
        low = 1
        high = 4.0
        readings = ["throughput"]
        typical = true
        comparisons = [{baseline = "torch.eager", candidate = "torch.compile"}]
        """
    )
    rows = claims.evaluate([a_run(comparisons([3.0] * 15, **NOISE))], tmp_path / "claims.toml")
    assert [(row.reading, row.band, row.verdict) for row in rows] == [("throughput", (2.0, 5.0), "supported")]
