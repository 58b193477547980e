"""The comparison behind the gate; its rules are in the docstring of the package."""

from __future__ import annotations

import datetime
import difflib
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from fuseproof.errors import UserError
from fuseproof.reports.gate import accepted, anchors, contrasts, controls, fingerprints
from fuseproof.reports.gate.accepted import Accepted
from fuseproof.reports.gate.anchors import Pair
from fuseproof.reports.gate.result import FAILING, SEVERITY, GateResult, GateRow, NullControl
from fuseproof.runs.records import Benchmark, Failure, Run

ENOUGH_BLOCKS = 5


def compare(
    base: Run,
    head: Run,
    *,
    margin: float = 0.02,
    anchored: bool = True,
    null: Run | None = None,
    known: Accepted = accepted.NOTHING,
    today: datetime.date | None = None,
) -> GateResult:
    """Compare each benchmark of `base` with the one of its name in `head`, by the rules of the package.

    anchored: whether a benchmark is compared as a multiple of its anchor, where there is one.
    null: base once more, if all three were measured in turn, so that their blocks are pairs.
    known: changes that were accepted, by the date of `today`.
    `margin` is the tolerated slowdown as a fraction. Raises UserError for a margin below 0 and for a run that
    has neither benchmarks nor failures, or has samples that are not positive seconds.
    """
    if not 0 <= margin < math.inf:
        raise UserError(f"margin {margin} is not a tolerated slowdown; give a percentage like 2%")
    sides = (base, head) if null is None else (base, head, null)
    for run in sides:
        _require_samples(run)
    accepted.refuse_wrong_renames(base, head, known)
    unneeded = accepted.unneeded_renames(base, known)
    base = accepted.as_named_in_head(base, known)
    pairs = anchors.pairs(base, head, anchored=anchored)
    used = {each.anchor.name for _, each in pairs.values() if each.anchor is not None}
    rows = _untimed_rows(base, head)
    for name, (one, other) in pairs.items():
        if name not in rows and (reason := _not_alike(one, other, in_turn=null is not None)):
            rows[name] = GateRow(name=name, verdict="inconclusive", reason=reason)
    second: dict[str, Mapping[int, float]] = {}
    if null is None:
        control = controls.of_halves(base, pairs, used, margin)
    else:
        again = anchors.again(accepted.as_named_in_head(null, known), pairs)
        second = {name: each.by_block for name, each in again.items()}
        control = controls.of_rounds(pairs, second, used, margin)
    found = {}
    for name, (one, other) in pairs.items():
        if name in rows:
            continue
        if null is None:
            found[name] = contrasts.of_separate(one.values, other.values)
        elif (paired := contrasts.of_rounds(one.by_block, other.by_block, second.get(name, {}))) is not None:
            found[name] = paired
        else:
            reason = "fewer than 2 rounds in which both were measured"
            rows[name] = GateRow(name=name, verdict="inconclusive", reason=reason)
    differing = {
        name: fingerprints.differences(base, head, other.benchmark) for name, (_, other) in pairs.items()
    }
    # An anchor is not judged, so it is none of the family that Holm's correction is for.
    own = {name: each for name, each in found.items() if name not in used}
    judged = contrasts.rows(own, margin, control.alarms if null is None else {})
    judged |= contrasts.rows({name: each for name, each in found.items() if name in used}, margin, {})
    for name, row in judged.items():
        if differing[name]:
            row = replace(row, verdict="inconclusive", reason="the fingerprints of base and head differ")
        elif name in used:
            row = replace(row, verdict="anchor", reason=_as_anchor(row))
        elif null is not None and (reason := control.reason_against(name, row.verdict)):
            row = replace(row, verdict="inconclusive", reason=reason)
        elif name in base.absent:
            partly = f"{_count(base.absent[name])} of base"
            row = replace(row, reason="; ".join(filter(None, (partly, row.reason))))
        rows[name] = row
    day = today or datetime.datetime.now(datetime.UTC).date()
    rows = {name: accepted.judged(row, known, day) for name, row in rows.items()}
    differences = tuple(dict.fromkeys(chain(*differing.values())))
    ordered = _ordered(rows.values())
    result = GateResult(
        verdict=_overall(ordered, differences),
        base=base.label,
        head=head.label,
        margin=margin,
        rows=ordered,
        null=NullControl(rows=len(control.controlled), alarms=tuple(control.alarms)),
        canary=control.canary,
        fingerprint_differences=differences,
        remeasure_command=None,
        notes=tuple(
            dict.fromkeys(
                (
                    *accepted.unused(known, ordered),
                    *unneeded,
                    *(note for run in sides if run.fingerprint is None for note in run.notes),
                )
            )
        ),
    )
    return replace(result, remeasure_command=_remeasure_command(head, result.suspects))


def confirmed(first: GateResult, second: GateResult, *, known: Accepted = accepted.NOTHING) -> GateResult:
    """What a second measurement of the suspects, with blocks of its own, makes of the first result.

    On a suspect only the second counts: whatever the first chose by luck has no part in it, so that Holm's
    level over the suspects is that of the whole. A suspect of which the second has no comparison is
    inconclusive, whatever it seemed before. What fails in the second alone fails.
    """
    again, suspects = {row.name: row for row in second.rows}, frozenset(first.suspects)
    rows = _ordered(
        [
            *(_confirmed(row, again.pop(row.name, None), row.name in suspects) for row in first.rows),
            *again.values(),
        ]
    )
    stale = {*accepted.unused(known, first.rows), *accepted.unused(known, second.rows)}
    notes = [note for note in (*first.notes, *second.notes) if note not in stale]
    differences = tuple(dict.fromkeys((*first.fingerprint_differences, *second.fingerprint_differences)))
    return replace(
        first,
        verdict=_overall(rows, differences),
        rows=rows,
        fingerprint_differences=differences,
        remeasure_command=None,
        notes=tuple(dict.fromkeys((*accepted.unused(known, rows), *notes))),
    )


def _confirmed(first: GateRow, second: GateRow | None, suspected: bool) -> GateRow:
    if first.slowdown is None or (second is None and not suspected):
        return first
    before = f"first {first.slowdown - 1:+.1%}, measured again"
    if second is None or second.verdict in ("new", "failed-before"):
        reason = f"first {first.slowdown - 1:+.1%}, and not measured again, as base or both sides lack it"
        return replace(first, verdict="inconclusive", reason=reason)
    return replace(
        second, reason=f"{before}: {second.reason}" if second.reason else f"{before} and not confirmed"
    )


def _overall(rows: Sequence[GateRow], differences: Sequence[object]) -> str:
    verdicts = {row.verdict for row in rows}
    if verdicts & FAILING:
        return "regression"
    if differences or "inconclusive" in verdicts or not verdicts & {"pass", "accepted"}:
        return "inconclusive"
    return "pass"


def _ordered(rows: Iterable[GateRow]) -> tuple[GateRow, ...]:
    """The worst first."""
    return tuple(sorted(rows, key=lambda row: (SEVERITY.index(row.verdict), -(row.slowdown or 0.0))))


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
    not_in_base = (
        GateRow(name="", verdict="new", reason="not in base")
        if base.complete
        else GateRow(name="", verdict="inconclusive", reason="base was stopped before measuring it")
    )
    rows = {name: replace(not_in_base, name=name) for name in new}
    reported = set()
    for name, benchmark in in_base.items():
        key = _key(benchmark)
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
        elif _share(head, name) < _share(base, name):
            held = _count(head.absent[name])
            reason = f"only {held} of head: pytest-benchmark has no entry for a test that failed"
            rows[name] = GateRow(name=name, verdict="missing", reason=reason)
    for key, failure in failed.items():
        name, verdict = " ".join(filter(None, key)), "failed-before" if key in failed_before else "failed"
        if key not in reported and name not in in_base:  # what base measured is judged above, or by its times
            rows[name] = GateRow(name=name, verdict=verdict, reason=_reason_of(failure))
    return rows


def _key(benchmark: Benchmark) -> tuple[str, str]:
    """What a failure calls it: case and implementation, or the name of a test of pytest."""
    if benchmark.implementation is None:
        return benchmark.name, ""
    return benchmark.group, benchmark.implementation


def _share(run: Run, name: str) -> float:
    """Of the files that were merged, the share that holds a benchmark."""
    count, files = run.absent.get(name, (1, 1))
    return count / files


def _count(held: tuple[int, int]) -> str:
    return f"in {held[0]} of {held[1]} files"


def _reason_of(failure: Failure) -> str:
    return f"{failure.stage}: {failure.message}"


def _why_missing(name: str, skipped: Failure | None, new: Sequence[str]) -> str:
    if skipped is not None:
        return f"skipped in head: {skipped.message}"
    similar = difflib.get_close_matches(name, new, n=1, cutoff=0.8)
    return f"not in head; renamed to {similar[0]}?" if similar else "not in head"


def _not_alike(base: Pair, head: Pair, *, in_turn: bool) -> str:
    """Why two benchmarks of one name cannot be compared; empty if they can.

    in_turn: whether we measured both just now: one call of a microsecond may then take as long on both sides.
    """
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
    if not in_turn and base.blocks.keys() & head.blocks.keys():
        return "head has the same samples as base: a copy is no second measurement; measure head anew"
    return ""


def _remeasure_command(head: Run, suspects: Sequence[str]) -> str | None:
    if not suspects:
        return None
    if head.suite is not None:
        groups = dict.fromkeys(b.group for b in head.benchmarks if b.name in suspects)
        return shlex.join(["fuseproof", "run", head.suite, *(f"--case={group}" for group in groups)])
    blocks = " ".join(map(str, range(1, ENOUGH_BLOCKS + 1)))
    return f"for block in {blocks}; do pytest {shlex.join(suspects)} --benchmark-json=again-$block.json; done"
