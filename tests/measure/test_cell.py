"""Cells: palindromes of legs, and what happens to an implementation whose worker fails meanwhile."""

from __future__ import annotations

import pytest
from support.fake_crew import BLOCK, A, B, FakeCrew, always, an_implementation, died_at, measure, order

from fuseproof.measure import palindromes as drawn
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerSkip


def test_legs_are_palindromes_in_a_drawn_order():
    crew = FakeCrew()
    record = measure(crew)
    palindromes = "".join(order(index) + order(index)[::-1] for index in range(3))
    assert "".join(crew.legs) == palindromes + "ABC", "and one that does not count, to the end"
    assert record["failures"] == {} and record["disqualified"] == []
    # The two legs of a palindrome stand side by side.
    assert record["legs"] == {name: [{"wall": [1.0 + i] * 3} for i in range(6)] for name in "ABC"}


def test_the_first_leg_after_another_framework_settles():
    crew = FakeCrew()
    measure(crew, [A, an_implementation("J", "jax", "J"), B], palindromes=2)
    framework = {"A": "torch", "B": "torch", "J": "jax"}
    ran = [framework[name] for name in crew.legs]
    assert len(ran) == 2 * 2 * 3 + 3
    changed = [before != after for before, after in zip([None, *ran], ran, strict=False)]
    assert crew.warm_ups == [5 if settle else 1 for settle in changed]


def test_workers_are_made_ready_once_for_each_framework():
    crew = FakeCrew()
    measure(crew, [A, an_implementation("J", "jax", "J"), B])
    assert [pair for pair in crew.asked if pair[0] in ("get", "open_case", "prepare")] == [
        ("get", "torch"), ("open_case", "torch"), ("prepare", "A"), ("prepare", "B"),
        ("get", "jax"), ("open_case", "jax"), ("prepare", "J"),
    ]  # fmt: skip


def test_a_worker_that_dies_once_loses_only_its_leg():
    crew = FakeCrew({("arm", "B"): died_at(2)})
    record = measure(crew)
    assert record["failures"] == {}
    assert {name: len(legs) for name, legs in record["legs"].items()} == {"A": 6, "B": 6, "C": 6}
    assert crew.buried == ["torch"]
    assert crew.asked.count(("prepare", "A")) == 2, "its successor prepares every implementation"
    # The leg is taken again in its place.
    half = order(1)
    again = half.replace("B", "BB") + half[::-1]
    assert "".join(crew.legs) == order(0) + order(0)[::-1] + again + order(2) + order(2)[::-1] + "ABC"


def test_a_worker_that_dies_twice_fails_the_implementation_and_the_others_go_on():
    crew = FakeCrew({("arm", "B"): died_at(3, 4)})
    record = measure(crew)
    assert record["failures"] == {"B": "the process died of SIGSEGV"}
    assert {name: len(legs) for name, legs in record["legs"].items()} == {"A": 6, "B": 2, "C": 6}
    # B fails in the second half of the second palindrome; its leg there has no mirror image and goes.
    half = order(1)
    third = "".join(drawn.palindrome(["AC"], (0, BLOCK, 2))[0])
    assert "".join(crew.legs) == (
        order(0) + order(0)[::-1] + half + half[::-1].replace("B", "BB") + third + third[::-1] + "AC"
    )


def test_an_error_fails_the_implementation_at_once():
    crew = FakeCrew({("arm", "C"): always(WorkerError("the step was compiled again"))})
    record = measure(crew)
    assert record["failures"] == {"C": "the step was compiled again"}
    assert record["legs"]["C"] == []
    assert crew.buried == []
    assert crew.legs.count("A") == crew.legs.count("B") == 7


def test_a_baseline_that_fails_fails_alone():
    crew = FakeCrew({("arm", "A"): died_at(0, 1)})
    record = measure(crew, max_palindromes=9)
    assert set(record["failures"]) == {"A"}
    assert len(record["legs"]["B"]) == len(record["legs"]["C"]) == 6, "no comparison is left to wait for"


@pytest.mark.parametrize("error", [WorkerError("no memory"), WorkerSkip("not on this CPU")], ids=repr)
def test_an_implementation_that_cannot_be_prepared_fails_alone(error):
    crew = FakeCrew({("prepare", "B"): always(error)})
    record = measure(crew)
    assert record["failures"] == {"B": str(error)}
    assert "B" not in crew.legs
    assert crew.buried == []
    assert crew.legs.count("A") == 7


def test_an_implementation_that_crashes_while_it_is_prepared_fails_alone():
    crew = FakeCrew({("prepare", "B"): died_at(0, 1)})
    record = measure(crew)
    assert set(record["failures"]) == {"B"}
    assert [name for do, name in crew.asked if do == "prepare"] == ["A", "B", "A", "B", "A", "C"]
    assert crew.legs.count("A") == crew.legs.count("C") == 7


@pytest.mark.parametrize(("do", "name"), [("get", "torch"), ("open_case", "torch"), ("prepare", "B")])
def test_a_worker_killed_once_before_its_first_leg_costs_nothing(do, name):
    crew = FakeCrew({(do, name): died_at(0)})
    record = measure(crew)
    assert record["failures"] == {}
    assert {len(legs) for legs in record["legs"].values()} == {6}


def test_an_implementation_that_kills_its_worker_in_two_legs_fails():
    """Otherwise one that crashes now and then would cost a worker's start at each of its legs."""
    crew = FakeCrew({("arm", "B"): died_at(1, 4)})
    record = measure(crew)
    assert record["failures"] == {"B": "the process died of SIGSEGV"}
    assert {name: len(legs) for name, legs in record["legs"].items()} == {"A": 6, "B": 2, "C": 6}


@pytest.mark.parametrize("do", ["get", "open_case"])
def test_a_framework_that_does_not_come_up_fails_alone(do):
    crew = FakeCrew({(do, "jax"): always(WorkerError("no such device"))})
    record = measure(crew, [A, an_implementation("J", "jax", "J"), an_implementation("K", "jax", "J"), B])
    assert record["failures"] == {"J": "no such device", "K": "no such device"}
    assert "jax" in crew.buried
    assert crew.legs.count("A") == crew.legs.count("B") == 7


def test_nothing_left_is_an_empty_record():
    crew = FakeCrew({("get", "torch"): always(WorkerDied("the process exited with status 1"))})
    record = measure(crew)
    assert set(record["failures"]) == {"A", "B", "C"}
    assert record["legs"] == {"A": [], "B": [], "C": []}
    assert crew.legs == []


@pytest.mark.parametrize(
    ("noisy_for", "palindromes", "expected"),
    [
        pytest.param(0, 4, 4, id="never before the least number"),
        pytest.param(10_000, 4, 9, id="at the greatest number"),
        pytest.param(2, 2, 5, id="as soon as it is precise"),
    ],
)
def test_palindromes_stop_on_precision(noisy_for, palindromes, expected):
    crew = FakeCrew()

    def wall(name, index):
        # B's first legs are far off; the median of the palindromes forgets them when they are few enough.
        return [3.0 + index if name == "B" and index < 2 * noisy_for else 2.0] * 3

    crew.wall = wall
    record = measure(crew, [A, B], palindromes=palindromes, max_palindromes=9)
    assert {len(legs) for legs in record["legs"].values()} == {2 * expected}


def test_precision_is_that_of_the_fastest_round():
    crew = FakeCrew()
    crew.wall = lambda name, index: [2.0, 2.0 + index * 5, 90.0]
    record = measure(crew, [A, B], palindromes=2, max_palindromes=9)
    assert len(record["legs"]["A"]) == 4
