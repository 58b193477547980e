"""The honest are not accused: unusual ways to do the work are measured, in every pass, whatever the seed.

The first of each framework are always run; all of them, with three seeds, with FUSEPROOF_ALL_CHEATS=1.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
from support import cheats

EVERYTHING = bool(os.environ.get(cheats.EVERYTHING))
SEEDS = range(3) if EVERYTHING else range(1)


RUNS = {
    f"{framework}-{number}": (framework, names)
    for framework in cheats.FRAMEWORKS
    for number, names in enumerate(cheats.in_runs(cheats.honest_rows(framework, everything=EVERYTHING)), 1)
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("run", RUNS)
def test_honest_rows_are_measured(run, seed, tmp_path):
    framework, names = RUNS[run]
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    run = cheats.measure(
        tmp_path,
        cases=[cheats.FORWARD, cheats.GRADIENTS],
        files=[cheats.honest_file(framework)],
        only=names,
        more=["--seed", str(seed)],
    )
    accused = {name: reason for name, reason in cheats.reasons(run).items() if reason.startswith("error")}
    assert accused == {}
    assert {each["params"]["implementation"] for each in run["benchmarks"]} >= set(names)


def test_there_are_enough_of_them():
    assert sum(len(cheats.honest_rows(framework, everything=True)) for framework in cheats.FRAMEWORKS) >= 40
