"""The contents of a report as plain data: `report.summarise` fills these records, every format reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fuseproof.fusion.account import Account
from fuseproof.reports.claims import ClaimRow
from fuseproof.reports.claims.audit import Check
from fuseproof.runs.population import LeftOut, Means, Shares
from fuseproof.runs.records import OWN
from fuseproof.runs.variance import Budget


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % interval over blocks; no interval (None) when there is one block."""

    value: float
    low: float | None
    high: float | None
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case as it was timed. `run` indexes `Summary.runs`."""

    run: int
    group: str
    operator: str
    shape: str
    dtype: str
    pass_: str
    metric: str
    cache: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """The replicates of one comparison in one block: its speedup, and that of each of its palindromes."""

    block: int
    speedup: float
    palindromes: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One implementation of one case. `speedup` is None for a baseline, and without one to compare with.

    speedup is by the fast rounds; speedup_by_median and speedup_by_mean are the same by the median of the
    rounds and by all of them, and doubt says where they contradict it (`runs.rounds`).
    """

    case: Case
    implementation: str
    baseline: str | None
    is_baseline: bool
    median_seconds: Interval
    speedup: Interval | None
    speedup_bootstrap: tuple[float, float] | None
    speedup_by_median: Interval | None
    speedup_by_mean: Interval | None
    doubt: str | None
    blocks: tuple[Block, ...]
    rounds: int
    flops_per_second: float | None
    bytes_per_second: float | None  # the operator's minimum bytes over the median time
    compile_seconds: float | None
    graphs: int | None  # of torch.compile, with the places where one broke off, and recompilations
    graph_breaks: int | None
    recompiles: int | None
    break_even_calls: Interval | None  # infinite where compiling never pays for itself
    peak_memory_bytes: int | None
    error: float | None
    error_limit: float | None
    first_call_seconds: float | None = None
    export_seconds: float | None = None  # of a deployment runtime, as the next two
    load_seconds: float | None = None
    artifact_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An implementation of a case without a measurement, and why."""

    run: int
    group: str
    operator: str
    shape: str
    dtype: str
    pass_: str
    cache: str
    implementation: str
    kind: str
    stage: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A geometric mean of speedups over cases; `operator` or `dtype` None means over all of them."""

    run: int
    implementation: str
    baseline: str
    pass_: str
    metric: str
    cache: str
    operator: str | None
    dtype: str | None
    cases: int
    speedup: Interval
    resampled: tuple[float, float] | None  # 95 % interval with the cases resampled too


@dataclass(frozen=True, kw_only=True)
class Population:
    """All cases of one implementation in a pass, failed ones included, as `runs.population` counts them.

    shares: slower than, about the same as, and faster than the baseline. budget: None with one block.
    """

    run: int
    implementation: str
    baseline: str
    pass_: str
    metric: str
    cache: str
    families: int
    means: Means
    shares: Shares
    left_out: LeftOut | None
    budget: Budget | None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One verdict on a run, and the same as a sentence."""

    run: int
    row: ClaimRow
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Undecided:
    """What one run cannot decide: each claim or comparison with its reason, a line of text each."""

    run: int
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Twin:
    """An implementation against itself under another name: `ratio` should be 1."""

    case: Case
    implementation: str
    ratio: Interval


@dataclass(frozen=True, kw_only=True)
class NullControl:
    """How often the 95 % interval of an A/A comparison contains 1, and of how many."""

    contained: int
    total: int
    twins: tuple[Twin, ...]


@dataclass(frozen=True, kw_only=True)
class Why:
    """What the compiler changed in one measured implementation, if the run has a fusion account.

    links: the files kept with it: (label, path relative to the report).
    """

    case: Case
    speedup: Interval | None
    account: Account
    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """One run of the report: where its numbers come from, and what they are compared with.

    baseline:   the implementation that all others are compared with, or `own`: each with its own.
    uncompared: the cases in which that was not measured, so that nothing is compared.
    audit:      whether the comparisons are fair, question by question.
    """

    source: str
    file: str
    suite: str | None
    datetime: str | None
    complete: bool
    fingerprint: str | None
    machine: str
    blocks: int
    samples: int
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    commit: Mapping[str, Any]
    audit: tuple[Check, ...]
    baseline: str = OWN
    uncompared: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All of a report. `run` of the other records is an index into `runs`."""

    runs: tuple[RunInfo, ...]
    rows: tuple[Row, ...]
    means: tuple[Mean, ...]
    populations: tuple[Population, ...]
    missing: tuple[Missing, ...]
    claims: tuple[Claim, ...]
    undecided: tuple[Undecided, ...]
    null_control: NullControl | None
    whys: tuple[Why, ...] = ()
