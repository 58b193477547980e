"""The comparison behind the gate; its rules are in the docstring of the package."""

from __future__ import annotations

import datetime
import difflib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from scipy import stats

from fuseproof.errors import UserError
from fuseproof.reports.gate import accepted, anchors, fingerprints
from fuseproof.reports.gate.accepted import Accepted
from fuseproof.reports.gate.anchors import Floats, Pair
from fuseproof.reports.gate.result import FAILING, SEVERITY, GateResult, GateRow, NullControl
from fuseproof.runs.records import Failure, Run

ALPHA = 0.025
LARGE = 0.10
ENOUGH_BLOCKS = 5


def compare(
    base: Run,
    head: Run,
    *,
    margin: float = 0.02,
    anchored: bool = True,
    known: Accepted = accepted.NOTHING,
    today: datetime.date | None = None,
) -> GateResult:
    """Compare each benchmark of `base` with the one of its name in `head`, by the rules of the package.

    anchored: whether a benchmark is compared as a multiple of its anchor, where there is one.
    known: changes that were accepted, by the date of `today`.
    `margin` is the tolerated slowdown as a fraction. Raises UserError for a margin below 0 and for a run that
    has neither benchmarks nor failures, or has samples that are not positive seconds.
    """
    if not 0 <= margin < math.inf:
        raise UserError(f"margin {margin} is not a tolerated slowdown; give a percentage like 2%")
    for run in (base, head):
        _require_samples(run)
    base = accepted.as_named_in_head(base, known)
    pairs = anchors.pairs(base, head, anchored=anchored)
    used = {each.anchor.name: name for name, (_, each) in pairs.items() if each.anchor is not None}
    before = {benchmark.name: Pair(benchmark=benchmark).values for benchmark in base.benchmarks}
    before |= {name: one.values for name, (one, _) in pairs.items()}
    halves = {
        name: (values[0::2], values[1::2])
        for name, values in before.items()
        if len(values) >= 4 and name not in used
    }
    null_rows = _timing_rows(halves, margin, {})
    alarms = {row.name: row.slowdown or 1.0 for row in null_rows.values() if row.verdict == "regression"}

    rows = _untimed_rows(base, head)
    for name, (one, other) in pairs.items():
        if name not in rows and (reason := _not_alike(one, other)):
            rows[name] = GateRow(name=name, verdict="inconclusive", reason=reason)
    timed = {name: (one.values, other.values) for name, (one, other) in pairs.items() if name not in rows}
    by_name = {
        name: fingerprints.differences(base, head, other.benchmark) for name, (_, other) in pairs.items()
    }
    # An anchor is not judged, so it is none of the family that Holm's correction is for.
    by_role: tuple[dict[str, tuple[Floats, Floats]], ...] = ({}, {})
    for name, values in timed.items():
        by_role[name in used][name] = values
    judged = _timing_rows(by_role[False], margin, alarms) | _timing_rows(by_role[True], margin, {})
    for name, row in judged.items():
        if by_name[name]:
            row = replace(row, verdict="inconclusive", reason="the fingerprints of base and head differ")
        elif name in used:
            row = replace(row, verdict="anchor", reason=_as_anchor(row))
        elif name in base.absent:
            row = replace(row, reason="; ".join(filter(None, (f"{base.absent[name]} of base", row.reason))))
        rows[name] = row
    day = today or datetime.datetime.now(datetime.UTC).date()
    rows = {name: accepted.judged(row, known, day) for name, row in rows.items()}
    differences = tuple(dict.fromkeys(chain(*by_name.values())))
    verdicts = {row.verdict for row in rows.values()}
    if verdicts & FAILING:
        verdict = "regression"
    elif differences or "inconclusive" in verdicts or not verdicts & {"pass", "accepted"}:
        verdict = "inconclusive"
    else:
        verdict = "pass"
    ordered = sorted(rows.values(), key=lambda row: (SEVERITY.index(row.verdict), -(row.slowdown or 0.0)))
    result = GateResult(
        verdict=verdict,
        base=base.label,
        head=head.label,
        margin=margin,
        rows=tuple(ordered),
        null=NullControl(rows=len(null_rows), alarms=tuple(alarms)),
        fingerprint_differences=differences,
        remeasure_command=None,
        notes=tuple(
            dict.fromkeys(
                (
                    *accepted.unused(known, ordered),
                    *((*base.notes, *head.notes) if base.fingerprint is None else ()),
                )
            )
        ),
    )
    return replace(result, remeasure_command=_remeasure_command(head, result.suspects))


def _require_samples(run: Run) -> None:
    if not run.benchmarks and not run.failures:
        raise UserError(f"{run.source} holds no benchmarks; is it the right file?")
    for benchmark in run.benchmarks:
        if not len(benchmark.seconds) or not np.all(np.isfinite(benchmark.seconds) & (benchmark.seconds > 0)):
            raise UserError(
                f"{run.source}: {benchmark.name} has no samples, or some that are not positive seconds"
            )


def _as_anchor(row: GateRow) -> str:
    """What an anchor's own time says: nothing of the code, which did not change."""
    assert row.slowdown is not None
    change = row.slowdown - 1
    return (
        f"its code did not change, others are multiples of it; the machine changed its time by {change:+.1%}"
    )


def _untimed_rows(base: Run, head: Run) -> dict[str, GateRow]:
    """The verdicts that need no clock, by benchmark."""
    failed, failed_before = (
        {(f.group, f.implementation): f for f in run.failures if f.kind == "error"} for run in (head, base)
    )
    skipped = {(f.group, f.implementation): f for f in head.failures if f.kind == "skipped"}
    in_base = {benchmark.name: benchmark for benchmark in base.benchmarks}
    in_head = {benchmark.name: benchmark for benchmark in head.benchmarks}
    new = [name for name in in_head if name not in in_base]
    rows = {name: GateRow(name=name, verdict="new", reason="not in base") for name in new}
    reported = set()
    for name, benchmark in in_base.items():
        key = (benchmark.group, benchmark.implementation or "")
        other = in_head.get(name)
        if key in failed and key not in failed_before:
            reported.add(key)
            rows[name] = GateRow(name=name, verdict="failed", reason=_reason_of(failed[key]))
        elif other is None and not head.complete:
            reason = "head was stopped before measuring it; finish it with fuseproof run --resume"
            rows[name] = GateRow(name=name, verdict="inconclusive", reason=reason)
        elif other is None:
            rows[name] = GateRow(
                name=name, verdict="missing", reason=_why_missing(name, skipped.get(key), new)
            )
        elif name in head.absent and name not in base.absent:
            reason = f"only {head.absent[name]} of head: pytest-benchmark has no entry for a test that failed"
            rows[name] = GateRow(name=name, verdict="missing", reason=reason)
    for key, failure in failed.items():
        if key not in reported:
            name, verdict = f"{key[0]} {key[1]}", "failed-before" if key in failed_before else "failed"
            rows[name] = GateRow(name=name, verdict=verdict, reason=_reason_of(failure))
    return rows


def _reason_of(failure: Failure) -> str:
    return f"{failure.stage}: {failure.message}"


def _why_missing(name: str, skipped: Failure | None, new: Sequence[str]) -> str:
    if skipped is not None:
        return f"skipped in head: {skipped.message}"
    similar = difflib.get_close_matches(name, new, n=1, cutoff=0.8)
    return f"not in head; renamed to {similar[0]}?" if similar else "not in head"


def _not_alike(base: Pair, head: Pair) -> str:
    """Why two benchmarks of one name cannot be compared; empty if they can."""
    one, other = base.benchmark, head.benchmark
    if (one.metric, one.cache) != (other.metric, other.cache):
        return f"{one.metric}, {one.cache} cache in base; {other.metric}, {other.cache} cache in head"
    for where, side in (("base", base), ("head", head)):
        if len(side.blocks) < 2:
            more = f"so its noise is unknown; measure at least {ENOUGH_BLOCKS} blocks"
            there = len(np.unique(side.benchmark.block))
            return (
                f"the {there} blocks of {where} are copies of one, {more}"
                if there > 1
                else f"{where} has one block, {more}"
            )
    if base.blocks.keys() & head.blocks.keys():
        return "head has the same samples as base: a copy is no second measurement; measure head anew"
    return ""


def _timing_rows(
    values: Mapping[str, tuple[Floats, Floats]], margin: float, alarms: Mapping[str, float]
) -> dict[str, GateRow]:
    """Welch's t for every (base, head) pair of block values in ln(seconds), judged together."""
    rows, p_values = {}, []
    for name, (base, head) in values.items():
        noise = min(math.expm1(base.std(ddof=1)), LARGE)
        raised = max(margin, noise, alarms.get(name, 1.0) - 1)
        variances = base.var(ddof=1) / len(base), head.var(ddof=1) / len(head)
        error = math.sqrt(sum(variances))
        difference = head.mean() - base.mean()
        beyond = difference - math.log1p(raised)
        half = 0.0
        if error > 0:
            degrees = error**4 / sum(
                v**2 / (len(side) - 1) for v, side in zip(variances, (base, head), strict=True)
            )
            half = stats.t.ppf(1 - ALPHA, degrees) * error
            p_values.append(float(stats.t.sf(beyond / error, degrees)))
        else:  # no spread at all, as in files with rounded or made-up samples
            p_values.append(float(beyond <= 0))
        rows[name] = GateRow(
            name=name,
            verdict="pass",
            slowdown=math.exp(difference),
            ci=(math.exp(difference - half), math.exp(min(difference + half, 700.0))),
            margin=raised,
        )
    large = max(LARGE, 2 * margin)
    for row, p in zip(list(rows.values()), _holm(p_values), strict=True):
        assert row.ci is not None and row.margin is not None
        if p <= ALPHA:
            reason = f"at least {row.ci[0] - 1:.1%} slower, margin {row.margin:.1%}"
            rows[row.name] = replace(row, verdict="regression", reason=reason)
        elif row.ci[1] > 1 + large:
            reason = f"too noisy: up to {row.ci[1] - 1:.0%} slower is not excluded; measure more blocks"
            rows[row.name] = replace(row, verdict="inconclusive", reason=reason)
        elif row.margin > margin:
            rows[row.name] = replace(row, reason="margin raised to the noise of base")
    return rows


def _holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: compare each with the family's level (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    return [float(p) for p in adjusted]


def _remeasure_command(head: Run, suspects: Sequence[str]) -> str | None:
    if not suspects:
        return None
    if head.suite is not None:
        groups = dict.fromkeys(b.group for b in head.benchmarks if b.name in suspects)
        return shlex.join(["fuseproof", "run", head.suite, *(f"--case={group}" for group in groups)])
    blocks = " ".join(map(str, range(1, ENOUGH_BLOCKS + 1)))
    return f"for block in {blocks}; do pytest {shlex.join(suspects)} --benchmark-json=again-$block.json; done"
