"""What a run will measure: cases × implementations available here, and why the others are not."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuseproof.cases import CACHES, Case
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.runs.plan import Plan, Settings
from fuseproof.runs.records import NULL_SUFFIX, Failure
from fuseproof.suites import Suite
from fuseproof.workloads.operators import DTYPES, OPERATORS, PASSES

DEVICES = ("cpu", "cuda")


# `--only all`: every row of the table, also where the suite takes fewer.
ALL = "all"


def settings_for(
    suite: Suite,
    *,
    device: str,
    threads: int,
    blocks: int | None = None,
    max_blocks: int | None = None,
    palindromes: int | None = None,
    profile: bool = True,
    **more: Any,
) -> Settings:
    """The suite's settings with what the user asked for instead; more of anything raises its maximum too."""
    blocks = blocks or suite.blocks
    palindromes = palindromes or suite.palindromes
    return Settings(
        device=device,
        threads=threads,
        blocks=blocks,
        max_blocks=max_blocks or max(blocks, suite.max_blocks),
        palindromes=palindromes,
        max_palindromes=max(palindromes, suite.max_palindromes),
        leg_seconds=suite.leg_seconds,
        profile=profile and suite.profile,
        **more,
    )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows of a suite and of the table; an empty tuple means all, of `only` those the suite takes."""

    only: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    null: bool = False


def make(
    suite: Suite,
    table: Sequence[Implementation],
    selection: Selection,
    settings: Settings,
    *,
    command: Sequence[str] = (),
) -> Plan:
    """Select cases and rows, and find out what cannot run here. Raises UserError if nothing is left."""
    if suite.device and settings.device != suite.device and not selection.cases:
        raise UserError(
            f"the suite {suite.name!r} is made for {suite.device}; add --device {suite.device}, or name its "
            "cases with --case"
        )
    cases = _select_cases(suite, selection)
    rows = _select_rows(table, suite, selection, {case.operator.name for case in cases})
    if selection.null:
        rows = tuple(twin for row in rows for twin in (row, _null_twin(row)))
    skipped = []
    for case in cases:
        for row in rows:
            if row.operator == case.operator.name:
                reason = reason_to_skip(row, case, settings.device)
                if reason is not None:
                    skipped.append(
                        Failure(
                            group=case.group,
                            implementation=row.name,
                            kind="skipped",
                            stage="plan",
                            message=reason,
                        )
                    )
    plan = Plan(
        suite=suite.name,
        cases=cases,
        implementations=rows,
        skipped=tuple(skipped),
        settings=settings,
        command=tuple(command),
    )
    if not plan.frameworks:
        reasons = "; ".join(dict.fromkeys(failure.message for failure in skipped))
        raise UserError(f"nothing to measure: {reasons or 'no implementation matches'}")
    return plan


def reason_to_skip(row: Implementation, case: Case, device: str) -> str | None:
    """Why `row` cannot run `case` here, with the remedy; None if it can, as far as can be told by looking."""
    if importlib.util.find_spec(row.framework) is None:
        return f"{row.framework} is not installed; pip install 'fuseproof[{row.framework}]'"
    if (reason := row.reason_not_on(device)) is not None:
        return reason
    if case.pass_ not in row.passes:
        return f"has no {case.pass_} pass yet"
    if case.dtype == "tf32" and device == "cpu":
        return "TF32 is a mode of NVIDIA's tensor cores; on a CPU it would be float32 again"
    if case.dtype not in row.dtypes:
        return f"takes no {case.dtype}; only {', '.join(row.dtypes)}"
    return None


def _null_twin(row: Implementation) -> Implementation:
    return dataclasses.replace(row, name=row.name + NULL_SUFFIX, baseline=row.name)


def _select_cases(suite: Suite, selection: Selection) -> tuple[Case, ...]:
    _known("operator", selection.operators, OPERATORS)
    _known("dtype", selection.dtypes, DTYPES)
    _known("pass", selection.passes, PASSES)
    _known("cache regime", selection.caches, CACHES)
    named = tuple(Case.from_group(group) for group in selection.cases)
    chosen = [
        case
        for case in named or suite.cases
        if (not selection.operators or case.operator.name in selection.operators)
        and (not selection.dtypes or case.dtype in selection.dtypes)
        and (not selection.passes or case.pass_ in selection.passes)
    ]
    if selection.caches:
        chosen = [dataclasses.replace(case, cache=cache) for case in chosen for cache in selection.caches]
    cases = tuple(dict.fromkeys(chosen))
    if not cases:
        whose = "that --case names" if named else f"of the suite {suite.name!r}"
        raise UserError(f"no case {whose} matches the other choices; see `fuseproof list`")
    return cases


def _select_rows(
    table: Sequence[Implementation], suite: Suite, selection: Selection, operators: set[str]
) -> tuple[Implementation, ...]:
    rows = [row for row in table if row.operator in operators]
    _known("implementation", selection.only, [ALL, *dict.fromkeys(row.name for row in rows)])
    return with_baselines(rows, wanted(rows, selection.only, usual=suite.only))


def wanted(
    rows: Sequence[Implementation], only: Sequence[str], *, usual: Sequence[str]
) -> set[tuple[str, str]]:
    """(operator, name) of the rows that `only` names; without it, of those in `usual` and the user's own.

    All of them for `--only all`, and if there is neither.
    """
    if ALL in only or not (only or usual):
        return {(row.operator, row.name) for row in rows}
    # What is usual cannot name what the user adds to the table, and leaving it out would surprise.
    added = set() if only else {*rows} - {*IMPLEMENTATIONS}
    names = {*(only or usual)}
    return {
        (row.operator, row.name)
        for row in rows
        if row.name in names or f"{row.operator}:{row.name}" in names or row in added
    }


def with_baselines(
    rows: Sequence[Implementation], chosen: set[tuple[str, str]]
) -> tuple[Implementation, ...]:
    """The rows whose (operator, name) is chosen, and the baselines they need.

    A speedup and an error limit need the baseline, and the baseline's limit its own.
    """
    while True:
        needed = chosen | {(row.operator, row.baseline) for row in rows if (row.operator, row.name) in chosen}
        if needed == chosen:
            return tuple(row for row in rows if (row.operator, row.name) in chosen)
        chosen = needed


def _known(kind: str, given: Sequence[str], known: Mapping[str, object] | Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"unknown {kind} {name!r}; there are {', '.join(known)}")
