"""A run assembled from the pieces in its directory: what passed its check, what failed, the run file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fuseproof.cases import Case
from fuseproof.files import write_json
from fuseproof.implementations import Implementation, sources
from fuseproof.measure import checks
from fuseproof.runs import environment
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.plan import Plan
from fuseproof.runs.records import DEPLOYMENT, FIRST_RESULT, GRAPHS, Benchmark, Failure, Run
from fuseproof.runs.run_file import run_to_json


def measurable(directory: RunDirectory, case: Case) -> tuple[Implementation, ...]:
    """The implementations of a case that passed their check, the only ones to be timed."""
    found = directory.checked(case)
    return _passed(directory.plan, case, found, _failures(directory.plan, case, found))


def limits(directory: RunDirectory, case: Case) -> dict[str, dict[str, float]]:
    """By implementation and tensor, the errors that the results of timed calls may have."""
    found = directory.checked(case)
    return {
        each.name: checks.limits(
            found[each.name]["errors"],
            None if each.yardstick == each.name else _errors(found, each.yardstick),
            **_rule(case),
        )
        for each in measurable(directory, case)
    }


def assemble(directory: RunDirectory, *, complete: bool) -> Run:
    """The run made of the pieces on disk; `complete` says that none is left to measure."""
    benchmarks: list[Benchmark] = []
    failures = list(directory.plan.skipped)
    notes: list[str] = []
    evidence: dict[str, dict[str, dict[str, Any]]] = {}
    for case in directory.plan.cases:
        found, profiled = directory.checked(case), directory.profiled(case)
        notes += [
            f"profile of {name}, {case.group}: {note}"
            for name, profile in profiled.items()
            for note in profile["notes"]
        ]
        failed = _failures(directory.plan, case, found)
        failures += failed
        cells = {
            block: cell
            for block in range(directory.plan.settings.max_blocks)
            if (cell := directory.cell(block, case)) is not None
        }
        messages = {name: message for cell in cells.values() for name, message in cell["failures"].items()}
        for block, cell in cells.items():
            for name, found_of in cell.get("evidence", {}).items():
                evidence.setdefault(case.group, {}).setdefault(name, {})[str(block)] = found_of
        failures += [
            Failure(group=case.group, implementation=name, kind="error", stage="measure", message=message)
            for name, message in messages.items()
        ]
        # Caught in one block, an implementation has earned no number in any other.
        disqualified = {name for cell in cells.values() for name in cell.get("disqualified", ())}
        for implementation in _passed(directory.plan, case, found, failed):
            if implementation.name in disqualified:
                continue
            kernels = profiled.get(implementation.name, {}).get("kernels")
            benchmarks += _benchmarks(directory, case, implementation, cells, found, kernels)
            benchmarks += _first_results(directory, case, implementation, found)
        failures += _without_first_result(directory, case)
    notes += [note for workload in directory.plan.described for note in workload.notes]
    notes += _of_runtimes(directory.plan)
    if directory.mended:
        first, *more = directory.mended
        notes.append(
            f"files of the run were not left alone while it was measured: {first}"
            f"{f' and {len(more)} more' if more else ''}; all were written again from memory"
        )
    frameworks = {
        framework: record["description"]
        for framework in directory.plan.frameworks
        for case in directory.plan.cases
        if (record := directory.check(framework, case)) is not None and record["description"]
    }
    fields = directory.fingerprint_fields
    return Run(
        source=str(directory.path),
        suite=directory.plan.suite,
        fingerprint=environment.fingerprint(fields),
        fingerprint_fields=fields,
        environment={
            **directory.environment,
            "frameworks": frameworks,
            "plan": directory.hash,
            "sources": {of: sources.digest(files) for of, files in directory.sources.items()},
        },
        machine_info=environment.machine_info(),
        commit_info=directory.commit,
        datetime=directory.started,
        complete=complete,
        benchmarks=tuple(benchmarks),
        failures=tuple(failures),
        notes=tuple(notes),
        settings={**vars(directory.plan.settings), "command": list(directory.plan.command)},
        evidence=evidence,
    )


def write_run_file(directory: RunDirectory, *, complete: bool) -> Run:
    """Write `run.json` from the pieces on disk; returns what it holds."""
    run = assemble(directory, complete=complete)
    write_json(directory.path / "run.json", run_to_json(run))
    return run


def _of_runtimes(plan: Plan) -> list[str]:
    """What a reader of the numbers of deployment runtimes must know."""
    rows = (each for case in plan.cases for each in plan.implementations_of(case))
    among = [each.runtime for each in rows if each.runtime is not None]
    notes = []
    if among:
        notes.append(
            "deployment runtimes: what is exported has its weights for good, so in inference a module has "
            "the same parameters in a whole block, in every row"
        )
    if any(runtime.apart for runtime in among):
        notes.append(
            "deployment runtimes with threads of their own: results are written where the last ones were, in "
            "memory bound before the clock starts; peak memory is not known"
        )
    return notes


def _benchmarks(
    directory: RunDirectory,
    case: Case,
    implementation: Implementation,
    cells: Mapping[int, Mapping[str, Any]],
    found: Mapping[str, Mapping[str, Any]],
    kernels: int | None,
) -> list[Benchmark]:
    """One benchmark for each metric, with the samples of all blocks."""
    check = found[implementation.name]
    verdict = _verdict(found, implementation, case)
    by_metric: dict[str, tuple[list[float], list[int], list[int]]] = {}
    for block, cell in cells.items():
        for leg, samples in enumerate(cell["legs"].get(implementation.name, ())):
            for metric, values in samples.items():
                seconds, blocks, legs = by_metric.setdefault(metric, ([], [], []))
                seconds += values
                blocks += [block] * len(values)
                legs += [leg] * len(values)
    optional: dict[str, Any] = {name: check.get(name) for name in (*GRAPHS, *DEPLOYMENT)}
    return [
        Benchmark(
            **_identity(directory, case, implementation, metric),
            seconds=np.asarray(seconds, dtype=np.float64),
            block=np.asarray(blocks, dtype=np.int64),
            leg=np.asarray(legs, dtype=np.int64),
            compile_seconds=check["compile_seconds"],
            **optional,
            peak_memory_bytes=check["peak_memory_bytes"],
            flops=case.workload.flops(case.pass_),
            bytes=case.workload.minimum_bytes(case.pass_, case.dtype),
            kernels=kernels,
            error_relative_rms=verdict.relative_rms,
            error_limit=verdict.limit,
        )
        for metric, (seconds, blocks, legs) in by_metric.items()
    ]


def _identity(
    directory: RunDirectory, case: Case, implementation: Implementation, metric: str
) -> dict[str, Any]:
    """What a benchmark is of: the fields of a Benchmark that no measurement has a part in."""
    return {
        "name": case.benchmark_name(implementation.name, metric),
        "group": case.group,
        "operator": case.workload.name,
        "shape": case.workload.label,
        "dtype": case.dtype,
        "pass_": case.pass_,
        "implementation": implementation.name,
        "metric": metric,
        "cache": case.cache,
        "framework": implementation.framework,
        "device": directory.plan.settings.device,
        "baseline": implementation.baseline,
    }


def _first_results(
    directory: RunDirectory,
    case: Case,
    implementation: Implementation,
    found: Mapping[str, Mapping[str, Any]],
) -> list[Benchmark]:
    """The seconds to a first result, a block for each round; without the figures of a call."""
    row = (directory.first_result(case) or {"rows": {}})["rows"].get(implementation.name, {})
    seconds = np.asarray(row.get("seconds", ()), dtype=np.float64)
    if not len(seconds):
        return []
    verdict = _verdict(found, implementation, case)
    return [
        Benchmark(
            **_identity(directory, case, implementation, FIRST_RESULT),
            seconds=seconds,
            block=np.arange(len(seconds)),
            leg=np.zeros(len(seconds), dtype=np.int64),
            error_relative_rms=verdict.relative_rms,
            error_limit=verdict.limit,
        )
    ]


def _without_first_result(directory: RunDirectory, case: Case) -> list[Failure]:
    rows = (directory.first_result(case) or {"rows": {}})["rows"]
    return [
        Failure(
            group=case.group,
            implementation=name,
            kind=row["status"],
            stage=FIRST_RESULT,
            message=row["message"],
        )
        for name, row in rows.items()
        if row["status"] != "timed"
    ]


def _failures(plan: Plan, case: Case, found: Mapping[str, Mapping[str, Any]]) -> list[Failure]:
    """What failed the check of a case: skips, errors and wrong results."""
    failures = []
    for implementation in plan.implementations_of(case):
        record = found.get(implementation.name)
        if record is None:
            continue
        kind, message = record["status"], record.get("message", "")
        if kind == "ran":
            verdict = _verdict(found, implementation, case)
            if verdict.passed:
                continue
            kind, message = "error", verdict.message
        failures.append(
            Failure(
                group=case.group,
                implementation=implementation.name,
                kind=kind,
                stage="check",
                message=message,
            )
        )
    return failures


def _passed(
    plan: Plan, case: Case, found: Mapping[str, Mapping[str, Any]], failures: Sequence[Failure]
) -> tuple[Implementation, ...]:
    failed = {failure.implementation for failure in failures}
    return tuple(
        implementation
        for implementation in plan.implementations_of(case)
        if implementation.name in found and implementation.name not in failed
    )


def _verdict(
    found: Mapping[str, Mapping[str, Any]], implementation: Implementation, case: Case
) -> checks.Verdict:
    """Whether the errors of an implementation that ran keep the limit that its yardstick's errors set."""
    own = _errors(found, implementation.name)
    assert own is not None
    alone = implementation.yardstick == implementation.name
    baseline = None if alone else _errors(found, implementation.yardstick)
    return checks.judge(own, baseline, **_rule(case))


def _rule(case: Case) -> dict[str, Any]:
    """What the limits of a case depend on."""
    workload = case.workload
    dtype = workload.computed_in(case.dtype)
    return {
        "dtype": dtype,
        "longest": workload.longest_axis,
        "random": workload.random,
        "stored": case.dtype if dtype != case.dtype else "",
        "sizes": {name: tensor.size for name, tensor in workload.results(case.pass_).items()},
    }


def _errors(found: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float] | None:
    record = found.get(name)
    if record is None or record["status"] != "ran":
        return None
    return {key: np.nan if value is None else value for key, value in record["errors"].items()}
