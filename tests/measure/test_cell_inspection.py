"""Cells that look at the work of timed calls, and doubt times that cannot be those of it."""

from __future__ import annotations

import math

import pytest
from support.fake_crew import (
    EAGER,
    LEG,
    LIMIT,
    OF_X,
    OF_Y,
    A,
    B,
    FakeCrew,
    X,
    Y,
    always,
    died_at,
    foreign,
    measure,
)

from fuseproof.measure import cell as cell_module
from fuseproof.measure.evidence import Ceilings
from fuseproof.measure.worker_process import WorkerCheated, WorkerError


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(cell_module, "_PAUSES", (0.0,) * 3)


@pytest.fixture
def only_once(monkeypatch):
    """One palindrome is inspected, and no other."""
    monkeypatch.setattr(cell_module, "_INSPECTED_SHARE", 0.0)


def test_every_half_of_a_palindrome_has_values_of_its_own(only_once):
    crew = FakeCrew()
    measure(crew)
    halves = [set(crew.draws[start : start + 3]) for start in range(0, 18, 3)]
    assert all(len(draws) == 1 for draws in halves), "the same for all implementations"
    assert len(set.union(*halves)) == 6
    assert len(set(crew.draws[18:]) - set.union(*halves)) == 3, "the last look has others"


def test_each_from_outside_has_values_that_nobody_else_saw(only_once):
    crew = FakeCrew()
    measure(crew, [A, X, B, Y])
    names = crew.legs
    draws = [(name, draw) for name, draw in zip(names, crew.draws, strict=True) if name in "XY"]
    assert len({draw for _, draw in draws}) == len(draws) == 2 * 7
    assert not {draw for _, draw in draws} & {
        draw for name, draw in zip(names, crew.draws, strict=True) if name in "AB"
    }
    probes = [draw for name, found in crew.probed if name in "XY" for draw in found]
    assert len(set(probes)) == len(probes)


def test_the_result_of_one_is_judged_before_the_next_runs(only_once):
    crew = FakeCrew()
    measure(crew, [A, X])
    did = [(do, name) for do, name in crew.asked if do in ("inspect", "judge", "arm")]
    for index, (do, name) in enumerate(did):
        if do == "inspect":
            assert did[index + 1 : index + 3] == [("judge", name)] * 2


def test_one_half_of_one_palindrome_is_inspected_and_nobody_knows_which(only_once):
    inspected = set()
    for _ in range(60):
        crew = FakeCrew()
        measure(crew)
        names = [name for name, _ in crew.probed]
        asked = [do for do, _ in crew.asked if do in ("time", "inspect")]
        first = asked.index("inspect")  # as many legs as this, and one, before it
        inspected.add((first - 1) // 3)
        assert sorted(names[:3]) == sorted(names[3:]) == ["A", "B", "C"], "and the last look"
        assert len({tuple(probes) for _, probes in crew.probed[:3]}) == 1
        assert [len(probes) for _, probes in crew.probed] == [LEG.probes] * 6
        results = sum(1 + len(probes) for _, probes in crew.probed)
        assert len(crew.judged) == results, "of a timed call, and of each call with new values"
    assert inspected == set(range(6))


def test_more_palindromes_are_inspected_while_that_takes_a_small_share_of_the_time(monkeypatch):
    monkeypatch.setattr(cell_module, "_INSPECTED_SHARE", 1.0)
    monkeypatch.setattr(cell_module, "_INSPECTING_SHARE", math.inf)
    crew = FakeCrew()
    measure(crew)
    assert len(crew.probed) == 3 * 3 + 3
    monkeypatch.setattr(cell_module, "_INSPECTING_SHARE", 0.0)
    crew = FakeCrew()
    measure(crew)
    assert len(crew.probed) == 3 + 3


def test_a_timed_call_may_err_a_little_more_than_the_checked_one():
    crew = FakeCrew()
    crew.error = lambda name, index: 1.5 * LIMIT
    record = measure(crew)
    assert record["failures"] == {}
    assert record["evidence"]["B"]["worst"] == pytest.approx(1.0)
    assert record["evidence"]["B"]["outputs"] == crew.judged.count("B")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (1.6 * LIMIT, "in a timed call output is wrong: relative RMS error 1.6e-06, limit 1.5e-06"),
        (math.nan, "in a timed call output is wrong: it holds NaN or infinity"),
    ],
)
def test_a_wrong_result_of_a_timed_call_disqualifies(only_once, error, says):
    crew = FakeCrew()
    crew.error = lambda name, index: error if name == "B" else 0.0
    record = measure(crew)
    assert record["failures"] == {"B": says}
    assert record["disqualified"] == ["B"]
    assert len(record["legs"]["A"]) == len(record["legs"]["C"]) == 6
    assert crew.judged.count("B") == 1, "what is known to be wrong is not compared again"
    assert crew.buried == [], "code of our own shares its process"


def test_what_is_right_until_the_last_leg_is_seen_in_the_last_look(only_once):
    crew = FakeCrew()
    crew.error = lambda name, index: 1.0 if (name, index) == ("X", 1 + LEG.probes) else 0.0
    record = measure(crew, [A, X])
    assert record["disqualified"] == ["X"]
    assert len(record["legs"]["A"]) == len(record["legs"]["X"]) == 6


def test_a_referee_that_refuses_a_file_disqualifies(only_once):
    crew = FakeCrew({("judge", "B"): always(WorkerError("7 values arrived for results of 15"))})
    record = measure(crew)
    assert record["disqualified"] == ["B"]
    assert record["failures"] == {"B": "7 values arrived for results of 15"}


def test_a_leg_in_which_something_was_compiled_is_taken_once_more(only_once):
    crew = FakeCrew()
    crew.compilations = lambda name, index: int((name, index) == ("B", 2))
    record = measure(crew)
    assert record["failures"] == {}
    assert record["evidence"]["B"]["compiled"] == 1
    assert crew.legs.count("B") == 8
    assert [leg["wall"][0] for leg in record["legs"]["B"]] == [1.0, 2.0, 4.0, 5.0, 6.0, 7.0]


def test_what_is_compiled_in_two_legs_one_after_the_other_fails():
    crew = FakeCrew()
    crew.compilations = lambda name, index: int(name == "B" and index in (2, 3))
    record = measure(crew)
    assert record["failures"] == {"B": "it was compiled again in two timed legs, one after the other"}
    assert record["disqualified"] == ["B"]


def test_code_from_outside_that_is_compiled_in_leg_after_leg_fails(only_once):
    """Each time its leg is taken again: what it was slow in would never count."""
    crew = FakeCrew()
    crew.compilations = lambda name, index: int(name in "BX" and index in (0, 2, 4))
    record = measure(crew, [A, B, X])
    assert record["failures"] == {"X": "it was compiled again in 3 timed legs of a case"}
    assert record["evidence"]["B"]["compiled"] == 3, "ours may be"


def test_who_dies_while_inspected_is_disqualified_at_once(only_once):
    """It took with it what would have shown the leg before."""
    crew = FakeCrew({("inspect", "X"): died_at(0), ("inspect", "B"): died_at(0)})
    record = measure(crew, [A, B, X])
    assert record["failures"] == {"X": "while it was inspected, the process died of SIGSEGV"}
    assert record["disqualified"] == ["X"]


def test_what_is_from_outside_is_judged_by_the_library_s_call():
    """Its author may choose its baseline, another of their own; that is no yardstick."""
    crew = FakeCrew()
    crew.probe = lambda name: 100.0 if name in "XY" else 1.0
    crew.wall = lambda name, index: [1.0] * 3
    record = measure(crew, [EAGER, X, foreign("Y", baseline="X")])
    assert record["disqualified"] == ["X", "Y"]
    assert "(its baseline: 1e+06 µs and 1e+06 µs)" in record["failures"]["Y"]


def test_the_run_is_mended_before_each_leg_of_code_from_outside():
    crew = FakeCrew()
    measure(crew, [A, X])
    did = [pair for pair in crew.asked if pair[0] in ("arm", "mend")]
    assert all(did[index - 1] == ("mend", "") for index, pair in enumerate(did) if pair == ("arm", "X"))
    assert did.count(("mend", "")) == 7


def test_every_implementation_from_outside_has_a_worker_of_its_own():
    crew = FakeCrew()
    measure(crew, [A, X, B, Y])
    assert [pair for pair in crew.asked if pair[0] in ("get", "prepare")] == [
        ("get", "torch"), ("prepare", "A"), ("prepare", "B"),
        ("get", OF_X), ("prepare", "X"), ("get", OF_Y), ("prepare", "Y"),
    ]  # fmt: skip
    of = {"A": "torch", "B": "torch", "X": OF_X, "Y": OF_Y}
    ran = [of[name] for name in crew.legs]
    changed = [before != after for before, after in zip([None, *ran], ran, strict=False)]
    assert crew.warm_ups == [5 if settle else 1 for settle in changed]


def test_a_worker_with_code_from_outside_that_fails_is_ended():
    crew = FakeCrew({("time", "X"): always(WorkerError("changed the process that it is timed in"))})
    record = measure(crew, [A, X])
    assert record["disqualified"] == ["X"]
    assert crew.buried == [OF_X]
    assert len(record["legs"]["A"]) == 6


def test_a_worker_that_cheated_disqualifies_at_once():
    crew = FakeCrew({("inspect", "X"): always(WorkerCheated("wrote to the pipe of answers"))})
    record = measure(crew, [A, X, Y])
    assert record["failures"] == {"X": "wrote to the pipe of answers"}
    assert record["disqualified"] == ["X"]
    assert len(record["legs"]["Y"]) == 6


def test_the_state_of_a_process_with_code_from_outside_is_compared_after_each_of_its_legs():
    """Not while the runner's clock runs."""
    crew = FakeCrew()
    measure(crew, [A, X])
    asked = [do for do, name in crew.asked if name == "X" and do in ("time", "compare")]
    assert asked == ["time", "compare"] * 7
    assert ("compare", "A") not in crew.asked
    crew = FakeCrew({("compare", "X"): always(WorkerError("changed the process: threads"))})
    assert measure(crew, [A, X])["disqualified"] == ["X"]


@pytest.mark.parametrize("do", ["prepare", "arm", "time", "inspect"])
@pytest.mark.parametrize(
    "error", [WorkerError("no"), WorkerCheated("wrote to the pipe")], ids=["error", "cheat"]
)
def test_in_a_shared_process_one_that_fails_leaves_a_fresh_worker_to_the_others(do, error):
    crew = FakeCrew({(do, "X"): always(error)}, share=True)
    record = measure(crew, [A, X, Y])
    assert record["failures"] == {"X": str(error)}
    assert len(record["legs"]["A"]) == len(record["legs"]["Y"]) == 6
    assert set(crew.buried) == {"torch"}


def test_in_a_shared_process_whoever_is_asked_when_another_cheats_costs_only_itself():
    crew = FakeCrew({("time", "A"): always(WorkerCheated("wrote to the pipe"))}, share=True)
    record = measure(crew, [A, X, B])
    assert record["failures"] == {"A": "wrote to the pipe"}
    assert len(record["legs"]["X"]) == len(record["legs"]["B"]) == 6


@pytest.mark.parametrize(
    "answer",
    [
        {"wall": [0.0, 0.0, 0.0], "compilations": 0},
        {"wall": [1.0, -1.0, 1.0], "compilations": 0},
        {"wall": [1.0, math.nan, 1.0], "compilations": 0},
        {"wall": [1.0, math.inf, 1.0], "compilations": 0},
        {"wall": [1.0, 1.0], "compilations": 0},
        {"wall": ["1", "1", "1"], "compilations": 0},
        {"wall": [True, True, True], "compilations": 0},
        {"wall": 1.0, "compilations": 0},
        {"compilations": 0},
        {"wall": [1.0] * 3, "device": [0.0] * 3, "compilations": 0},
        {"wall": [1.0] * 3, "made up": [1.0] * 3, "compilations": 0},
        {},
    ],
    ids=str,
)
def test_times_that_are_none_are_an_error(answer):
    crew = FakeCrew()
    crew.answer["time", "X"] = answer
    record = measure(crew, [A, X])
    assert record["failures"] == {"X": "its process answered a timed leg with what is not a list of times"}
    assert record["legs"]["X"] == []
    assert len(record["legs"]["A"]) == 6


@pytest.mark.parametrize(
    "found", [None, [], [[1.0, 1.0]], [[1.0]] * 2, [[1.0, 0.0]] * 2, [["1", "1"]] * 2, 7]
)
def test_probes_that_are_none_are_an_error(only_once, found):
    assert LEG.probes == 2
    says = "its process answered calls with new values with what is not a list of times"
    for answer in ({"probes": found}, {"probes": [[1.0, 1.0]] * 2, "echoes": [found]}):
        crew = FakeCrew()
        crew.answer["inspect", "X"] = answer
        assert measure(crew, [A, X])["failures"] == {"X": says}


def test_only_code_from_outside_is_doubted():
    crew = FakeCrew()
    crew.probe = lambda name: 1e6 if name == "A" else 1.0
    assert measure(crew)["failures"] == {}
    assert ("ceilings", "float32") not in crew.asked


@pytest.mark.parametrize(
    ("doubt", "says"),
    [
        (
            lambda crew: setattr(crew, "probe", lambda name: 1e6 if name == "X" else 1.0),
            "than with values never seen",
        ),
        (lambda crew: setattr(crew, "ceiling", Ceilings(flops=1e-9)), "faster than this machine can"),
    ],
    ids=["probes", "floor"],
)
def test_times_that_cannot_be_those_of_the_work_are_an_error(doubt, says):
    crew = FakeCrew()
    doubt(crew)
    record = measure(crew, [A, X])
    assert record["failures"].keys() == {"X"} and says in record["failures"]["X"]
    assert record["disqualified"] == ["X"]
    assert OF_X in crew.buried


def test_an_honest_one_from_outside_is_not_doubted():
    crew = FakeCrew()
    crew.wall = lambda name, index: [1.0] * 3
    record = measure(crew, [A, X])
    assert record["failures"] == {}
    evidence = record["evidence"]["X"]
    assert evidence["batch"] == evidence["probe"] == 1.0
    assert evidence["outputs"] >= 4 and evidence["compiled"] == 0


def test_one_that_is_doubted_is_looked_at_again_before_it_is_accused():
    """A disturbance of the few single calls that there were is gone in the next ones."""
    probed = []

    def settles(name):
        probed.append(name)
        return 1.0 if name == "X" and probed.count("X") <= 4 else 1e-3

    crew = FakeCrew()
    crew.wall = lambda name, index: [1e-3] * 3
    crew.probe = settles
    record = measure(crew, [EAGER, X], palindromes=2)
    assert record["failures"] == {}
    assert {name: len(legs) for name, legs in record["legs"].items()} == {EAGER.name: 4, "X": 4}
    assert probed.count("X") > 4 + 1


def test_ceilings_that_a_busy_machine_lowered_are_measured_again():
    """The floor speaks against it by what the copies and products of a bad moment reached."""
    crew = FakeCrew()
    crew.ceiling = Ceilings(flops=1e-9)
    ceilings = crew.ceilings
    crew.ceilings = lambda dtype, again=False: Ceilings(flops=1e30) if again_asked(again) else ceilings(dtype)
    asked = []

    def again_asked(again):
        asked.append(again)
        return any(asked)

    assert measure(crew, [A, X])["failures"] == {}
    assert asked.count(True) == 1


def test_the_clock_of_the_runner_is_compared(monkeypatch):
    """Legs that are said to take milliseconds and take a second."""
    crew = FakeCrew()
    crew.wall = lambda name, index: [1e-3] * 3
    crew.probe = lambda name: 1e-3
    now = iter(range(10**6))
    monkeypatch.setattr(cell_module.time, "perf_counter", lambda: float(next(now)))
    lies = measure(crew, [X], palindromes=2)
    assert "by the clock of its process, but 1e+03 ms by the runner's" in lies["failures"]["X"]
    with_baseline = measure(crew, [EAGER, X], palindromes=2)
    assert with_baseline["failures"] == {}, "the same is seen of its baseline"
