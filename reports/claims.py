"""Does a published claim hold on these runs? Claims are data (claims.toml), every verdict has its interval.

Each comparison of a claim is judged per metric, cache regime, pass and dtype, and once over all dtypes where
a run has several. Verdicts, on the geometric mean of the speedup (intervals cover the measurement only):

supported     the 90 % interval lies inside the claimed band
mean-only     the same, but the claim says "typically" and the 95 % Wilson lower bound of the share of cases
              inside the band is under one half
refuted-low   the 95 % interval lies wholly below the band
refuted-high  the 95 % interval lies wholly above the band
inconclusive  none of these
insufficient  fewer than 5 blocks or 5 measured cases

An implementation that was wrong, crashed or hung has no speedup: it is listed, and counts as a case outside
the band.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuseproof.errors import UserError
from fuseproof.reports import statistics
from fuseproof.run_file import Benchmark, Failure, Run

DEFAULT_CLAIMS = Path(__file__).with_name("claims.toml")
READINGS = ("throughput", "time_reduction")
VERDICTS = ("supported", "mean-only", "refuted-low", "refuted-high", "inconclusive", "insufficient")
MIN_BLOCKS = 5
MIN_CASES = 5

# How a group (fuseproof.cases) names its dtype, pass and cache: failures carry no other trace of them.
_GROUP_END = re.compile(r"-(?P<dtype>[^-\]]+)-(?P<pass>forward_backward|forward|backward)(?P<cold>-cold)?\]$")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published gain of `low` to `high` (fractions) of each candidate over its baseline."""

    id: str
    text: str
    source: str
    note: str
    low: float
    high: float
    typical: bool
    comparisons: tuple[tuple[str, str], ...]  # (baseline, candidate)
    readings: tuple[str, ...] = READINGS

    def band(self, reading: str) -> tuple[float, float]:
        """The claimed speedup: 30 % more work in the same time is 1.30, 30 % less time is 1.43."""
        if reading == "throughput":
            return 1 + self.low, 1 + self.high
        return 1 / (1 - self.low), 1 / (1 - self.high)


@dataclass(frozen=True, kw_only=True)
class ClaimRow:
    """The verdict on one reading of a claim, for one comparison in one slice of one run.

    `geomean` is the speedup over `cases` measured cases, NaN if there is none; `ci95_cases` its interval with
    cases resampled. `failed` counts wrong or crashed cases, `missing` those skipped or not measured on both
    sides; `problems` says why. `share_in_band` is over measured and failed cases, `share_lower` its Wilson
    bound. `break_even_calls` is the median over cases with a known compile time: inf if most never pay, NaN
    if none is known.
    """

    claim: str
    text: str
    run: str
    reading: str
    metric: str
    cache: str
    pass_: str | None
    dtype: str | None
    baseline: str
    candidate: str
    cases: int
    blocks: int
    failed: int
    missing: int
    problems: tuple[str, ...]
    band: tuple[float, float]
    geomean: float
    ci95: tuple[float, float]
    ci90: tuple[float, float]
    ci95_cases: tuple[float, float]
    share_in_band: float
    share_lower: float
    break_even_calls: float
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """A row of `fuseproof claims --json`; what is unbounded or unknown is null."""
        return {key.rstrip("_"): _jsonable(value) for key, value in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One case of a comparison: compared, or the reason why not."""

    comparison: statistics.Comparison | None = None
    failed: bool = False
    problem: str | None = None


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Read a claims file (the one that comes with Fuseproof by default).

    Raises UserError, in one line, for a missing, malformed or incomplete file.
    """
    file = DEFAULT_CLAIMS if path is None else path
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read claims from {file}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} is not TOML: {error}") from None
    entries = document.get("claim")
    if set(document) != {"claim"} or not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: expected one or more [[claim]] tables and nothing else")
    claims = []
    for number, entry in enumerate(entries, start=1):
        try:
            claims.append(_claim_from_toml(entry))
        except ValueError as error:
            name = entry.get("id", number) if isinstance(entry, dict) else number
            raise UserError(f"{file}: claim {name}: {error}") from None
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise UserError(f"{file}: two claims have the same id; ids must be unique")
    return tuple(claims)


def evaluate(runs: Sequence[Run], path: Path | None = None) -> list[ClaimRow]:
    """All verdicts of the claims in `path` (default: Fuseproof's own) on each run, apart.

    A run that neither measured nor failed an implementation of a claim gives no row for it.
    """
    claims = load_claims(path)
    return [row for run in runs for claim in claims for row in _rows(run, claim)]


def verdict_sentence(row: ClaimRow) -> str:
    """The verdict in one sentence of plain English, with its numbers."""
    meaning = {
        "supported": "holds here",
        "mean-only": f"holds for the mean but is not typical: {row.share_in_band:.0%} of the cases show it",
        "refuted-low": f"does not hold here, {'it is slower' if row.ci95[1] < 1 else 'the gain is smaller'}",
        "refuted-high": "does not hold here, the gain is larger",
        "inconclusive": "is neither confirmed nor refuted here",
        "insufficient": f"cannot be judged from {_count(row.cases, 'case')} in {_count(row.blocks, 'block')} "
        f"({MIN_CASES} and {MIN_BLOCKS} are needed)",
    }[row.verdict]
    measured = f"{row.candidate} over {row.baseline}, {_conditions(row)}"
    if row.cases:
        measured += f": {_speedup(row)} over {_count(row.cases, 'case')}"
    if row.failed:
        measured += f", {row.failed} failed"
    low, high = row.band
    reading = row.reading.replace("_", " ")
    return f"“{row.text}” {meaning} ({measured}; claimed, read as {reading}: {low:.2f}–{high:.2f}×)."


def render_text(rows: Sequence[ClaimRow]) -> str:
    """The verdict matrix as a terminal table, the readings side by side, then what failed."""
    from rich.console import Console  # not needed by reports and gates
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return "No run here measured an implementation that a claim is about.\n"
    colours = {"supported": "green", "mean-only": "yellow", "refuted-low": "red", "refuted-high": "red"}
    lines: dict[tuple[Any, ...], dict[str, ClaimRow]] = {}
    for row in rows:
        key = (row.run, row.claim, row.baseline, row.candidate, row.metric, row.cache, row.pass_, row.dtype)
        lines.setdefault(key, {})[row.reading] = row
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    with console.capture() as capture:
        for run, claim in dict.fromkeys((row.run, row.claim) for row in rows):
            readings = [line for key, line in lines.items() if key[:2] == (run, claim)]
            table = Table(title=escape(f"“{next(iter(readings[0].values())).text}”, {run}"))
            for heading in ("compared", "conditions", "cases", "speedup (95 %)", "break-even calls"):
                table.add_column(
                    heading, justify="left" if heading in ("compared", "conditions") else "right"
                )
            shown = [reading for reading in READINGS if any(reading in line for line in readings)]
            for reading in shown:
                low, high = next(line for line in readings if reading in line)[reading].band
                table.add_column(f"as {reading.replace('_', ' ')} ({low:.2f}–{high:.2f}×)")
            for line in readings:
                row = next(iter(line.values()))
                failed = f" + {row.failed} failed" if row.failed else ""
                verdicts = [line[reading].verdict if reading in line else "" for reading in shown]
                table.add_row(
                    escape(f"{row.candidate} over {row.baseline}"),
                    escape(_conditions(row)),
                    f"{row.cases}{failed}",
                    escape(_speedup(row)) if row.cases else "–",
                    "–" if math.isnan(row.break_even_calls) else _calls(row.break_even_calls),
                    *(f"[{colours[v]}]{v}[/]" if v in colours else v for v in verdicts),
                )
            console.print(table)
            for problem in dict.fromkeys(
                p for line in readings for row in line.values() for p in row.problems
            ):
                console.print(problem, style="dim", markup=False, highlight=False)
    return capture.get()


def _claim_from_toml(entry: Any) -> Claim:
    """Raises ValueError saying what is wrong with one [[claim]] table."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "id": str, "text": str, "source": str, "note": str,
        "low": (int, float), "high": (int, float), "typical": bool, "comparisons": list, "readings": list,
    }  # fmt: skip
    if not isinstance(entry, dict):
        raise ValueError("expected a table")
    if unknown := set(entry) - set(kinds):
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}; known: {', '.join(kinds)}")
    if absent := set(kinds) - set(entry) - {"readings", "note"}:
        raise ValueError(f"missing key {', '.join(sorted(absent))}")
    for key, value in entry.items():
        if not isinstance(value, kinds[key]) or (isinstance(value, bool) and key != "typical"):
            raise ValueError(f"{key} has the wrong type")
    readings = tuple(entry.get("readings", READINGS))
    if not readings or not all(reading in READINGS for reading in readings):
        raise ValueError(f"readings must be some of {', '.join(READINGS)}")
    low, high = float(entry["low"]), float(entry["high"])
    if not 0 <= low < high < math.inf:
        raise ValueError("low and high are fractions with 0 <= low < high, 0.30 for 30 %")
    if high >= 1 and "time_reduction" in readings:
        raise ValueError('no time falls by 100 %: set readings = ["throughput"] or a high below 1')
    pairs = entry["comparisons"]
    keys = {"baseline", "candidate"}
    if not pairs or not all(
        isinstance(pair, dict) and set(pair) == keys and all(isinstance(name, str) for name in pair.values())
        for pair in pairs
    ):
        raise ValueError("comparisons need a baseline and a candidate each, and nothing else")
    return Claim(
        id=entry["id"],
        text=entry["text"],
        source=entry["source"],
        note=entry.get("note", ""),
        low=low,
        high=high,
        typical=entry["typical"],
        comparisons=tuple((pair["baseline"], pair["candidate"]) for pair in pairs),
        readings=readings,
    )


_Slice = tuple[str, str, str | None, str | None]  # metric, cache, pass, dtype


def _rows(run: Run, claim: Claim) -> Iterator[ClaimRow]:
    for baseline, candidate in claim.comparisons:
        slices = _cases(run, baseline, candidate)
        for metric, cache, pass_ in dict.fromkeys(key[:3] for key in slices):
            by_dtype = {key[3]: cases for key, cases in slices.items() if key[:3] == (metric, cache, pass_)}
            if len(by_dtype) > 1:
                by_dtype["all"] = [case for cases in by_dtype.values() for case in cases]
            for dtype, cases in by_dtype.items():
                where = {
                    "claim": claim.id, "text": claim.text, "run": run.source,
                    "baseline": baseline, "candidate": candidate,
                    "metric": metric, "cache": cache, "pass_": pass_, "dtype": dtype,
                }  # fmt: skip
                yield from _judge(claim, cases, where)


def _judge(claim: Claim, cases: Sequence[_Case], where: Mapping[str, Any]) -> Iterator[ClaimRow]:
    """One row per reading."""
    compared = [case.comparison for case in cases if case.comparison is not None]
    ratios = [list(statistics.block_log_ratios(*comparison).values()) for comparison in compared]
    speedups = [math.exp(sum(blocks) / len(blocks)) for blocks in ratios]
    # Typical blocks per case: one case that lost a block does not spoil the others, nor make up for them.
    blocks = int(np.median([len(values) for values in ratios])) if ratios else 0
    mean = statistics.geometric_mean(compared) if compared else None
    break_even = [statistics.break_even_calls(*comparison) for comparison in compared]
    failed = sum(case.failed for case in cases)
    facts: dict[str, Any] = {
        "cases": len(compared),
        "blocks": blocks,
        "failed": failed,
        "missing": len(cases) - len(compared) - failed,
        "problems": tuple(case.problem for case in cases if case.problem is not None),
        "geomean": mean.value if mean else math.nan,
        "ci95": mean.ci95 if mean else (0.0, math.inf),
        "ci90": mean.ci90 if mean else (0.0, math.inf),
        "ci95_cases": statistics.geometric_mean_over_cases(compared) if compared else (0.0, math.inf),
        "break_even_calls": _median([estimate.value for estimate in break_even if estimate is not None]),
    }
    for reading in claim.readings:
        low, high = claim.band(reading)
        counted = len(compared) + failed
        inside = sum(low <= value <= high for value in speedups)
        share_lower = statistics.wilson_lower(inside, counted)
        if blocks < MIN_BLOCKS or len(compared) < MIN_CASES or mean is None:
            verdict = "insufficient"
        elif mean.ci95[1] < low:
            verdict = "refuted-low"
        elif mean.ci95[0] > high:
            verdict = "refuted-high"
        elif low <= mean.ci90[0] and mean.ci90[1] <= high:
            verdict = "mean-only" if claim.typical and share_lower < 0.5 else "supported"
        else:
            verdict = "inconclusive"
        yield ClaimRow(
            **where,
            **facts,
            reading=reading,
            band=(low, high),
            share_in_band=inside / counted if counted else math.nan,
            share_lower=share_lower,
            verdict=verdict,
        )


def _cases(run: Run, baseline: str, candidate: str) -> dict[_Slice, list[_Case]]:
    """Every case that either implementation was planned for, by slice."""
    pair = (baseline, candidate)
    found: dict[tuple[_Slice, str], dict[str, Benchmark]] = {}
    for benchmark in run.benchmarks:
        if benchmark.implementation in pair:
            key = (benchmark.metric, benchmark.cache, benchmark.pass_, benchmark.dtype)
            found.setdefault((key, benchmark.group), {})[benchmark.implementation] = benchmark
    metrics = dict.fromkeys(benchmark.metric for benchmark in run.benchmarks) or {"wall": None}
    failures: dict[str, list[Failure]] = {}
    for failure in run.failures:
        if failure.implementation in pair:
            failures.setdefault(failure.group, []).append(failure)
            match = _GROUP_END.search(failure.group)
            pass_, dtype = (match["pass"], match["dtype"]) if match else (None, None)
            cache = "cold" if match and match["cold"] else "warm"
            for metric in metrics:
                found.setdefault(((metric, cache, pass_, dtype), failure.group), {})
    slices: dict[_Slice, list[_Case]] = {}
    for (key, group), measured in found.items():
        slices.setdefault(key, []).append(_case(group, pair, measured, failures.get(group, ())))
    return slices


def _case(
    group: str, pair: tuple[str, str], measured: Mapping[str, Benchmark], failures: Sequence[Failure]
) -> _Case:
    """A leg lost while measuring leaves the rest of the samples usable; a wrong result never does."""
    both = (measured[pair[0]], measured[pair[1]]) if len(measured) == 2 else None
    comparable = both is not None and bool(statistics.block_log_ratios(*both))
    errors = [failure for failure in failures if failure.kind == "error"]
    if comparable and all(failure.stage == "measure" for failure in errors):
        return _Case(comparison=both)
    reasons = [f"{failure.implementation}: {failure.message}" for failure in errors or failures]
    unmeasured = [f"{name}: not measured" for name in pair if name not in measured] or ["no block in common"]
    return _Case(failed=bool(errors), problem=f"{group}: {'; '.join(reasons or unmeasured)}")


def _median(values: Sequence[float]) -> float:
    """The lower median: between a finite and an infinite break-even point there is no mean."""
    return sorted(values)[(len(values) - 1) // 2] if values else math.nan


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _conditions(row: ClaimRow) -> str:
    dtype = "all dtypes" if row.dtype == "all" else row.dtype or "dtype unknown"
    cold = ", cold cache" if row.cache == "cold" else ""
    return f"{row.pass_ or 'pass unknown'}, {dtype}, {row.metric} time{cold}"


def _speedup(row: ClaimRow) -> str:
    low, high = row.ci95
    return f"{row.geomean:.3f}× [{low:.3f}–{high:.3f}]"  # digits enough to tell 1.299 from a band's 1.30


def _calls(calls: float) -> str:
    return "never" if math.isinf(calls) else f"{calls:,.0f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
