"""The run file: pytest-benchmark JSON with the samples' blocks and legs, and what failed.

Reports, claims and gates read runs through this module and nothing else, so measuring and analysing share
only plain data. Layout of a file: docs/reference/run-file.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuseproof import documents
from fuseproof.errors import UserError
from fuseproof.runs.records import DEPLOYMENT, GRAPHS, Benchmark, Failure, Run

SCHEMA = 1
PYTEST_BENCHMARK_FORMAT = "5.3.1"
# What a sample can be, in seconds: within these limits no statistic overflows.
SHORTEST, LONGEST = 1e-12, 1e9
MOST = 2**31 - 1  # blocks of a run, legs of a block


# --- writing ---


def benchmark_to_json(benchmark: Benchmark) -> dict[str, Any]:
    """One entry of `benchmarks` in run.json; `benchmark_from_json` is its inverse."""
    seconds = benchmark.seconds
    q1, median, q3 = (float(q) for q in np.quantile(seconds, [0.25, 0.5, 0.75]))
    mean = float(seconds.mean())
    stddev = float(seconds.std(ddof=1)) if len(seconds) > 1 else 0.0
    iqr = q3 - q1
    low_outliers = seconds < q1 - 1.5 * iqr
    high_outliers = seconds > q3 + 1.5 * iqr
    inside = seconds[~(low_outliers | high_outliers)]
    outside_one_sd = int(np.count_nonzero(np.abs(seconds - mean) > stddev))
    return {
        "group": benchmark.group,
        "name": benchmark.name,
        "fullname": benchmark.name,
        "params": {
            "operator": benchmark.operator,
            "shape": benchmark.shape,
            "dtype": benchmark.dtype,
            "pass": benchmark.pass_,
            "implementation": benchmark.implementation,
            "metric": benchmark.metric,
            "cache": benchmark.cache,
        },
        "param": None,
        "options": {"timer": "perf_counter"},
        "extra_info": {
            "framework": benchmark.framework,
            "device": benchmark.device,
            "baseline": benchmark.baseline,
            "block": benchmark.block.tolist(),
            "leg": benchmark.leg.tolist(),
            "compile_seconds": benchmark.compile_seconds,
            **{
                name: figure
                for name in (*GRAPHS, *DEPLOYMENT)
                if (figure := getattr(benchmark, name)) is not None
            },
            "peak_memory_bytes": benchmark.peak_memory_bytes,
            "flops": benchmark.flops,
            "bytes": benchmark.bytes,
            "kernels": benchmark.kernels,
            "error": {"relative_rms": benchmark.error_relative_rms, "limit": benchmark.error_limit},
        },
        # The keys `pytest-benchmark compare` and its other readers expect of one benchmark.
        "stats": {
            "min": float(seconds.min()),
            "max": float(seconds.max()),
            "mean": mean,
            "stddev": stddev,
            "rounds": len(seconds),
            "median": median,
            "iqr": iqr,
            "q1": q1,
            "q3": q3,
            "iqr_outliers": int(np.count_nonzero(low_outliers | high_outliers)),
            "stddev_outliers": outside_one_sd,
            "outliers": f"{outside_one_sd};{int(np.count_nonzero(low_outliers | high_outliers))}",
            "ld15iqr": float(inside.min()),
            "hd15iqr": float(inside.max()),
            "ops": 1.0 / mean,
            "total": float(seconds.sum()),
            "iterations": 1,
            "data": seconds.tolist(),
        },
    }


def run_to_json(run: Run) -> dict[str, Any]:
    """The whole of run.json as a plain document."""
    return {
        "machine_info": dict(run.machine_info),
        "commit_info": dict(run.commit_info),
        "datetime": run.datetime,
        "version": PYTEST_BENCHMARK_FORMAT,
        "fuseproof": {
            "schema": SCHEMA,
            "suite": run.suite,
            "complete": run.complete,
            "fingerprint": run.fingerprint,
            "fingerprint_fields": dict(run.fingerprint_fields),
            "environment": dict(run.environment),
            "settings": dict(run.settings),
            "failures": [
                {
                    "group": failure.group,
                    "implementation": failure.implementation,
                    "kind": failure.kind,
                    "stage": failure.stage,
                    "message": failure.message,
                }
                for failure in run.failures
            ],
            "notes": list(run.notes),
            "evidence": dict(run.evidence),
        },
        "benchmarks": [benchmark_to_json(benchmark) for benchmark in run.benchmarks],
    }


# --- reading ---


def load(path: str | Path) -> Run:
    """Read a run directory, a run.json or a stock pytest-benchmark file, each also packed by gzip.

    Raises UserError, in one line, for a missing, unreadable, truncated or foreign file.
    """
    given = Path(path)
    file = file_of(given)
    try:
        document = documents.load(file, wanted="expected a run.json or a pytest-benchmark file")
    except (FileNotFoundError, NotADirectoryError):
        hint = (
            "the folder holds no run.json; was the run stopped before its first block?"
            if given.is_dir()
            else ""
        )
        raise UserError(f"no such run: {given}{'; ' + hint if hint else ''}") from None
    try:
        return _run_from_json(document, source=str(given))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = documents.reason(error)
        raise UserError(f"{file} is not a pytest-benchmark or Fuseproof run file ({what})") from None


def file_of(path: Path) -> Path:
    """The run file of a run directory, which may be packed; any other path is one itself."""
    if not path.is_dir():
        return path
    packed = path / "run.json.gz"
    return packed if packed.is_file() and not (path / "run.json").is_file() else path / "run.json"


def _run_from_json(document: Any, *, source: str) -> Run:
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise ValueError("no list of benchmarks")
    added = document.get("fuseproof") or {}
    if added:
        documents.refuse_other_schema(added["schema"], SCHEMA)
    benchmarks = tuple(benchmark_from_json(entry) for entry in document["benchmarks"])
    names = [benchmark.name for benchmark in benchmarks]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} appears twice")
    _refuse_unlike_in_a_case(benchmarks)
    machine_info = _typed(document, "machine_info", dict) or {}
    return Run(
        source=source,
        suite=_typed(added, "suite", str),
        fingerprint=_typed(added, "fingerprint", str),
        fingerprint_fields=_typed(added, "fingerprint_fields", dict)
        or _stock_fingerprint_fields(machine_info),
        environment=_typed(added, "environment", dict) or {},
        machine_info=machine_info,
        commit_info=_typed(document, "commit_info", dict) or {},
        datetime=_typed(document, "datetime", str),
        complete=bool(added.get("complete", True)),
        benchmarks=benchmarks,
        failures=tuple(_failure_from_json(entry) for entry in added.get("failures", ())),
        notes=tuple(str(note) for note in _typed(added, "notes", list) or ()),
        settings=_settings_from_json(_typed(added, "settings", dict) or {}),
        evidence=_typed(added, "evidence", dict) or {},
    )


def _refuse_unlike_in_a_case(benchmarks: Sequence[Benchmark]) -> None:
    """Raises ValueError unless implementations with one group are of one case: they would be compared."""
    first: dict[str, Benchmark] = {}
    for benchmark in benchmarks:
        if benchmark.implementation is None and benchmark.baseline is None:
            continue  # in a stock file a group is whatever its author likes
        other = first.setdefault(benchmark.group, benchmark)
        for what in ("operator", "shape", "dtype", "pass_"):
            one_has, other_has = getattr(benchmark, what), getattr(other, what)
            if one_has != other_has:
                raise ValueError(
                    f"{benchmark.name} has the {what.rstrip('_')} {one_has!r} and {other.name}, of the same "
                    f"case, {other_has!r}"
                )


def _settings_from_json(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    command = settings.get("command", [])
    if not isinstance(command, str) and not (
        isinstance(command, list) and all(isinstance(word, str) for word in command)
    ):
        raise ValueError("the command is not a list of words")
    return settings


def benchmark_from_json(entry: Mapping[str, Any]) -> Benchmark:
    """A `Benchmark` from one entry of any pytest-benchmark file.

    A file saved without its samples (`--benchmark-autosave`) counts as one sample, its median; samples
    without blocks count as one block of one leg. Raises KeyError, TypeError or ValueError if malformed.
    """
    stats, info = entry["stats"], entry.get("extra_info") or {}
    if not isinstance(stats, dict):
        raise ValueError(f"{entry.get('fullname')} has no statistics")
    # Through pytest, `params` are those of the test function, and the case is in `extra_info`. A stock file's
    # `params` may have the same names and another meaning.
    params = info.get("params") or (entry.get("params") if "block" in info else None) or {}
    seconds = np.asarray(stats.get("data") or [stats["median"]], dtype=np.float64)
    places = info if stats.get("data") else {}
    if seconds.ndim != 1 or not np.all((seconds >= SHORTEST) & (seconds <= LONGEST)):
        raise ValueError(
            f"{entry.get('fullname')}: samples must be positive seconds, {SHORTEST:g} to {LONGEST:g}"
        )
    block = np.asarray(places.get("block", np.zeros(len(seconds))), dtype=np.int64)
    leg = np.asarray(places.get("leg", np.zeros(len(seconds))), dtype=np.int64)
    if block.shape != seconds.shape or leg.shape != seconds.shape:
        raise ValueError(f"{entry.get('fullname')}: block and leg need one entry per sample")
    if any(np.any((numbers < 0) | (numbers > MOST)) for numbers in (block, leg)):
        raise ValueError(f"{entry.get('fullname')}: blocks and legs are counted from 0, to {MOST:,} at most")
    error = info.get("error") or {}
    return Benchmark(
        name=str(entry.get("fullname") or entry["name"]),
        group=str(entry.get("group") or ""),
        seconds=seconds,
        block=block,
        leg=leg,
        operator=_typed(params, "operator", str),
        shape=_typed(params, "shape", str),
        dtype=_typed(params, "dtype", str),
        pass_=_typed(params, "pass", str),
        implementation=_typed(params, "implementation", str),
        metric=_typed(params, "metric", str) or "wall",
        cache=_typed(params, "cache", str) or "warm",
        framework=_typed(info, "framework", str),
        device=_typed(info, "device", str),
        baseline=_typed(info, "baseline", str),
        compile_seconds=_typed(info, "compile_seconds", float),
        **{name: _typed(info, name, int) for name in GRAPHS},
        **{name: _typed(info, name, float) for name in DEPLOYMENT},
        peak_memory_bytes=_typed(info, "peak_memory_bytes", float),
        flops=_typed(info, "flops", float),
        bytes=_typed(info, "bytes", float),
        kernels=_typed(info, "kernels", int),
        error_relative_rms=_typed(error, "relative_rms", float),
        error_limit=_typed(error, "limit", float),
    )


def _failure_from_json(entry: Mapping[str, Any]) -> Failure:
    names = [field.name for field in dataclasses.fields(Failure)]
    return Failure(**{name: _typed(entry, name, str) or "" for name in names})


def _typed(fields: Mapping[str, Any], key: str, kind: type) -> Any:
    """`fields[key]`, None if absent. Raises ValueError unless it is of `kind`; float takes integers too."""
    value = fields.get(key)
    if value is None:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        float(value)  # beyond its range: OverflowError
        return value
    if not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{key} is {value!r}")
    return value


def _stock_fingerprint_fields(machine_info: Mapping[str, Any]) -> dict[str, Any]:
    """What a stock pytest-benchmark file says of the machine, for the gate to compare; None is unknown."""
    cpu = machine_info.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    return {
        "cpu": cpu.get("brand_raw"),
        "cores": cpu.get("count"),
        **{name: machine_info.get(name) for name in ("machine", "system", "release")},
        "python": machine_info.get("python_version"),
        "python_implementation": machine_info.get("python_implementation"),
    }
