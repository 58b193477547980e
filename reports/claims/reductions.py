"""How much fewer kernels or less memory: one ratio for each case, measured or as a TPU compiler estimates it.

Measured figures are those a run holds: kernels of one call by the profiler, peak memory of one call.
Estimated ones are in what `fuseproof compile --target tpu-… --without-fusion --json` printed, and never stand
beside measured ones in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseproof import documents, escaping, privacy
from fuseproof.cases import Case, parse_group
from fuseproof.errors import UserError
from fuseproof.runs.records import Benchmark, Failure, Run

METRICS = ("kernels", "peak_memory")  # those that a compiler can estimate

# On the CPU peak memory is growth of the resident set, which is reported in batches of pages: less than this
# counts as this. TensorFlow's allocator counts bytes.
COARSE_BYTES = 2**20

_REMEDY = {
    "kernels": "kernels were not counted; measure again, or see the run's notes for why not",
    "peak_memory": "peak memory cannot be measured here",
    "compile_time": "no compile time: it compiles nothing, or the run did not record it",
}


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """One case: `ratio` is the baseline's figure over the candidate's, more than 1 where there is less.

    None where it is unknown: `problem` says why, and `failed` whether a result was wrong or missing.
    """

    group: str
    metric: str
    ratio: float | None = None
    failed: bool = False
    problem: str | None = None

    @property
    def operator(self) -> str:
        parts = parse_group(self.group)
        return parts.operator if parts else self.group

    @property
    def slice(self) -> tuple[str, str | None, str | None]:
        """Cache regime, pass and dtype."""
        return slice_of(self.group)


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """One file that `fuseproof compile --json` printed; `results` are its entries for TPUs."""

    source: str
    results: tuple[Mapping[str, Any], ...]

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets, with the topology where there is more than one chip."""
        return tuple(dict.fromkeys(_target(result) for result in self.results))


def slice_of(group: str) -> tuple[str, str | None, str | None]:
    """Cache regime, pass and dtype that the name of a group holds."""
    parts = parse_group(group)
    return (parts.cache, parts.pass_, parts.dtype) if parts else ("warm", None, None)


def by_slice(cases: Sequence[Reduction]) -> dict[tuple[str, str | None, str | None], list[Reduction]]:
    """By cache regime, pass and dtype; where there are several dtypes, all of them together too."""
    slices: dict[tuple[str, str | None], dict[str | None, list[Reduction]]] = {}
    for case in cases:
        cache, pass_, dtype = case.slice
        slices.setdefault((cache, pass_), {}).setdefault(dtype, []).append(case)
    for by_dtype in slices.values():
        if len(by_dtype) > 1:
            by_dtype["all"] = [case for some in by_dtype.values() for case in some]
    return {(*key, dtype): some for key, by_dtype in slices.items() for dtype, some in by_dtype.items()}


def measured(run: Run, baseline: str, candidate: str, metric: str) -> list[Reduction]:
    """Every case planned for either implementation; empty if one of the two was never planned."""
    pair = (baseline, candidate)
    planned = {benchmark.implementation for benchmark in run.benchmarks}
    planned |= {failure.implementation for failure in run.failures}
    if not {*pair} <= planned:
        return []
    found: dict[str, dict[str, Benchmark]] = {}
    for benchmark in run.benchmarks:  # one for each clock, with the same figures
        if benchmark.implementation in pair:
            found.setdefault(benchmark.group, {}).setdefault(benchmark.implementation, benchmark)
    failures: dict[str, list[Failure]] = {}
    for failure in run.failures:
        if failure.implementation in pair:
            found.setdefault(failure.group, {})
            failures.setdefault(failure.group, []).append(failure)
    return [_measured(group, pair, metric, both, failures.get(group, ())) for group, both in found.items()]


def estimated(estimates: Estimates, target: str, implementation: str, metric: str) -> list[Reduction]:
    """Every case of one target and implementation: figures without the fusion passes over those with them.

    Kernels are instructions that compute; memory is the peak beyond the arguments: results and temporaries.
    """
    return [
        _estimated(result, metric)
        for result in estimates.results
        if _target(result) == target and result["implementation"] == implementation
    ]


def load_estimates(path: Path) -> Estimates:
    """Read what `fuseproof compile --json` printed. Raises UserError, in one line, for anything else."""
    wanted = "expected what `fuseproof compile --target tpu-v5e --without-fusion --json` prints"
    try:
        document = documents.load(path, wanted=wanted)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {wanted}") from None
    if not isinstance(document, list) or not all(_is_result(entry) for entry in document):
        raise UserError(f"{path} is not a list of estimates; {wanted}")
    results = tuple(entry for entry in document if entry["target"].startswith("tpu-"))
    if not any("without_fusion" in result for result in results):
        raise UserError(f"{path} holds nothing compiled without fusion; {wanted}")
    return Estimates(source=escaping.line(privacy.anonymous(str(path))), results=results)


def _measured(
    group: str,
    pair: tuple[str, str],
    metric: str,
    found: Mapping[str, Benchmark],
    failures: Sequence[Failure],
) -> Reduction:
    # A leg lost while measuring does not change what was counted before.
    wrong = [failure for failure in failures if failure.spoils]
    reasons = [f"{failure.implementation}: {failure.message}" for failure in wrong or failures]
    if wrong or len(found) < 2:
        reasons = reasons or [f"{name}: not measured" for name in pair if name not in found]
        return Reduction(
            group=group, metric=metric, failed=bool(wrong), problem=f"{group}: {'; '.join(reasons)}"
        )
    figures = [_figure(found[name], metric) for name in pair]
    unknown = [name for name, figure in zip(pair, figures, strict=True) if figure is None]
    if unknown:
        return Reduction(
            group=group, metric=metric, problem=f"{group}: {', '.join(unknown)}: {_REMEDY[metric]}"
        )
    before, after = (figure for figure in figures if figure is not None)
    if metric == "peak_memory" and (reason := _reason_against_peak(group, min(before, after))) is not None:
        return Reduction(group=group, metric=metric, problem=f"{group}: {reason}")
    floor = COARSE_BYTES if metric == "peak_memory" and any(map(_is_coarse, found.values())) else 0
    if max(before, after) <= floor:
        reason = f"{metric.replace('_', ' ')} of {before:,.0f} and {after:,.0f} is too little to tell apart"
        return Reduction(group=group, metric=metric, problem=f"{group}: {reason}; choose a larger shape")
    return _ratio(group, metric, max(before, floor), max(after, floor))


def _ratio(group: str, metric: str, before: float, after: float) -> Reduction:
    if before <= 0 or after <= 0:
        reason = f"{metric.replace('_', ' ')} of {before:,.0f} and {after:,.0f} have no ratio"
        return Reduction(group=group, metric=metric, problem=f"{group}: {reason}")
    return Reduction(group=group, metric=metric, ratio=before / after)


def _figure(benchmark: Benchmark, metric: str) -> float | None:
    figures = {
        "kernels": benchmark.kernels,
        "peak_memory": benchmark.peak_memory_bytes,
        "compile_time": benchmark.compile_seconds,
    }
    return figures[metric]


def _reason_against_peak(group: str, peak: float) -> str | None:
    """As `Case.reason_against_peak`; None if Fuseproof did not make the name."""
    try:
        return Case.from_group(group).reason_against_peak(peak)
    except UserError:
        return None


def _is_coarse(benchmark: Benchmark) -> bool:
    return benchmark.device == "cpu" and benchmark.framework != "tensorflow"


def _estimated(result: Mapping[str, Any], metric: str) -> Reduction:
    group, apart = result["case"], result.get("without_fusion")
    reason = None
    if result["status"] != "ok":
        reason = result.get("reason") or result["status"]
    elif apart is None:
        reason = "not compiled without fusion; add --without-fusion"
    elif "reason" in apart:
        reason = f"without fusion {apart['reason']}"
    if reason is not None or apart is None:
        failed = result["status"] == "failed"
        return Reduction(group=group, metric=metric, failed=failed, problem=f"{group}: {reason}")
    key = "computing_instructions" if metric == "kernels" else "peak_bytes"
    if result[key] is None or apart[key] is None:
        unknown = f"{key.replace('_', ' ')}: unknown, {result.get('warning') or 'not estimated'}"
        return Reduction(group=group, metric=metric, problem=f"{group}: {unknown}")
    beside = 0 if metric == "kernels" else result["argument_bytes"]
    return _ratio(group, metric, apart[key] - beside, result[key] - beside)


def _target(result: Mapping[str, Any]) -> str:
    chips = f" {result['topology']}" if result.get("chips", 1) > 1 else ""
    return f"{result['target']}{chips}"


def _is_result(entry: Any) -> bool:
    """Whether an entry has every key that this module reads, with a value of the right type."""
    if not isinstance(entry, dict) or entry.get("estimate") is False:
        return False
    texts = all(isinstance(entry.get(key), str) for key in ("target", "case", "implementation", "status"))
    apart = entry.get("without_fusion")
    if not texts or not isinstance(apart, dict | None) or not isinstance(entry.get("chips", 1), int):
        return False
    if entry.get("chips", 1) > 1 and not isinstance(entry.get("topology"), str):
        return False
    if entry["status"] != "ok" or apart is None or "reason" in apart:
        return True
    numbers = [entry.get("argument_bytes"), *(side.get("peak_bytes") for side in (entry, apart))]
    # Null for a program with a loop.
    counts = [side.get("computing_instructions", "absent") for side in (entry, apart)]
    return all(isinstance(n, int) for n in numbers) and all(isinstance(n, int | None) for n in counts)
