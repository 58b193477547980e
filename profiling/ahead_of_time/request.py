"""What the user of `fuseproof compile` asks for; every family of targets takes its part of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Request:
    """The user's options; a family rejects those not in `TAKES`.

    cases:          cases by name; empty means the family's own.
    operators, dtypes, only: filters of cases and implementations, or of launches; empty means all.
    launches:       only launches whose label contains one of these.
    extra, workloads: further implementations and workloads, as in `implementations.everything`.
    topology:       chips to shard over.
    schedule:       print also what runs when.
    without_fusion: compile also without the compiler's fusion passes, to compare.
    update_budget:  write the results into the budget instead of comparing them with it.
    quiet:          print only what is wrong and a summary.
    output:         keep the compiler's files in this directory.
    """

    targets: Sequence[str]
    operators: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    launches: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    topology: str = "1x1"
    schedule: bool = False
    without_fusion: bool = False
    update_budget: bool = False
    quiet: bool = False
    output: Path | None = None
    progress: Callable[[str], None] = lambda text: None
