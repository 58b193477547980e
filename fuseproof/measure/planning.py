"""What a run will measure: the cases and implementations selected, and why some cannot run here."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fuseproof.cases import CACHES, Case
from fuseproof.errors import UserError, require_known
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.runs.plan import Plan, Settings
from fuseproof.runs.records import NULL_SUFFIX, Failure
from fuseproof.suites import Suite
from fuseproof.workloads.operators import DTYPES, OPERATORS, PASSES

# `--only all`: every implementation, also where the suite takes fewer.
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
    """The suite's settings, replaced where the user asks for others; a minimum raises its maximum."""
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
    """Filters of cases and implementations; empty means all, except `only`: the suite's list.

    cases: these instead of the suite's. null: add to each implementation a twin of the same code.
    """

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
    """The plan of a run. Raises UserError if no case matches, or no implementation can run here."""
    if suite.device and settings.device != suite.device and not selection.cases:
        raise UserError(
            f"the suite {suite.name!r} is made for {suite.device}; add --device {suite.device}, or name its "
            "cases with --case"
        )
    cases = _select_cases(suite, selection)
    selected = _select_implementations(table, suite, selection, {case.operator.name for case in cases})
    if selection.null:
        selected = tuple(twin for own in selected for twin in (own, _null_twin(own)))
    skipped = [
        Failure(
            group=case.group, implementation=implementation.name, kind="skipped", stage="plan", message=reason
        )
        for case in cases
        for implementation in selected
        if implementation.operator == case.operator.name
        and (reason := reason_to_skip(implementation, case, settings.device)) is not None
    ]
    plan = Plan(
        suite=suite.name,
        cases=cases,
        implementations=selected,
        skipped=tuple(skipped),
        settings=settings,
        command=tuple(command),
    )
    if not plan.frameworks:
        reasons = "; ".join(dict.fromkeys(failure.message for failure in skipped))
        raise UserError(f"nothing to measure: {reasons or 'no implementation matches'}")
    return plan


def reason_to_skip(implementation: Implementation, case: Case, device: str) -> str | None:
    """Why it cannot run `case` here, with the remedy, else None. Imports no framework to find out."""
    if (reason := reason_without_framework(implementation.framework)) is not None:
        return reason
    if (reason := implementation.reason_not_on(device)) is not None:
        return reason
    if case.pass_ not in implementation.passes:
        return f"has no {case.pass_} pass yet"
    if case.dtype == "tf32" and device == "cpu":
        return "TF32 is a mode of NVIDIA's tensor cores; on a CPU it would be float32 again"
    if case.dtype not in implementation.dtypes:
        return f"takes no {case.dtype}; only {', '.join(implementation.dtypes)}"
    return None


def reason_without_framework(framework: str) -> str | None:
    """How to install the framework if it is not installed, else None."""
    if importlib.util.find_spec(framework) is None:
        return f"{framework} is not installed; pip install 'fuseproof[{framework}]'"
    return None


def _null_twin(implementation: Implementation) -> Implementation:
    name = implementation.name
    return dataclasses.replace(implementation, name=name + NULL_SUFFIX, baseline=name)


def _select_cases(suite: Suite, selection: Selection) -> tuple[Case, ...]:
    require_known("operator", selection.operators, OPERATORS)
    require_known("dtype", selection.dtypes, DTYPES)
    require_known("pass", selection.passes, PASSES)
    require_known("cache regime", selection.caches, CACHES)
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


def _select_implementations(
    table: Sequence[Implementation], suite: Suite, selection: Selection, operators: set[str]
) -> tuple[Implementation, ...]:
    among = [each for each in table if each.operator in operators]
    require_known("implementation", selection.only, [ALL, *(each.name for each in among)])
    return with_baselines(among, wanted(among, selection.only, usual=suite.only))


def wanted(
    implementations: Sequence[Implementation], only: Sequence[str], *, usual: Sequence[str]
) -> set[tuple[str, str]]:
    """(operator, name) of those in `only`; by default of those in `usual` and of those that the user added.

    Both hold `NAME` or `OPERATOR:NAME`. `--only all` wants all, as do an empty `only` and an empty `usual`.
    """
    if ALL in only or not (only or usual):
        return {(each.operator, each.name) for each in implementations}
    # `usual` cannot name an implementation that the user adds, who expects it to be measured.
    added = set() if only else {*implementations} - {*IMPLEMENTATIONS}
    names = {*(only or usual)}
    return {
        (each.operator, each.name)
        for each in implementations
        if each.name in names or f"{each.operator}:{each.name}" in names or each in added
    }


def with_baselines(
    implementations: Sequence[Implementation], chosen: set[tuple[str, str]]
) -> tuple[Implementation, ...]:
    """The implementations whose (operator, name) is chosen, and the baselines they need.

    A speedup and an error limit need the baseline, and the baseline's error limit needs its own baseline.
    """
    while True:
        baselines = {(i.operator, i.baseline) for i in implementations if (i.operator, i.name) in chosen}
        if baselines <= chosen:
            return tuple(i for i in implementations if (i.operator, i.name) in chosen)
        chosen = chosen | baselines
