"""What a comparison is made of: speedups and checks, as flat records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fuseproof.cases import Case
from fuseproof.reports.report import Summary, wording
from fuseproof.reports.report.summary import Interval, Row
from fuseproof.runs.records import Run, is_twin
from fuseproof.workloads.described import Described

Status = Literal["passed", "failed", "skipped", "unchecked"]


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """How many times faster one implementation computes a case than its baseline.

    case:           name of the case; in a stock pytest-benchmark file its group, or the benchmark's name.
    workload, shape, dtype, pass_, cache: the parts of that name; empty where a file does not know them.
    metric:         what was timed: `wall`, or on a GPU `device` too.
    implementation, baseline: what is compared with what.
    speedup:        time of the baseline over time of the implementation; above 1 it is faster.
    low, high:      95 % interval of the speedup over blocks; None with one block, which shows no spread.
    blocks:         blocks of fresh processes that both have.
    seconds:        median time of a call, in seconds.
    seconds_low, seconds_high: its 95 % interval over blocks, in seconds; None with one block.
    """

    case: str
    workload: str
    shape: str
    dtype: str
    pass_: str
    cache: str
    metric: str
    implementation: str
    baseline: str
    speedup: float
    low: float | None
    high: float | None
    blocks: int
    seconds: float
    seconds_low: float | None
    seconds_high: float | None

    def __str__(self) -> str:
        value = Interval(value=self.speedup, low=self.low, high=self.high, blocks=self.blocks)
        return f"{self.implementation} is {wording.speedup(value)} as fast as {self.baseline} in {self.case}"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Whether the results of one implementation of a case are right.

    status:     `passed`; `failed`: wrong, crashed, hung or disqualified; `skipped`: cannot run here;
                `unchecked`: in a stock pytest-benchmark file nobody compared results.
    error:      the worst tensor's relative RMS error; None unless it passed, as the message has it then.
    limit:      what that error had to keep.
    vouched_by: what the results agree with; empty unless it passed.
    compared:   results of timed calls, beside those of the check, that were compared too; 0 where that is
                not recorded.
    message:    why it did not pass, or what happened to it after that; else empty.
    """

    case: str
    implementation: str
    status: Status
    error: float | None
    limit: float | None
    vouched_by: str
    compared: int
    message: str

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def speedups(summary: Summary) -> Iterator[Speedup]:
    """Of every measurement that has a baseline to compare with, in the order of the report."""
    for row in summary.rows:
        if row.speedup is not None:
            yield Speedup(
                case=row.case.group,
                workload=row.case.operator,
                shape=row.case.shape,
                dtype=row.case.dtype,
                pass_=row.case.pass_,
                cache=row.case.cache,
                metric=row.case.metric,
                implementation=row.implementation,
                baseline=row.baseline or "",
                speedup=row.speedup.value,
                low=row.speedup.low,
                high=row.speedup.high,
                blocks=row.speedup.blocks,
                seconds=row.median_seconds.value,
                seconds_low=row.median_seconds.low,
                seconds_high=row.median_seconds.high,
            )


def checks(run: Run, summary: Summary, cases: Mapping[str, Case]) -> Iterator[Check]:
    """One for each case and implementation, case by case; A/A twins are left out, as in every report.

    cases: those of the plan, by name; empty where there is no run directory.
    """
    measured: dict[tuple[str, str], Row] = {}
    for row in summary.rows:
        measured.setdefault((row.case.group, row.implementation), row)
    missing = {(f.group, f.implementation): f for f in run.failures if not is_twin(f.implementation)}
    order = {group: n for n, group in enumerate(dict.fromkeys(group for group, _ in (*measured, *missing)))}
    for key in sorted({**measured, **missing}, key=lambda key: order[key[0]]):
        group, implementation = key
        row_of_it, failure = measured.get(key), missing.get(key)
        status: Status = "passed"
        if row_of_it is None:
            assert failure is not None
            status = "skipped" if failure.kind == "skipped" else "failed"
        elif row_of_it.error is None:
            status = "unchecked"
        yield Check(
            case=group,
            implementation=implementation,
            status=status,
            error=row_of_it.error if row_of_it else None,
            limit=row_of_it.error_limit if row_of_it else None,
            vouched_by=_reference(cases.get(group)) if status == "passed" else "",
            compared=_compared(run, group, implementation),
            message=failure.message if failure else "",
        )


def _reference(case: Case | None) -> str:
    """What stands for what is right in a case, in words."""
    if case is None:
        return "the workload's reference"
    workload = case.workload
    if not isinstance(workload, Described) or not workload.reference:
        return "the workload's reference in float64"
    name = str(workload.reference["name"])
    return f"{name} in {workload.reference_dtype or 'the same dtype'}"


def _compared(run: Run, group: str, implementation: str) -> int:
    """Results of timed calls that were compared, as the file says, whoever wrote it."""
    blocks = run.evidence.get(group)
    blocks = blocks.get(implementation) if isinstance(blocks, Mapping) else None
    if not isinstance(blocks, Mapping):
        return 0
    found = [block.get("outputs") for block in blocks.values() if isinstance(block, Mapping)]
    return sum(number for number in found if isinstance(number, int) and number > 0)
