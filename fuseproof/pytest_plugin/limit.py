"""The assertion `at_least`: the lower limit of a speedup's 95 % interval, and what would decide it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseproof.api.records import Speedup

# More blocks than this are never proposed: a limit that near is the wrong question.
_MOST_BLOCKS = 100


def sentence(speedup: Speedup) -> str:
    """The speedup with its interval, on one line."""
    interval = (
        "one block, no interval"
        if speedup.low is None or speedup.high is None
        else f"95 % interval {speedup.low:.4g} to {speedup.high:.4g}, {speedup.blocks} blocks"
    )
    return (
        f"{speedup.implementation} is {speedup.speedup:.4g} times as fast as {speedup.baseline} ({interval})"
    )


def reason_against(speedup: Speedup, at_least: float, settings: Mapping[str, Any]) -> str | None:
    """Why a test that asks for at least so much fails, on one line; None if it does not.

    settings: what it was measured with, so that what would decide it is said in the same terms.
    """
    if speedup.low is not None and speedup.low >= at_least:
        return None
    if speedup.high is not None and speedup.high < at_least:
        return f"too slow: {sentence(speedup)}; the whole interval is below at_least={at_least:g}"
    if speedup.low is None:
        return f"inconclusive: {sentence(speedup)}; at_least={at_least:g} needs one: measure 3 blocks or more"
    return (
        f"inconclusive: {sentence(speedup)}; the interval has at_least={at_least:g} inside. "
        f"{_remedy(speedup, at_least, settings)}"
    )


def blocks_that_decide(speedup: Speedup, at_least: float) -> int | None:
    """With how many blocks the interval would end at the limit, if they spread as these did; None beyond 100.

    The t interval over n blocks is t(n-1) * s / √n wide to each side, in logarithms: s is known from its
    width.
    """
    from scipy import stats

    if speedup.low is None or speedup.high is None or not 0 < speedup.low < speedup.high < math.inf:
        return None

    def width_of(blocks: int) -> float:
        """Half of the interval's, in units of s."""
        return float(stats.t.ppf(0.975, blocks - 1)) / math.sqrt(blocks)

    spread = math.log(speedup.high / speedup.low) / 2 / width_of(speedup.blocks)
    distance = abs(math.log(speedup.speedup / at_least))
    candidates = range(speedup.blocks + 1, _MOST_BLOCKS + 1)
    return next((blocks for blocks in candidates if width_of(blocks) * spread < distance), None)


def _remedy(speedup: Speedup, at_least: float, settings: Mapping[str, Any]) -> str:
    blocks = blocks_that_decide(speedup, at_least)
    if blocks is None:
        return (
            f"Not even {_MOST_BLOCKS} blocks like these would decide it: measure on a quieter machine, or "
            "ask for another limit"
        )
    how = f"blocks={blocks} in the marker or the call, or --fuseproof-blocks {blocks}"
    if "seconds" in settings and "blocks" not in settings:
        seconds = math.ceil(settings["seconds"] * blocks / speedup.blocks)
        how = f"seconds={seconds} in the marker or the call"
    return f"About {blocks} blocks that spread as these do would decide it: {how}"
