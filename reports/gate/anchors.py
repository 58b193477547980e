"""Anchors: code that did not change, beside which a benchmark was measured in the same palindromes.

Separate runs on a shared machine differ by far more than the code does. Where both hold the same anchor, a
benchmark's time is taken as a multiple of the anchor's, and what the machine did to both cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fuseproof.implementations.sources import digest
from fuseproof.runs import statistics
from fuseproof.runs.records import Benchmark, Run

Floats = NDArray[np.float64]

# In `environment.sources` of a run file, the hash of all code of Fuseproof that a plan's rows are made of.
_OWN = "fuseproof"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A benchmark of one run, and its anchor in the same run; None where it is compared as it is."""

    benchmark: Benchmark
    anchor: Benchmark | None = None

    @cached_property
    def by_block(self) -> dict[int, float]:
        """The value of each block: ln(seconds), or ln(multiple of the anchor)."""
        if self.anchor is None:
            return statistics.block_log_seconds(self.benchmark)
        ratios = statistics.block_log_ratios(self.anchor, self.benchmark)
        return {block: -ratio for block, ratio in ratios.items()}

    @cached_property
    def blocks(self) -> dict[bytes, float]:
        """The value of each block by its samples: a copy of a block is no second measurement."""
        own = self.benchmark
        return {own.seconds[own.block == block].tobytes(): value for block, value in self.by_block.items()}

    @cached_property
    def values(self) -> Floats:
        return np.array(list(self.blocks.values()))


def pairs(base: Run, head: Run, *, anchored: bool = True) -> dict[str, tuple[Pair, Pair]]:
    """Of each benchmark that both runs hold, what is compared: in base and in head."""
    before = {benchmark.name: benchmark for benchmark in base.benchmarks}
    found = {}
    for benchmark in head.benchmarks:
        if (other := before.get(benchmark.name)) is not None:
            anchors = _anchor_of(base, other), _anchor_of(head, benchmark)
            if not anchored or not _are_one(base, head, *anchors):
                anchors = None, None
            found[benchmark.name] = (
                Pair(benchmark=other, anchor=anchors[0]),
                Pair(benchmark=benchmark, anchor=anchors[1]),
            )
    return found


def again(run: Run, found: Mapping[str, tuple[Pair, Pair]]) -> dict[str, Pair]:
    """Of each benchmark, as a multiple of the same anchor or of none, what another run of base says."""
    there = {benchmark.name: benchmark for benchmark in run.benchmarks}
    pairs = {}
    for name, (one, _) in found.items():
        anchor = None if one.anchor is None else there.get(one.anchor.name)
        if name in there and (anchor is None) == (one.anchor is None):
            pairs[name] = Pair(benchmark=there[name], anchor=anchor)
    return pairs


def _anchor_of(run: Run, benchmark: Benchmark) -> Benchmark | None:
    """Its baseline, measured in the same palindromes of at least two blocks; None for a baseline itself."""
    if benchmark.is_baseline or benchmark.baseline is None:
        return None
    for other in run.benchmarks:
        same = all(getattr(other, of) == getattr(benchmark, of) for of in ("group", "metric", "cache"))
        if same and other.implementation == benchmark.baseline:
            return other if len(statistics.block_log_ratios(other, benchmark)) > 1 else None
    return None


def _are_one(base: Run, head: Run, before: Benchmark | None, after: Benchmark | None) -> bool:
    """Whether both are the same code: of one name, and of a hash that both runs recorded."""
    if before is None or after is None or before.name != after.name:
        return False
    hashes = [_hash_of(run, benchmark) for run, benchmark in ((base, before), (head, after))]
    return hashes[0] is not None and hashes[0] == hashes[1]


def _hash_of(run: Run, benchmark: Benchmark) -> str | None:
    """Of the code that an implementation is made of; those that come with Fuseproof share one."""
    sources = run.environment.get("sources")
    if not isinstance(sources, dict):
        return None
    found = sources.get(f"{benchmark.operator} {benchmark.implementation}", sources.get(_OWN))
    return found if isinstance(found, str) and found != digest({}) else None  # no file says nothing
