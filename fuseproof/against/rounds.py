"""Rounds: in each, base, head and base once more are measured, one after the other, in drawn order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuseproof.against.checkout import Checkout
from fuseproof.against.command import Command
from fuseproof.runs import merging
from fuseproof.runs.records import Run

ROLES = ("base", "head", "null")
LEAST = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of every round one run of each role, in the order of the rounds."""

    base: tuple[Run, ...]
    head: tuple[Run, ...]
    null: tuple[Run, ...]

    def merged(self, base: Checkout, head: Checkout) -> tuple[Run, Run, Run]:
        """Base, head and base again, each as one run; blocks of one number are of one round."""
        names = (base.name, head.name, f"{base.name}, again")
        stride = max(merging.width(run) for run in (*self.base, *self.head, *self.null))
        one, two, three = (
            replace(merging.merge_as_blocks(runs, source=name, stride=stride), source=name)
            for runs, name in zip((self.base, self.head, self.null), names, strict=True)
        )
        return one, two, three


def measure(
    base: Checkout,
    head: Checkout,
    command: Command,
    folder: Path,
    *,
    rounds: int,
    seconds: float | None,
    seed: int,
    said: Callable[[str], None],
    names: Sequence[str] = (),
    before: Measured | None = None,
) -> Measured:
    """Measure `rounds` rounds, or as many as fit into `seconds`, but no fewer than LEAST, into `folder`.

    names: only these benchmarks, which `before` holds.
    Raises UserError if a checkout cannot be measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    checkouts = {"base": base, "head": head, "null": base}
    found: dict[str, list[Run]] = {role: [] for role in ROLES}
    started, longest = time.monotonic(), 0.0
    for number in range(rounds):
        begun = time.monotonic()
        if seconds is not None and number >= LEAST and begun - started + longest > seconds:
            said(f"the budget ends after {number} rounds")
            break
        for role in generator.sample(ROLES, len(ROLES)):
            known = () if before is None else before.head if role == "head" else before.base
            output = folder / f"{role}-{number}{'.json' if command.program == 'pytest' else ''}"
            found[role].append(command.measure(checkouts[role], output, known, names))
        longest = max(longest, time.monotonic() - begun)
        said(f"round {number + 1} of {rounds}: {time.monotonic() - begun:.0f} s")
    return Measured(**{role: tuple(runs) for role, runs in found.items()})
