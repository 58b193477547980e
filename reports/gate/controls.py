"""What a gate shows of itself: base against base is no slowdown, and a known slowdown is found."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fuseproof.reports.gate import contrasts
from fuseproof.reports.gate.anchors import Pair
from fuseproof.reports.gate.result import Canary
from fuseproof.runs.records import Run

_ENOUGH_TO_HALVE = 4


@dataclass(frozen=True, kw_only=True)
class Control:
    """controlled: the names of the benchmarks that the null control was made of.

    alarms: by benchmark what it took for real in base against base, 1.05 for 5 % slower, below 1 for faster.
    canary: None where runs were measured apart.
    """

    controlled: Collection[str]
    alarms: Mapping[str, float]
    canary: Canary | None = None

    def reason_against(self, name: str, verdict: str) -> str:
        """Why a verdict on this benchmark is not believed; empty if it is."""
        if (alarm := self.alarms.get(name)) is not None:
            return f"its null control fired: base against base differs by {alarm - 1:+.1%}"
        if verdict == "pass" and name not in self.controlled:
            return "it has no null control: base was measured twice in fewer than 2 rounds"
        if verdict == "pass" and self.canary is not None and name in self.canary.missed:
            return f"its canary was not found: a slowdown of {self.canary.injected:.0%} would have passed"
        return ""


def of_halves(
    base: Run, pairs: Mapping[str, tuple[Pair, Pair]], used: Collection[str], margin: float
) -> Control:
    """Of runs that were measured apart: base's even blocks against its odd ones."""
    values = {benchmark.name: Pair(benchmark=benchmark).values for benchmark in base.benchmarks}
    values |= {name: one.values for name, (one, _) in pairs.items()}
    halves = {
        name: contrasts.of_separate(each[0::2], each[1::2])
        for name, each in values.items()
        if len(each) >= _ENOUGH_TO_HALVE and name not in used
    }
    return Control(controlled=halves.keys(), alarms=_alarms(halves, margin))


def of_rounds(
    pairs: Mapping[str, tuple[Pair, Pair]],
    again: Mapping[str, Mapping[int, float]],
    used: Collection[str],
    margin: float,
) -> Control:
    """Of rounds: base, measured twice in each, against itself; and the same with a known slowdown added.

    A null that is faster than base by more than the margin is an alarm too: it would have hidden as much.
    """
    injected = max(contrasts.LARGE, 2 * margin)
    null: dict[str, contrasts.Contrast] = {}
    faster: dict[str, contrasts.Contrast] = {}
    canary: dict[str, contrasts.Contrast] = {}
    for name, (one, _) in pairs.items():
        twice = again.get(name, {})
        slowed = {block: value + math.log1p(injected) for block, value in twice.items()}
        found = (
            contrasts.of_rounds(one.by_block, twice, {}),
            contrasts.of_rounds(twice, one.by_block, {}),
            contrasts.of_rounds(one.by_block, slowed, {}),
        )
        if name not in used:
            for each, where in zip(found, (null, faster, canary), strict=True):
                if each is not None:
                    where[name] = each
    alarms = _alarms(null, margin)
    alarms |= {name: 1 / slowdown for name, slowdown in _alarms(faster, margin).items()}
    missed = sorted(canary.keys() - _alarms(canary, margin).keys())
    return Control(
        controlled=null.keys(),
        alarms=alarms,
        canary=Canary(injected=injected, rows=len(canary), missed=tuple(missed)),
    )


def _alarms(found: Mapping[str, contrasts.Contrast], margin: float) -> dict[str, float]:
    rows = contrasts.rows(found, margin, {})
    return {name: row.slowdown or 1.0 for name, row in rows.items() if row.verdict == "regression"}
