"""What was not compared, not controlled or not measured again is never a pass."""

import datetime
from dataclasses import replace

import numpy as np
import pytest

from fuseproof.reports import gate
from fuseproof.reports.gate.accepted import Acceptance, Accepted
from fuseproof.runs.merging import merge_as_blocks
from fuseproof.runs.records import Failure

NAMES = ("tests/t.py::a[1]", "tests/t.py::b[1]")


@pytest.fixture(scope="session")
def turn(a_run, a_benchmark):
    """One file of pytest-benchmark: these benchmarks, so much slower than a millisecond."""

    def build(slowdowns, rng, **more):
        rows = [
            a_benchmark(
                seconds=1e-3 * slowdown, blocks=1, legs=1, process_noise=0.003, round_noise=1e-4, rng=rng
            )
            for slowdown in slowdowns.values()
        ]
        named = [
            replace(row, name=name, group="", implementation=None, baseline=None, operator=None)
            for name, row in zip(slowdowns, rows, strict=True)
        ]
        return replace(a_run(named, source=f"{rng.random()}"), suite=None, fingerprint=None, **more)

    return build


@pytest.fixture(scope="session")
def rounds(turn):
    """Base, head and base again; of each a function from the round to its benchmarks."""

    def build(*sides, seed=0, count=8):
        rng = np.random.default_rng(seed)
        return [
            merge_as_blocks([turn(side(n), rng) for n in range(count)], source=str(index))
            for index, side in enumerate(sides)
        ]

    return build


def always(*slowdowns):
    return lambda n: dict(zip(NAMES, slowdowns, strict=False))


def judged(base, head, null, **more):
    return gate.compare(base, head, null=null, **more)


def verdicts(result):
    return {row.name: row.verdict for row in result.rows}


def failed(name):
    return Failure(group=name, implementation="", kind="error", stage="measure", message="the test failed")


def test_all_of_it_passes(rounds):
    result = judged(*rounds(always(1, 1), always(1, 1), always(1, 1)))
    assert result.exit_code == 0


def test_in_turn_a_call_may_take_as_long_on_both_sides(rounds):
    base, head, null = rounds(always(1, 1), always(1, 1), always(1, 1))

    def rounded(run):
        return replace(run, benchmarks=tuple(replace(b, seconds=b.seconds.round(6)) for b in run.benchmarks))

    assert judged(*map(rounded, (base, head, null))).exit_code == 0
    assert gate.compare(rounded(base), rounded(head)).exit_code == 3


def test_without_a_null_control_nothing_passes(rounds):
    result = judged(*rounds(always(1, 1), always(1, 1), always(1)))
    assert (result.exit_code, verdicts(result)) == (3, {NAMES[0]: "pass", NAMES[1]: "inconclusive"})
    assert "no null control" in result.rows[0].reason


def test_a_benchmark_that_fails_more_often_in_head_fails(rounds):
    def flaky(lost):
        return lambda n: dict.fromkeys(NAMES[: 1 if n in lost else 2], 1)

    result = judged(*rounds(flaky({0}), flaky({1, 2, 3, 4}), flaky(())))
    assert (result.exit_code, verdicts(result)[NAMES[1]]) == (1, "missing")
    assert "in 4 of 8 files of head" in result.rows[0].reason
    assert judged(*rounds(flaky({0, 1}), flaky({2}), flaky({0}))).exit_code == 0


def test_a_failure_of_base_excuses_none_of_what_it_measured(rounds):
    base, head, null = rounds(always(1, 1), always(1), always(1, 1))
    base, head = (replace(run, failures=(failed(NAMES[1]),)) for run in (base, head))
    assert verdicts(judged(base, head, null))[NAMES[1]] == "missing"
    slower = replace(rounds(always(1, 1), always(1, 1.2), always(1, 1))[1], failures=head.failures)
    assert verdicts(judged(base, slower, null))[NAMES[1]] == "regression"


def test_a_test_that_fails_in_both_is_told(rounds):
    base, head, null = (
        replace(run, failures=(failed(NAMES[1]),)) for run in rounds(always(1), always(1), always(1))
    )
    assert verdicts(judged(base, head, null)) == {NAMES[0]: "pass", NAMES[1]: "failed-before"}
    assert verdicts(judged(replace(base, failures=()), head, null))[NAMES[1]] == "failed"


def test_what_a_stopped_base_did_not_measure_is_inconclusive(rounds):
    base, head, null = rounds(always(1), always(1, 1), always(1))
    result = judged(replace(base, complete=False), head, null)
    assert (result.exit_code, verdicts(result)[NAMES[1]]) == (3, "inconclusive")
    assert "base was stopped" in result.rows[0].reason


def test_a_renamed_benchmark_has_its_null_control(rounds):
    def old(n):
        return {"old": 1}

    known = Accepted(renamed={"old": NAMES[0]})
    assert judged(*rounds(old, always(1), old), known=known).exit_code == 0
    assert judged(*rounds(old, always(1.2), old), known=known).exit_code == 1


@pytest.mark.parametrize("gone", ["in both", "in base"])
def test_a_suspect_that_is_not_measured_again_does_not_pass(rounds, gone):
    first = judged(*rounds(always(1, 1), always(1, 1.2), always(1, 1)))
    assert first.suspects == NAMES[1:]
    here, head = always(1), always(1) if gone == "in both" else always(1, 1.2)
    result = gate.confirmed(first, judged(*rounds(here, head, here, seed=1)))
    assert (result.exit_code, verdicts(result)) == (3, {NAMES[0]: "pass", NAMES[1]: "inconclusive"})
    assert "not measured again" in result.rows[0].reason


def test_a_suspect_that_fails_when_it_is_measured_again_fails(rounds):
    first = judged(*rounds(always(1, 1), always(1, 1.2), always(1, 1)))
    base, head, null = rounds(always(1, 1), always(1, 1), always(1, 1), seed=1)
    head = replace(head, failures=(failed(NAMES[1]), failed("another")))
    result = gate.confirmed(first, judged(base, head, null))
    assert verdicts(result) == {"another": "failed", NAMES[1]: "failed", NAMES[0]: "pass"}


def test_an_acceptance_is_told_as_unused_by_what_is_known_at_the_end(rounds):
    known = Accepted(
        acceptances=tuple(
            Acceptance(benchmark=name, reason=f"because of {name}", until=datetime.date(2999, 1, 1))
            for name in (*NAMES, "never")
        )
    )
    first = judged(*rounds(always(1, 1), always(1, 1.2), always(1, 1)), known=known)
    again = judged(*rounds(*[lambda n: {NAMES[1]: 1}] * 3, seed=1), known=known)
    notes = " ".join(gate.confirmed(first, again, known=known).notes)
    assert all(f"acceptance of {name}" in notes for name in (*NAMES, "never"))
    slower = judged(
        *rounds(lambda n: {NAMES[1]: 1}, lambda n: {NAMES[1]: 1.2}, lambda n: {NAMES[1]: 1}, seed=1)
    )
    notes = " ".join(gate.confirmed(first, slower, known=known).notes)
    assert f"acceptance of {NAMES[1]}" not in notes


@pytest.mark.parametrize(
    ("pattern", "at_most", "accepted"),
    [
        ("tests/t.py::b[1]", None, True),
        ("*::b[1]", None, True),
        ("*::b[?]", None, True),
        ("*::b[12]", None, False),
        ("tests/t.py::b[1]", 0.2, False),  # a slowdown is accepted, and nothing that is gone
    ],
)
def test_brackets_are_those_of_names_and_a_slowdown_is_no_loss(rounds, pattern, at_most, accepted):
    known = Accepted(
        acceptances=(
            Acceptance(benchmark=pattern, reason="known", until=datetime.date(2999, 1, 1), at_most=at_most),
        )
    )
    assert not known.acceptances[0].takes("tests/t.py::b1")
    result = judged(*rounds(always(1, 1), always(1), always(1, 1)), known=known)
    assert result.exit_code == (0 if accepted else 1)
