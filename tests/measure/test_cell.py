"""Cells with a crew that answers from a script: no process, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import palindromes as drawn
from fuseproof.measure.cell import Cell
from fuseproof.measure.palindromes import Leg
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerSkip
from fuseproof.runs.plan import Settings

BLOCK = 3
CASE = Case.from_group("layer_norm[3x5-float32-forward]")


def an_implementation(name: str, framework: str = "torch", baseline: str = "A") -> Implementation:
    return Implementation("layer_norm", name, framework=framework, target="m:f", baseline=baseline)


A, B, C = an_implementation("A"), an_implementation("B"), an_implementation("C")
Trouble = Callable[[int], Exception | None]  # by how often it was asked before


class FakeCrew:
    """Answers legs with the number of the request; raises what `troubles` has for `(do, name)`."""

    def __init__(self, troubles: Mapping[tuple[str, str], Trouble] | None = None) -> None:
        self.troubles = dict(troubles or {})
        self.asked: list[tuple[str, str]] = []
        self.buried: list[str] = []
        self.warm_ups: list[int] = []
        self.alive: set[str] = set()
        self.prepared: dict[str, set[str]] = {}
        self.wall: Callable[[str, int], list[float]] = lambda name, index: [1.0 + index]

    def _record(self, do: str, name: str, framework: str) -> None:
        before = self.asked.count((do, name))
        self.asked.append((do, name))
        trouble = self.troubles.get((do, name))
        error = trouble(before) if trouble else None
        if isinstance(error, WorkerDied):
            self.bury(framework)
        if error is not None:
            raise error

    def get(self, framework: str) -> None:
        self._record("get", framework, framework)
        self.alive.add(framework)
        self.prepared.setdefault(framework, set())

    def open_case(self, framework: str, case: Case) -> None:
        assert framework in self.alive
        assert case == CASE
        self._record("open_case", framework, framework)

    def prepare(self, implementation: Implementation) -> None:
        self._record("prepare", implementation.name, implementation.framework)
        self.prepared[implementation.framework].add(implementation.name)

    def ask(self, framework: str, do: str, *, name: str, rounds: int, calls: int, warm_up: int) -> dict:
        assert name in self.prepared[framework], "only a worker that has prepared it is asked for a leg"
        self._record(do, name, framework)
        assert (rounds, calls) == (3, 7)
        self.warm_ups.append(warm_up)
        return {"wall": self.wall(name, self.asked.count((do, name)) - 1)}

    def bury(self, framework: str) -> None:
        self.buried.append(framework)
        self.alive.discard(framework)
        self.prepared.pop(framework, None)

    @property
    def legs(self) -> list[str]:
        return [name for do, name in self.asked if do == "leg"]


def measure(crew, among=(A, B, C), *, palindromes=3, max_palindromes=None):
    settings = Settings(palindromes=palindromes, max_palindromes=max_palindromes or palindromes)
    legs = {each.name: Leg(rounds=3, calls=7, warm_up=1, settle=5) for each in among}
    record = Cell(crew, CASE, among, block=BLOCK).measure(legs, settings)
    assert record["group"] == CASE.group
    return record


def order(index: int) -> str:
    """The first half of a palindrome of A, B and C, by the one function that draws it."""
    return "".join(drawn.palindrome(["ABC"], (0, BLOCK, index))[0])


def died_at(*times: int) -> Trouble:
    return lambda before: WorkerDied("the process died of SIGSEGV") if before in times else None


def always(error: Exception) -> Trouble:
    return lambda before: error


def test_legs_are_palindromes_in_a_drawn_order():
    crew = FakeCrew()
    record = measure(crew)
    assert "".join(crew.legs) == "".join(order(index) + order(index)[::-1] for index in range(3))
    assert record["failures"] == {}
    # The two legs of a palindrome stand side by side.
    assert record["legs"] == {name: [{"wall": [1.0 + i]} for i in range(6)] for name in "ABC"}


def test_the_first_leg_after_another_framework_settles():
    crew = FakeCrew()
    measure(crew, [A, an_implementation("J", "jax", "J"), B], palindromes=2)
    framework = {"A": "torch", "B": "torch", "J": "jax"}
    ran = [framework[name] for name in crew.legs]
    changed = [before != after for before, after in zip([None, *ran], ran, strict=False)]
    assert crew.warm_ups == [5 if settle else 1 for settle in changed]


def test_workers_are_made_ready_once_for_each_framework():
    crew = FakeCrew()
    measure(crew, [A, an_implementation("J", "jax", "J"), B])
    assert [pair for pair in crew.asked if pair[0] != "leg"] == [
        ("get", "torch"), ("open_case", "torch"), ("prepare", "A"), ("prepare", "B"),
        ("get", "jax"), ("open_case", "jax"), ("prepare", "J"),
    ]  # fmt: skip


def test_a_worker_that_dies_once_loses_only_its_leg():
    crew = FakeCrew({("leg", "B"): died_at(2)})
    record = measure(crew)
    assert record["failures"] == {}
    assert {name: len(legs) for name, legs in record["legs"].items()} == {"A": 6, "B": 6, "C": 6}
    assert crew.buried == ["torch"]
    assert crew.asked.count(("prepare", "A")) == 2, "its successor prepares every implementation"
    # The leg is taken again in its place.
    half = order(1)
    again = half.replace("B", "BB") + half[::-1]
    assert "".join(crew.legs) == order(0) + order(0)[::-1] + again + order(2) + order(2)[::-1]


def test_a_worker_that_dies_twice_fails_the_implementation_and_the_others_go_on():
    crew = FakeCrew({("leg", "B"): died_at(3, 4)})
    record = measure(crew)
    assert record["failures"] == {"B": "the process died of SIGSEGV"}
    assert {name: len(legs) for name, legs in record["legs"].items()} == {"A": 6, "B": 2, "C": 6}
    # B fails in the second half of the second palindrome; its leg there has no mirror image and goes.
    half = order(1)
    third = "".join(drawn.palindrome(["AC"], (0, BLOCK, 2))[0])
    assert "".join(crew.legs) == (
        order(0) + order(0)[::-1] + half + half[::-1].replace("B", "BB") + third + third[::-1]
    )


def test_an_error_fails_the_implementation_at_once():
    crew = FakeCrew({("leg", "C"): always(WorkerError("the step was compiled again"))})
    record = measure(crew)
    assert record["failures"] == {"C": "the step was compiled again"}
    assert record["legs"]["C"] == []
    assert crew.buried == []
    assert crew.legs.count("A") == crew.legs.count("B") == 6


def test_a_baseline_that_fails_fails_alone():
    crew = FakeCrew({("leg", "A"): died_at(0, 1)})
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
    assert crew.legs.count("A") == 6


def test_an_implementation_that_crashes_while_it_is_prepared_fails_alone():
    crew = FakeCrew({("prepare", "B"): died_at(0, 1)})
    record = measure(crew)
    assert set(record["failures"]) == {"B"}
    assert [name for do, name in crew.asked if do == "prepare"] == ["A", "B", "A", "B", "A", "C"]
    assert crew.legs.count("A") == crew.legs.count("C") == 6


@pytest.mark.parametrize(("do", "name"), [("get", "torch"), ("open_case", "torch"), ("prepare", "B")])
def test_a_worker_killed_once_before_its_first_leg_costs_nothing(do, name):
    crew = FakeCrew({(do, name): died_at(0)})
    record = measure(crew)
    assert record["failures"] == {}
    assert {len(legs) for legs in record["legs"].values()} == {6}


def test_an_implementation_that_kills_its_worker_in_two_legs_fails():
    """Otherwise one that crashes now and then would cost a worker's start at each of its legs."""
    crew = FakeCrew({("leg", "B"): died_at(1, 4)})
    record = measure(crew)
    assert record["failures"] == {"B": "the process died of SIGSEGV"}
    assert {name: len(legs) for name, legs in record["legs"].items()} == {"A": 6, "B": 2, "C": 6}


@pytest.mark.parametrize("do", ["get", "open_case"])
def test_a_framework_that_does_not_come_up_fails_alone(do):
    crew = FakeCrew({(do, "jax"): always(WorkerError("no such device"))})
    record = measure(crew, [A, an_implementation("J", "jax", "J"), an_implementation("K", "jax", "J"), B])
    assert record["failures"] == {"J": "no such device", "K": "no such device"}
    assert "jax" in crew.buried
    assert crew.legs.count("A") == crew.legs.count("B") == 6


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
        return [3.0 + index] if name == "B" and index < 2 * noisy_for else [2.0]

    crew.wall = wall
    record = measure(crew, [A, B], palindromes=palindromes, max_palindromes=9)
    assert {len(legs) for legs in record["legs"].values()} == {2 * expected}


def test_precision_is_that_of_the_fastest_round():
    crew = FakeCrew()
    crew.wall = lambda name, index: [2.0, 2.0 + index * 5, 90.0]
    record = measure(crew, [A, B], palindromes=2, max_palindromes=9)
    assert len(record["legs"]["A"]) == 4
