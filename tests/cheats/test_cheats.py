"""No number is earned but by doing the work: dishonest rows fail with their reason, and cost nobody else.

Each batch is one `fuseproof run` as a user calls it. Two rows of each kind are always run; all of them with
FUSEPROOF_ALL_CHEATS=1, which takes about ten minutes.
"""

from __future__ import annotations

import functools
import importlib.util
import re

import numpy as np
import pytest
from support import cheats

BATCHES = cheats.batches()
BASELINES = {"torch": "torch.eager", "jax": "jax.eager", "tensorflow": "tf.eager"}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The samples of a baseline in a run without anybody else."""

    @functools.cache
    def measure(baseline: str, case: str) -> np.ndarray:
        run = cheats.measure(tmp_path_factory.mktemp("quiet"), cases=[case], only=[baseline])
        return cheats.seconds(run, baseline)

    return measure


@pytest.mark.parametrize("name", BATCHES)
def test_dishonest_rows_fail_and_their_neighbours_do_not(name, tmp_path, quiet):
    batch = BATCHES[name]
    framework = batch[0].framework
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    case, baseline = batch[0].case, BASELINES[framework]
    files, names = [cheat.file for cheat in batch], [cheat.name for cheat in batch]
    run = cheats.measure(tmp_path, cases=[case], files=files, only=names)
    failed, measured = cheats.reasons(run), {each["params"]["implementation"] for each in run["benchmarks"]}
    got_through = {
        cheat.name: failed.get(cheat.name, "measured")
        for cheat in batch
        if cheat.reason is not None
        and (cheat.name in measured or not re.search(cheat.reason, failed.get(cheat.name, "")))
    }
    assert got_through == {}
    beside = cheats.seconds(run, baseline)
    for cheat in batch:  # what may be measured has to gain nothing
        if cheat.reason is None and cheat.name in measured:
            assert np.median(cheats.seconds(run, cheat.name)) > 0.8 * np.median(beside), cheat.name
    assert baseline not in failed
    assert baseline in measured
    # Alone, its own data stay in the caches between its legs: eager TensorFlow takes 1.7 times as long beside
    # anyone else.
    assert np.quantile(beside, 0.1) <= 2 * np.quantile(quiet(baseline, case), 0.9), "it is not slowed down"


def test_there_are_enough_of_them():
    everything = cheats.all_cheats()
    assert len(everything) >= 150
    assert sum(cheat.usual for cheat in everything) >= 50
    assert len({cheat.name for cheat in everything}) == len(everything)


def test_every_kind_is_on_the_page_that_explains_them():
    page = (cheats.FOLDER.parents[1] / "docs" / "explanation" / "how-a-kernel-could-cheat.md").read_text(
        "utf-8"
    )
    for file in sorted(cheats.FOLDER.glob("*/*.py")):
        if file.parent.name != "honest":
            assert f"`tests/cheats/{file.parent.name}/{file.name}`" in page
