"""The columns of a comparison's data frames, each with its unit and meaning, and how they are filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from fuseproof.api.table import Column, Table, columns, of_rows
from fuseproof.reports.report import Summary
from fuseproof.reports.report.summary import Interval, Missing, Row
from fuseproof.runs.records import Benchmark, Run, is_twin

_Key = tuple[str, str, str, str]  # case, metric, cache, implementation

# One row for each implementation that was planned for a case, in each metric in which it was timed.
MEASUREMENTS: Final[tuple[Column, ...]] = columns(
    ("case", "text", "", "name of the case"),
    ("workload", "text", "", "name of what is computed"),
    ("shape", "text", "", "its shape"),
    ("dtype", "text", "", "its dtype"),
    ("pass", "text", "", "`forward`, `forward_backward`; of modules `inference`, `training_step`"),
    ("cache", "text", "", "`warm` or `cold`: whether inputs are in the processor's cache"),
    ("metric", "text", "", "what was timed: `wall`, on a GPU `device` too; null if nothing was"),
    ("implementation", "text", "", "name of what was measured"),
    ("baseline", "text", "", "name of what it is compared with; null if unknown"),
    (
        "status",
        "text",
        "",
        "`measured`; `failed`: wrong, crashed, disqualified; `skipped`: cannot run here",
    ),
    ("message", "text", "", "why there are no numbers, or what failed after some were taken; else empty"),
    ("seconds", "number", "s", "median time of a call"),
    ("seconds_low", "number", "s", "lower limit of its 95 % interval; null with one block"),
    ("seconds_high", "number", "s", "upper limit of its 95 % interval; null with one block"),
    ("speedup", "number", "", "time of the baseline over that of the implementation; null for a baseline"),
    ("low", "number", "", "lower limit of the speedup's 95 % interval; null with one block"),
    ("high", "number", "", "upper limit of the speedup's 95 % interval; null with one block"),
    (
        "speedup_by_median",
        "number",
        "",
        "the same by the median of the rounds, where `speedup` is of the fast ones",
    ),
    ("speedup_by_mean", "number", "", "the same by the mean of the rounds, the throughput"),
    ("doubt", "text", "", "why the speedup is doubted: median or mean contradict it; else empty"),
    ("blocks", "count", "", "blocks of fresh processes in which it was timed"),
    ("rounds", "count", "", "samples in all blocks"),
    (
        "compile_seconds",
        "number",
        "s",
        "first call less a steady call, with export and load of a deployment runtime; null if nothing is "
        "compiled",
    ),
    ("graphs", "number", "", "graphs that torch.compile captured; null if it was not used"),
    ("graph_breaks", "number", "", "places where a graph ended and Python went on"),
    ("recompiles", "number", "", "compilations of code that was compiled before"),
    ("first_call_seconds", "number", "s", "first call in a fresh process, of whatever was bound and loaded"),
    ("export_seconds", "number", "s", "from a module to a file, of a deployment runtime"),
    ("load_seconds", "number", "s", "from that file to what can be called"),
    ("artifact_bytes", "number", "bytes", "of that file and what belongs to it"),
    ("break_even_calls", "number", "", "calls after which compiling has paid for itself; infinite if never"),
    ("peak_memory_bytes", "number", "bytes", "peak memory of a call"),
    ("kernels", "number", "", "kernels of a call, by the profiler; null if not counted"),
    (
        "flops_per_second",
        "number",
        "1/s",
        "operations of the textbook algorithm over `seconds`",
    ),
    ("bytes_per_second", "number", "bytes/s", "bytes that must move at least over `seconds`"),
    ("error", "number", "", "relative RMS error of the worst tensor; null if nobody checked"),
    ("error_limit", "number", "", "limit that the error had to keep"),
)

# One row for each sample.
SAMPLES: Final[tuple[Column, ...]] = columns(
    ("case", "text", "", "name of the case"),
    ("cache", "text", "", "`warm` or `cold`"),
    ("metric", "text", "", "what was timed: `wall` or `device`"),
    ("implementation", "text", "", "name of what was measured"),
    ("block", "count", "", "block of fresh processes, from 0"),
    ("leg", "count", "", "leg within the block; legs 2i and 2i + 1 are the halves of palindrome i"),
    ("seconds", "number", "s", "time of a call: that of a round over its calls"),
)


def measurements(run: Run, summary: Summary) -> Table:
    """What was measured, in the order of the report, then what was not; without A/A twins, as in a report."""
    benchmarks = {_key_of(benchmark): benchmark for benchmark in run.benchmarks}
    messages = {(f.group, f.implementation): f.message for f in run.failures}
    rows = []
    for row in summary.rows:
        key = (row.case.group, row.case.metric, row.case.cache, row.implementation)
        rows.append(_measured(row, benchmarks[key], messages.get((row.case.group, row.implementation), "")))
    have = {(row.case.group, row.implementation) for row in summary.rows}
    rows += [
        _missing(each)
        for each in summary.missing
        if (each.group, each.implementation) not in have and not is_twin(each.implementation)
    ]
    return of_rows(MEASUREMENTS, rows)


def samples(run: Run) -> Table:
    """Every sample of every benchmark, A/A twins included."""
    texts: dict[str, list[str]] = {"case": [], "cache": [], "metric": [], "implementation": []}
    for benchmark in run.benchmarks:
        case, metric, cache, implementation = _key_of(benchmark)
        number = len(benchmark.seconds)
        for name, value in zip(texts, (case, cache, metric, implementation), strict=True):
            texts[name] += [value] * number
    arrays = {
        name: np.concatenate([getattr(b, name) for b in run.benchmarks] or [np.empty(0, dtype)])
        for name, dtype in (("block", np.int64), ("leg", np.int64), ("seconds", np.float64))
    }
    return Table(columns=SAMPLES, values={**texts, **arrays})


def _key_of(benchmark: Benchmark) -> _Key:
    """As the report names it: a stock pytest-benchmark file may know no case and no implementation."""
    name = benchmark.name
    return benchmark.group or name, benchmark.metric, benchmark.cache, benchmark.implementation or name


def _measured(row: Row, benchmark: Benchmark, message: str) -> Mapping[str, Any]:
    case = row.case
    return {
        "case": case.group,
        "workload": case.operator,
        "shape": case.shape,
        "dtype": case.dtype,
        "pass": case.pass_,
        "cache": case.cache,
        "metric": case.metric,
        "implementation": row.implementation,
        "baseline": row.baseline,
        "status": "measured",
        "message": message,
        **_interval("seconds", "seconds_low", "seconds_high", row.median_seconds),
        **_interval("speedup", "low", "high", row.speedup),
        "speedup_by_median": row.speedup_by_median.value if row.speedup_by_median else None,
        "speedup_by_mean": row.speedup_by_mean.value if row.speedup_by_mean else None,
        "doubt": row.doubt or "",
        "blocks": row.median_seconds.blocks,
        "rounds": row.rounds,
        "compile_seconds": row.compile_seconds,
        "graphs": row.graphs,
        "graph_breaks": row.graph_breaks,
        "recompiles": row.recompiles,
        "first_call_seconds": row.first_call_seconds,
        "export_seconds": row.export_seconds,
        "load_seconds": row.load_seconds,
        "artifact_bytes": row.artifact_bytes,
        "break_even_calls": row.break_even_calls.value if row.break_even_calls else None,
        "peak_memory_bytes": row.peak_memory_bytes,
        "kernels": benchmark.kernels,
        "flops_per_second": row.flops_per_second,
        "bytes_per_second": row.bytes_per_second,
        "error": row.error,
        "error_limit": row.error_limit,
    }


def _interval(value: str, low: str, high: str, interval: Interval | None) -> dict[str, float | None]:
    return {} if interval is None else {value: interval.value, low: interval.low, high: interval.high}


def _missing(missing: Missing) -> Mapping[str, Any]:
    return {
        "case": missing.group,
        "workload": missing.operator,
        "shape": missing.shape,
        "dtype": missing.dtype,
        "pass": missing.pass_,
        "cache": missing.cache,
        "implementation": missing.implementation,
        "status": "skipped" if missing.kind == "skipped" else "failed",
        "message": missing.message,
        "doubt": "",
    }
