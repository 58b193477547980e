"""What counts as a case that shows the gain: one added line, right results, times to a first result."""

import dataclasses
import json

import pytest
from support.runs import OPERATORS

from fuseproof.errors import UserError
from fuseproof.reports import claims
from fuseproof.runs.records import FIRST_RESULT, Failure

NOISE = {"process_noise": 0.002, "round_noise": 0.004, "legs": 6, "rounds": 2, "operators": OPERATORS}


@pytest.fixture
def judged(tmp_path):
    """The rows of one claim with these keys, on a run."""

    def judge(run, more, candidate="torch.compile"):
        (tmp_path / "claims.toml").write_text(
            f'[[claim]]\nid = "c"\ntext = "t"\nsource = "s"\n{more}\n'
            f'comparisons = [{{baseline = "torch.eager", candidate = "{candidate}"}}]\n'
        )
        return claims.matrix([run], tmp_path / "claims.toml")

    return judge


def lost(benchmark, kind="error", stage="check", message="wrong: all zeros"):
    return Failure(
        group=benchmark.group,
        implementation=benchmark.implementation,
        kind=kind,
        stage=stage,
        message=message,
    )


BAND = 'low = 0.3\nhigh = 0.6\nreadings = ["throughput"]\ntypical = true\n'


def broken(measured, *, breaks=(), again=()):
    """The candidates of these cases with a broken graph, or compiled again."""
    return [
        b
        if b.implementation == "torch.eager"
        else dataclasses.replace(b, graphs=1, graph_breaks=int(n // 2 in breaks), recompiles=n // 2 in again)
        for n, b in enumerate(measured)
    ]


def test_a_graph_that_broke_or_was_compiled_again_does_not_show_what_one_line_gains(
    judged, a_run, comparisons
):
    measured = broken(comparisons([1.45] * 8, **NOISE), breaks=(0, 1, 2), again=(2, 3))
    (row,) = judged(a_run(measured), BAND + "one_line = true")
    assert (row.cases, row.inside, row.set_aside, row.below, row.above) == (8, 4, 4, 0, 0)
    assert row.share_in_band == 0.5 and row.verdict == "mean-only"
    assert row.geomean == pytest.approx(1.45, rel=0.01), "their times are measured all the same"
    assert [len(row.broke), len(row.recompiled)] == [3, 2] and row.broke[0] == measured[0].group
    assert "3 broke the graph, 2 recompiled" in row.sentence and "4 as claimed but not by one" in row.sentence
    text = " ".join(claims.render_text([row]).split())
    assert f"3 broke the graph: {measured[0].group}" in text and "2 recompiled: " in text
    document = row.to_json()
    assert document["broke"] == [b.group for b in measured[:6:2]] and document["set_aside"] == 4
    (without,) = judged(a_run(measured), BAND)
    assert (without.verdict, without.inside, without.broke) == ("supported", 8, ())


def test_nobody_counted_is_not_a_broken_graph(judged, a_run, comparisons):
    (row,) = judged(a_run(comparisons([1.45] * 8, **NOISE)), BAND + "one_line = true")
    assert (row.verdict, row.inside, row.set_aside) == ("supported", 8, 0)


def test_the_built_in_claim_of_one_line_says_so():
    found = {claim.id: claim for claim in claims.load_claims()}
    assert found["torch-compile-30-60"].one_line and not found["xla-1.13-to-3.04"].one_line


def test_cases_of_one_workload_are_not_as_many_as_they_look(judged, a_run, comparisons):
    """Eight of eight, all of three operators."""
    few = comparisons([1.45] * 8, **(NOISE | {"operators": OPERATORS[:3]}))
    (row,) = judged(a_run(few), BAND)
    assert (row.verdict, row.share_in_band) == ("mean-only", 1.0) and row.share_lower < 0.5


def test_what_holds_here_need_not_hold_for_all_cases_like_these(judged, a_run, comparisons):
    spread = comparisons([1.10, 1.95, 1.2, 1.7, 1.3, 1.6, 1.35, 1.5], **NOISE)
    (row,) = judged(a_run(spread), BAND.replace("typical = true", ""))
    assert (row.verdict, row.of_all_cases) == ("supported", "inconclusive")
    assert row.ci95_cases[0] < 1.3 < row.ci95[0]


def test_a_mean_on_the_edge_of_a_band_is_not_supported_by_a_narrower_interval(judged, a_run, comparisons):
    """The 90 % interval lies inside and the 95 % interval does not: 4 % of such verdicts were wrong."""
    for shift in range(200):
        run = a_run(comparisons([1.305 + shift * 2e-4] * 6, **(NOISE | {"process_noise": 0.02, "rounds": 1})))
        (row,) = judged(run, BAND)
        if row.ci90[0] >= 1.3 > row.ci95[0]:
            assert row.verdict == "inconclusive"
            return
    raise AssertionError("no such run was drawn")


COVERAGE = 'quantity = "coverage"\nlow = 0.5\nhigh = 1.0\n'


def test_coverage_is_the_share_of_cases_with_a_right_result(judged, a_run, comparisons):
    measured = comparisons([1.45] * 16, **(NOISE | {"operators": [f"model{n}" for n in range(16)]}))
    wrong, skipped, no_baseline = measured[1], measured[3], measured[4]
    run = a_run(
        [b for b in measured if b not in (wrong, skipped, no_baseline)],
        failures=[lost(wrong), lost(skipped, "skipped", "plan", "not installed"), lost(no_baseline)],
    )
    (row,) = judged(run, COVERAGE)
    # The third case is nobody's: its baseline is wrong.
    assert (row.cases, row.failed, row.missing) == (13, 1, 1)
    assert row.geomean == pytest.approx(13 / 14) and row.verdict == "supported"
    assert row.ci95[0] < 13 / 14 < row.ci95[1] <= 1
    assert "gave a right result in 13 of 14 cases that torch.eager computes" in row.sentence
    assert "1 failed, 1 not measured" in row.sentence and len(row.problems) == 2
    assert "93% [" in claims.render_text([row]) and "supported: “t” holds here" in claims.verdict_sentence(
        row
    )
    json.dumps(row.to_json(), allow_nan=False)


@pytest.mark.parametrize(("right", "verdict"), [(0, "refuted-low"), (8, "inconclusive"), (16, "supported")])
def test_verdicts_on_coverage(judged, a_run, comparisons, right, verdict):
    measured = comparisons([1.45] * 16, **(NOISE | {"operators": [f"model{n}" for n in range(16)]}))
    failed = measured[2 * right + 1 :: 2]
    run = a_run([b for b in measured if b not in failed], failures=[lost(b) for b in failed])
    (row,) = judged(run, COVERAGE)
    assert row.verdict == verdict


def test_programs_of_others_are_counted_and_not_judged(judged, a_run, comparisons):
    measured = comparisons([1.45] * 8, **NOISE)
    run = a_run([b for b in measured if b is not measured[1]], failures=[lost(measured[1])])
    (row,) = judged(run, COVERAGE + "elsewhere = true")
    assert row.verdict == "undecidable" and (row.cases, row.failed) == (7, 1)
    assert "torch.compile took 7 of 8 cases here, which says nothing of those" in row.undecidable
    assert row.undecidable in " ".join(claims.render_text([row]).split())


FIRST = 'quantity = "time_to_first_result"\ndirection = "less"\n'


def started(measured, seconds):
    """The same cases as times from the start of a process: five rounds of one."""
    return [
        dataclasses.replace(
            b,
            name=f"{b.name}-first",
            metric=FIRST_RESULT,
            seconds=b.seconds[:5] * 0 + seconds[b.implementation],
            block=b.block[:5] * 0 + range(5),
            leg=b.leg[:5] * 0,
        )
        for b in measured
    ]


def test_a_time_to_a_first_result_is_judged_apart_from_the_time_of_a_call(judged, a_run, comparisons):
    calls = comparisons([1.45] * 6, **NOISE)
    firsts = started(calls, {"torch.eager": 4.0, "torch.compile": 8.0})
    (row,) = judged(a_run([*calls, *firsts]), FIRST)
    assert (row.metric, row.cases, row.blocks, row.verdict) == (FIRST_RESULT, 6, 5, "refuted-low")
    assert row.geomean == pytest.approx(0.5)
    assert "came to its first result in less time than torch.eager in 0 of 6 cases, 6 slower" in row.sentence
    (call,) = judged(a_run([*calls, *firsts]), BAND)
    assert (call.metric, call.cases) == ("wall", 6) and call.geomean == pytest.approx(1.45, rel=0.01)
    (absent,) = judged(a_run(calls), FIRST)
    assert absent.verdict == "undecidable" and "--first-result" in absent.undecidable


def test_a_process_without_a_first_result_is_a_failure_of_that_alone(judged, a_run, comparisons):
    calls = comparisons([1.45] * 7, **NOISE)
    firsts = started(calls, {"torch.eager": 4.0, "torch.compile": 2.0})
    run = a_run(
        [*calls, *(b for b in firsts if b is not firsts[1])],
        failures=[lost(firsts[1], stage=FIRST_RESULT, message="no first result: exit code 1")],
    )
    (row,) = judged(run, FIRST)
    assert (row.cases, row.failed) == (6, 1) and "exit code 1" in row.problems[0]
    (call,) = judged(run, BAND)
    assert (call.cases, call.failed) == (7, 0)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (BAND + "elsewhere = true", "elsewhere is for claims about coverage"),
        (COVERAGE + "one_line = true", "one_line is for claims about speedups"),
        ('quantity = "coverage"\ndirection = "faster"', "direction must be at_least, or low and high,"),
        ('quantity = "time_to_first_result"\ndirection = "faster"', "direction must be 'less'"),
        (BAND + 'one_line = "yes"', "one_line has the wrong type"),
    ],
)
def test_keys_that_do_not_fit_say_why(judged, a_run, comparisons, more, says):
    with pytest.raises(UserError, match=says):
        judged(a_run(comparisons([1.45])), more)
