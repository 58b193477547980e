"""The assertion on an interval's limit, and how many blocks would decide it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from fuseproof.api.records import Speedup
from fuseproof.pytest_plugin import limit


def speedup(logarithms):
    """A speedup whose blocks have these logarithms, its t interval by the book."""
    values = np.asarray(logarithms)
    mean, blocks = values.mean(), len(values)
    half = stats.t.ppf(0.975, blocks - 1) * values.std(ddof=1) / math.sqrt(blocks) if blocks > 1 else None
    return Speedup(
        **dict.fromkeys(("case", "workload", "shape", "dtype", "pass_", "cache", "metric"), "x"),
        implementation="fused",
        baseline="eager",
        speedup=math.exp(mean),
        low=None if half is None else math.exp(mean - half),
        high=None if half is None else math.exp(mean + half),
        blocks=blocks,
        seconds=1.0,
        seconds_low=None,
        seconds_high=None,
    )


def repeated(spread, centre, blocks):
    """Logarithms with that mean and that standard deviation exactly."""
    values = np.where(np.arange(blocks) % 2, 1.0, -1.0)
    values -= values.mean()
    return centre + spread * values / values.std(ddof=1)


@pytest.mark.parametrize("blocks", [2, 3, 5, 8])
@pytest.mark.parametrize(("spread", "centre"), [(0.03, 0.19), (0.1, 0.25), (0.05, 0.21)])
def test_so_many_blocks_decide_and_one_less_does_not(blocks, spread, centre):
    assert limit.reason_against(speedup(repeated(spread, centre, blocks)), 1.2, {}) is not None
    needed = limit.blocks_that_decide(speedup(repeated(spread, centre, blocks)), 1.2)
    assert needed > blocks
    assert speedup(repeated(spread, centre, needed)).low > 1.2
    assert needed == blocks + 1 or speedup(repeated(spread, centre, needed - 1)).low < 1.2


def test_a_slower_one_is_decided_too():
    measured = speedup(repeated(0.05, 0.1, 3))
    needed = limit.blocks_that_decide(measured, 1.2)
    assert speedup(repeated(0.05, 0.1, needed)).high < 1.2


def test_slower_inconclusive_and_without_an_interval_are_told_apart():
    found = {
        name: limit.reason_against(speedup(values), 1.2, {})
        for name, values in {
            "fast": [0.3, 0.31, 0.32],
            "slow": [0.1, 0.11, 0.12],
            "unsteady": [0.1, 0.2, 0.5],
            "one block": [0.3],
        }.items()
    }
    assert found["fast"] is None
    assert found["slow"].startswith("too slow: fused is 1.116 times as fast as eager (95 % interval 1.089 to")
    assert "blocks=" not in found["slow"], "more blocks change nothing"
    assert found["unsteady"].startswith("inconclusive: fused is 1.306 times as fast as eager (95 % interval ")
    assert "the interval has at_least=1.2 inside" in found["unsteady"]
    assert "one block, no interval" in found["one block"]
    assert "measure 3 blocks or more" in found["one block"]
    assert not any("\n" in reason for reason in found.values() if reason)


def test_the_limit_itself_passes():
    measured = speedup([0.3, 0.31, 0.32])
    assert limit.reason_against(measured, measured.low, {}) is None
    assert limit.reason_against(measured, math.nextafter(measured.low, 2), {}) is not None


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "blocks=8 in the marker or the call, or --fuseproof-blocks 8"),
        ({"seconds": 9.0}, "seconds=18 in the marker or the call"),
        ({"seconds": 9.0, "blocks": 4}, "blocks=8 in"),
    ],
)
def test_the_remedy_is_in_the_words_of_the_settings(settings, remedy):
    measured = speedup(repeated(0.1, math.log(1.2) + 0.084, 4))
    assert limit.blocks_that_decide(measured, 1.2) == 8
    assert f"About 8 blocks that spread as these do would decide it: {remedy}" in limit.reason_against(
        measured, 1.2, settings
    )


@pytest.mark.parametrize(
    "measured",
    [
        speedup(repeated(0.1, math.log(1.2) + 1e-6, 5)),
        speedup(repeated(0.1, math.log(1.2), 5)),
        dataclasses.replace(speedup([0.1, 0.3]), low=1e-9, high=math.inf),
        speedup(repeated(0.2, math.log(1.2) + 1e-3, 100)),
    ],
    ids=["too near", "the limit itself", "two blocks that differ wildly", "many blocks already"],
)
def test_where_no_number_of_blocks_would_do_another_way_is_named(measured):
    assert limit.blocks_that_decide(measured, 1.2) is None
    assert "Not even 100 blocks like these would decide it" in limit.reason_against(measured, 1.2, {})
