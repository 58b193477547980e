"""A run as plain data: benchmarks with every sample, failures, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The twin that `--null` adds to every implementation: the same code, so the true speedup is exactly 1.
NULL_SUFFIX = "-null"


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """All samples of one implementation of one case in one metric.

    seconds: (n,) float64, seconds per call, one entry per round.
    block:   (n,) int64, the block (fresh processes) each round was taken in.
    leg:     (n,) int64, numbered within a block; legs 2i and 2i+1 are the mirrored legs of palindrome i.
    """

    name: str
    group: str
    seconds: NDArray[np.float64]
    block: NDArray[np.int64]
    leg: NDArray[np.int64]
    operator: str | None = None
    shape: str | None = None
    dtype: str | None = None
    pass_: str | None = None
    implementation: str | None = None
    metric: str = "wall"
    cache: str = "warm"
    framework: str | None = None
    device: str | None = None
    baseline: str | None = None
    compile_seconds: float | None = None
    peak_memory_bytes: int | None = None
    flops: int | None = None
    bytes: int | None = None
    kernels: int | None = None  # in one call, by the profiler; None if not profiled or if calls differ
    error_relative_rms: float | None = None
    error_limit: float | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is the implementation that others of its framework are compared with."""
        return self.implementation is not None and self.implementation == self.baseline


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An implementation of a case without a (complete) measurement: skipped here, or in error."""

    group: str
    implementation: str
    kind: str  # "skipped": cannot run here; "error": ran and was wrong, crashed or hung
    stage: str  # "plan", "check" or "measure"
    message: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run; or one stock pytest-benchmark file, or several of them merged as blocks."""

    source: str
    suite: str | None
    fingerprint: str | None
    fingerprint_fields: Mapping[str, Any]
    environment: Mapping[str, Any]
    machine_info: Mapping[str, Any]
    commit_info: Mapping[str, Any]
    datetime: str | None
    complete: bool
    benchmarks: tuple[Benchmark, ...]
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader must know beside the failures, such as a profile that failed
    settings: Mapping[str, Any] = field(default_factory=dict)

    def baseline_of(self, benchmark: Benchmark) -> Benchmark | None:
        """The baseline of `benchmark` in the same case, metric and cache regime; None if not measured."""
        if benchmark.baseline is None:  # in a stock pytest-benchmark file
            return None
        for other in self.benchmarks:
            if (
                other.group == benchmark.group
                and other.metric == benchmark.metric
                and other.cache == benchmark.cache
                and other.implementation == benchmark.baseline
            ):
                return other
        return None
