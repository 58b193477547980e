"""A run as plain data: benchmarks with every sample, failures, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof import escaping, privacy
from fuseproof.errors import UserError, require_known
from fuseproof.runs import variables

# The twin that `--null` adds to every implementation: the same code, so the true speedup is exactly 1.
NULL_SUFFIX = "-null"

# What is counted where torch.compile was used, of a Benchmark's fields.
GRAPHS = ("graphs", "graph_breaks", "recompiles")
# What it took until the first result; of what is no deployment runtime the first call alone.
DEPLOYMENT = ("first_call_seconds", "export_seconds", "load_seconds", "artifact_bytes")

# The choice of a baseline that leaves each implementation its own, by default that of its framework.
OWN = "own"


# The metric of a process's time from its start to its first result, and the stage that measures it.
FIRST_RESULT = "first_result"


def is_twin(implementation: str | None) -> bool:
    """Whether that is the name of an A/A twin."""
    return (implementation or "").endswith(NULL_SUFFIX)


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """All samples of one implementation of one case in one metric.

    seconds: (n,) float64, seconds per call, one entry per round.
    block:   (n,) int64, the block (fresh processes) each round was taken in.
    leg:     (n,) int64, numbered within a block; legs 2i and 2i+1 are the mirrored legs of palindrome i.

    metric:  `wall`, `device`, or FIRST_RESULT, of which a block is one round of fresh processes.
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
    compile_seconds: float | None = None  # of a deployment runtime with export and load
    graphs: int | None = None  # captured by torch.compile until the check ended; None if it was not used
    graph_breaks: int | None = None
    recompiles: int | None = None
    first_call_seconds: float | None = None
    export_seconds: float | None = None  # of a deployment runtime, as the next two
    load_seconds: float | None = None
    artifact_bytes: int | None = None
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
    """An implementation of a case without a (complete) measurement: skipped here, or in error.

    The message may be anybody's: it becomes one line that names neither this user nor this machine.
    """

    group: str
    implementation: str
    kind: str  # "skipped": cannot run here; "error": ran and was wrong, crashed or hung
    stage: str  # "plan", "check", "measure" or FIRST_RESULT
    message: str

    @property
    def spoils(self) -> bool:
        """Whether no time of it counts: not of one that failed while it was measured, or apart from that."""
        return self.kind == "error" and self.stage not in ("measure", FIRST_RESULT)

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", privacy.anonymous_document(self.message))


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run; or one stock pytest-benchmark file, or several of them merged as blocks.

    What may leave the machine with it holds no secret variables and names neither the user nor the machine.
    """

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
    # Of files that were merged: (3, 5) for 3 of 5 files, of each benchmark that some of them do not hold.
    absent: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    # What shows that the timed work was done, as measuring left it: by group, implementation and block.
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("notes", "commit_info"):
            object.__setattr__(self, name, privacy.anonymous_document(getattr(self, name)))
        if "command" in self.settings:
            command = privacy.anonymous_document(self.settings["command"])
            object.__setattr__(self, "settings", {**self.settings, "command": command})
        # An earlier version recorded every variable with a known prefix.
        object.__setattr__(self, "environment", variables.listed_only(self.environment))

    @property
    def label(self) -> str:
        """`source` as a page or a record shows it."""
        return escaping.line(privacy.anonymous(self.source))

    @property
    def asked_baseline(self) -> str:
        """The baseline that the run was asked to compare with: an implementation's name, or OWN."""
        return str(self.settings.get("baseline") or OWN)

    def as_asked(self) -> Run:
        """Against what it was asked to be compared with; as it is where that was not measured."""
        asked = self.asked_baseline
        return self.against(asked) if self.has_measured(asked) else self

    def has_measured(self, implementation: str) -> bool:
        """Whether there is a measurement of it, or it stands for each one's own baseline."""
        return implementation == OWN or any(b.implementation == implementation for b in self.benchmarks)

    def against(self, baseline: str) -> Run:
        """The same samples, where everything is compared with one implementation, of whatever framework.

        baseline: its name; OWN leaves each implementation its own. A/A twins keep their originals, and where
            it was not measured in a case, nothing of that case has a baseline.

        Raises UserError if it was measured in no case.
        """
        if baseline == OWN:
            return self
        compared = [each for each in self.benchmarks if not is_twin(each.implementation)]
        there = {
            (each.group, each.metric, each.cache) for each in compared if each.implementation == baseline
        }
        if not there:
            reasons = [each.message for each in self.failures if each.implementation == baseline]
            if reasons:
                raise UserError(
                    f"baseline {baseline!r} was not measured in {self.label}: {reasons[0]}; choose another"
                )
            names = dict.fromkeys(each.implementation for each in compared if each.implementation)
            try:
                require_known("baseline", [baseline], [*names, OWN])
            except UserError as error:  # of several runs, which
                raise UserError(f"{self.label}: {error}") from None
        chosen = {*map(id, compared)}
        return replace(
            self,
            benchmarks=tuple(
                replace(
                    each,
                    baseline=baseline if (each.group, each.metric, each.cache) in there else None,
                )
                if id(each) in chosen
                else each
                for each in self.benchmarks
            ),
        )

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


def without_first_results(run: Run) -> Run:
    """The run with the times of calls, and what failed on the way to them."""
    return replace(
        run,
        benchmarks=tuple(each for each in run.benchmarks if each.metric != FIRST_RESULT),
        failures=tuple(each for each in run.failures if each.stage != FIRST_RESULT),
    )


def first_results(run: Run) -> Run:
    """The run with the times to a first result alone, of the cases that they were measured in."""
    found = tuple(each for each in run.benchmarks if each.metric == FIRST_RESULT)
    asked = {each.group for each in found}
    asked |= {each.group for each in run.failures if each.stage == FIRST_RESULT}
    return replace(
        run,
        benchmarks=found,
        failures=tuple(each for each in run.failures if each.group in asked and each.stage != "measure"),
    )
