"""Rounds: everybody's turn, in drawn order, within a budget; measuring is made up."""

import time
from pathlib import Path

import numpy as np
import pytest

from fuseproof.against import rounds
from fuseproof.against.checkout import Checkout
from fuseproof.against.command import Command
from fuseproof.errors import UserError

BASE, HEAD = (
    Checkout(label=label, commit=label * 4, folder=Path(), python=Path()) for label in ("base", "head")
)


@pytest.fixture
def turns(monkeypatch, a_run, a_benchmark):
    """Who was measured, in order; a call takes `turns.seconds` by a clock that is made up."""

    class Turns(list):
        seconds = 0.0

    found, clock = Turns(), [0.0]

    def measure(self, checkout, output, only=(), names=()):
        found.append((checkout.label, output.name, tuple(names)))
        clock[0] += found.seconds
        return a_run([a_benchmark(seconds=1e-3 + 1e-6 * len(found), blocks=1)], source=output.name)

    monkeypatch.setattr(Command, "measure", measure)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return found


def measured(tmp_path, **more):
    how = {"rounds": 6, "seconds": None, "seed": 0, "said": lambda text: None} | more
    return rounds.measure(BASE, HEAD, Command.of(["pytest"]), tmp_path, **how)


def test_each_round_measures_all_three_in_another_order(turns, tmp_path):
    found = measured(tmp_path)
    assert [len(runs) for runs in (found.base, found.head, found.null)] == [6, 6, 6]
    orders = {tuple(name.split("-")[0] for _, name, _ in turns[n : n + 3]) for n in range(0, 18, 3)}
    assert len(orders) > 1
    assert all(sorted(order) == ["base", "head", "null"] for order in orders)
    assert {label for label, name, _ in turns if name.startswith("null")} == {"base"}


def test_blocks_of_the_merged_runs_are_the_rounds(turns, tmp_path):
    found = measured(tmp_path)
    for role, run in zip(("base", "head", "null"), found.merged(BASE, HEAD), strict=True):
        assert sorted({*run.benchmarks[0].block.tolist()}) == [0, 1, 2, 3, 4, 5]
        assert [each.source for each in getattr(found, role)] == [f"{role}-{n}.json" for n in range(6)]
    assert [run.label for run in found.merged(BASE, HEAD)] == [
        "base basebasebase",
        "head headheadhead",
        "base basebasebase, again",
    ]


def test_blocks_are_the_rounds_whatever_a_turn_measured(a_run, a_benchmark):
    """With `--first-result` a turn has several blocks of its own, and not the same number in each."""

    rng = np.random.default_rng(0)

    def side(counts):
        each = {"process_noise": 0.01, "rng": rng}
        return tuple(a_run([a_benchmark(blocks=count, **each)]) for count in counts)

    found = rounds.Measured(base=side([3, 1, 2]), head=side([1, 2, 1]), null=side([1, 1, 1]))
    blocks = [sorted({*run.benchmarks[0].block.tolist()}) for run in found.merged(BASE, HEAD)]
    assert blocks == [[0, 1, 2, 3, 6, 7], [0, 3, 4, 6], [0, 3, 6]]


def test_a_budget_ends_after_the_least_number_of_rounds(turns, tmp_path):
    turns.seconds = 10.0
    assert len(measured(tmp_path, seconds=1.0, rounds=9).head) == rounds.LEAST
    assert len(measured(tmp_path, seconds=220.0, rounds=9).head) == 7


@pytest.mark.parametrize("words", [[], ["tests"], ["python", "-m", "pytest"]])
def test_what_is_not_known_is_refused(words):
    with pytest.raises(UserError, match="say after --"):
        Command.of(words)
