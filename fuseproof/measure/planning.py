"""What a run will measure: the cases and implementations selected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from fuseproof.cases import CACHES, Case, Group, parse_group
from fuseproof.errors import UserError, require_known
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.measure import describing, reasons
from fuseproof.runs.plan import Plan, Settings
from fuseproof.runs.records import NULL_SUFFIX, OWN, Failure
from fuseproof.suites import Suite
from fuseproof.workloads.builtin import MODULES, NAMES
from fuseproof.workloads.declared import Declared
from fuseproof.workloads.described import Described
from fuseproof.workloads.tensor import ALL_PASSES, DTYPES

# Resident memory of a worker. Seen, in MiB: PyTorch 390, of it 240 without a case; JAX 190 without;
# TensorFlow 630. They start in 1.6 s, 0.7 s and 3 s of one core.
_PROCESS_BYTES: Mapping[str, int] = {"torch": 400 << 20, "jax": 400 << 20, "tensorflow": 700 << 20}

# `--only all`: every implementation, also where the suite takes fewer.
ALL = "all"

# Characters of a case's name; Python refuses to read numbers of more than 4,300 digits.
_LONGEST_NAME = 200


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
        scale=suite.scale,
        **more,
    )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Filters of cases and implementations; empty means all, except `only`: the suite's list.

    cases: these instead of the suite's. null: add to each implementation a twin of the same code.
    first_result: measure the time to a first result of all chosen cases, not only of those the suite names.
    """

    only: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    null: bool = False
    first_result: bool = False


def make(
    suite: Suite,
    table: Sequence[Implementation],
    selection: Selection,
    settings: Settings,
    *,
    workloads: Sequence[Declared] = (),
    command: Sequence[str] = (),
) -> Plan:
    """The plan of a run. Raises UserError if no case matches, or no implementation can run here.

    workloads: of users, whose cases are measured beside the suite's.
    """
    if suite.device and settings.device != suite.device and not selection.cases:
        raise UserError(
            f"the suite {suite.name!r} is made for {suite.device}; add --device {suite.device}, or name its "
            "cases with --case"
        )
    cases = _select_cases(suite, selection, workloads, table)
    selected, asked = _select_implementations(
        table, suite, selection, {case.workload.name for case in cases}, settings.baseline
    )
    if selection.null:
        selected = tuple(twin for own in selected for twin in (own, _null_twin(own)))
        asked |= {(operator, name + NULL_SUFFIX) for operator, name in asked}
    planned = _planned(suite.name, cases, selected, asked, settings, command)
    return dataclasses.replace(
        planned,
        first_results=tuple(
            case.group for case in cases if selection.first_result or case.group in suite.first_result
        ),
    )


def of_cases(
    name: str,
    cases: Sequence[Case],
    implementations: Sequence[Implementation],
    settings: Settings,
    *,
    command: Sequence[str] = (),
) -> Plan:
    """The plan of a run of these cases and implementations, as `make` makes one."""
    asked = {(each.workload, each.name) for each in implementations}
    return _planned(name, tuple(cases), tuple(implementations), asked, settings, command)


def _planned(
    name: str,
    cases: tuple[Case, ...],
    selected: tuple[Implementation, ...],
    asked: set[tuple[str, str]],
    settings: Settings,
    command: Sequence[str],
) -> Plan:
    skipped = [
        Failure(
            group=case.group, implementation=implementation.name, kind="skipped", stage="plan", message=reason
        )
        for case in cases
        for implementation in selected
        if implementation.workload == case.workload.name
        and (reason := reasons.reason_to_skip(implementation, case, settings.device)) is not None
    ]
    plan = Plan(
        suite=name,
        cases=cases,
        implementations=selected,
        skipped=tuple(skipped),
        settings=settings,
        command=tuple(command),
        added=frozenset((each.workload, each.name) for each in selected) - asked,
    )
    if not any(plan.asked(case, each.name) for case in cases for each in plan.implementations_of(case)):
        own = (failure for failure in skipped if failure.implementation in {each for _, each in asked})
        why = "; ".join(dict.fromkeys(failure.message for failure in own))
        raise UserError(f"nothing to measure: {why or 'no implementation matches'}")
    _refuse_too_many_processes(plan)
    return plan


def _refuse_too_many_processes(plan: Plan) -> None:
    """Raises UserError if the processes of implementations from outside do not fit in memory together."""
    outside = {
        (each.workload, each.name): _PROCESS_BYTES[each.framework]
        for case in plan.cases
        for each in plan.implementations_of(case)
        if each.is_foreign
    }
    needed = sum(outside.values())
    if not outside or plan.settings.share_process:
        return
    free = psutil.virtual_memory().available
    if needed <= free:
        return
    about, there = reasons.size(needed), reasons.size(free)
    raise UserError(
        f"{len(outside)} implementations from outside have as many processes beside each other, about "
        f"{about}, and {there} are free; choose fewer with --only, or see --share-process"
    )


def _null_twin(own: Implementation) -> Implementation:
    return dataclasses.replace(own, name=own.name + NULL_SUFFIX, baseline=own.name)


def suite_of(workloads: Sequence[Declared]) -> Suite:
    """The suite of users' workloads alone."""
    names = [each.name for each in workloads]
    return Suite(name="-".join(names)[:60], summary=f"users' workloads: {', '.join(names)}", cases=())


def _select_cases(
    suite: Suite, selection: Selection, workloads: Sequence[Declared], table: Sequence[Implementation]
) -> tuple[Case, ...]:
    require_known("workload", selection.operators, [*NAMES, *(each.name for each in workloads)])
    require_known("dtype", selection.dtypes, DTYPES)
    require_known("pass", selection.passes, ALL_PASSES)
    require_known("cache regime", selection.caches, CACHES)
    if selection.cases:
        named = named_cases(selection.cases, workloads, table)
    else:
        own = [
            group
            for each in workloads
            if not selection.operators or each.name in selection.operators
            for group in groups_of(each, selection.dtypes)
        ]
        wanted_groups = [group for group in (*suite.modules, *own) if _is_wanted(_parsed(group), selection)]
        named = (*suite.cases, *named_cases(wanted_groups, workloads, table))
    chosen = [case for case in named if _is_wanted(_parsed(case.group), selection)]
    if selection.caches:
        chosen = [dataclasses.replace(case, cache=cache) for case in chosen for cache in selection.caches]
    cases = tuple(dict.fromkeys(chosen))
    if not cases:
        whose = "that --case names" if selection.cases else f"of the suite {suite.name!r}"
        raise UserError(f"no case {whose} matches the other choices; see `fuseproof list`")
    return cases


def _is_wanted(parts: Group | None, selection: Selection) -> bool:
    return parts is not None and all(
        not wanted or found in wanted
        for wanted, found in (
            (selection.operators, parts.operator),
            (selection.dtypes, parts.dtype),
            (selection.passes, parts.pass_),
        )
    )


def named_cases(
    groups: Sequence[str], workloads: Sequence[Declared], table: Sequence[Implementation]
) -> tuple[Case, ...]:
    """The cases of these names, also of users' workloads and of modules. Raises UserError."""
    parts = [_parsed(group) for group in groups]
    named = {each.operator for each in parts if each is not None}
    declared = (*workloads, *(Declared.of_builtin(name) for name in MODULES if name in named))
    described = _described(declared, parts, table)
    return tuple(_named_case(group, declared, described) for group in groups)


def groups_of(workload: Declared, dtypes: Sequence[str] = ()) -> list[str]:
    """The cases of a user's workload: its named shapes, in the dtypes asked for or in its first."""
    if not workload.named_shapes:
        raise UserError(
            f"{workload.target} has no named_shapes; name a shape with "
            f"--case '{workload.name}[{workload.label_example}-{workload.dtypes[0]}-forward]'"
        )
    chosen = [each for each in workload.dtypes if each in dtypes] or workload.dtypes[:1]
    return [
        f"{workload.name}[{label}-{dtype}-{pass_}]"
        for label in dict.fromkeys(workload.named_shapes.values())
        for dtype in chosen
        for pass_ in workload.passes
    ]


def _parsed(group: str) -> Group | None:
    if len(group) > _LONGEST_NAME:
        raise UserError(f"{group[:40]!r}… is not a case: a name of {len(group):,} characters")
    return parse_group(group)


def _described(
    workloads: Sequence[Declared], groups: Sequence[Group | None], table: Sequence[Implementation]
) -> list[Described]:
    """The workloads at the shapes of these cases.

    Each user's workload has a process of its own. Fuseproof's share one for each framework, whose import
    takes longer than they do; of one that cannot be made here the cases are skipped.
    """
    unknown: list[Described] = []
    processes: dict[str, list[describing.Wanted]] = {}
    for each in workloads:
        shapes = [group.shape for group in groups if group is not None and group.operator == each.name]
        labels = dict.fromkeys(each.named_shapes.get(shape, shape) for shape in shapes)
        among = [implementation for implementation in table if implementation.workload == each.name]
        asked = describing.Wanted.of(each, list(labels), among)
        if each.name in MODULES and asked.reference and reasons.reason_without_package(asked.reference):
            unknown += [Described.unknown(MODULES[each.name].from_label(one), each.target) for one in labels]
            continue
        shared = asked.reference.framework if each.name in MODULES and asked.reference else each.name
        processes.setdefault(shared, []).append(asked)
    return unknown + [found for together in processes.values() for found in describing.describe(together)]


def _named_case(group: str, workloads: Sequence[Declared], described: Sequence[Described]) -> Case:
    """The case that a user names. Raises UserError, too if its tensors cannot be made on this machine."""
    parts = _parsed(group)
    for each in workloads:
        if parts is not None and parts.operator == each.name:
            group = group.replace(
                f"[{parts.shape}-", f"[{each.named_shapes.get(parts.shape, parts.shape)}-", 1
            )
    case = Case.from_group(group, described)
    if (reason := reasons.reason_too_large(case)) is not None:
        raise UserError(f"{group!r} cannot be measured: {reason}")
    return case


def _select_implementations(
    table: Sequence[Implementation], suite: Suite, selection: Selection, operators: set[str], baseline: str
) -> tuple[tuple[Implementation, ...], set[tuple[str, str]]]:
    """The implementations to measure, and (operator, name) of those asked for, without added baselines."""
    among = [each for each in table if each.workload in operators]
    require_known("implementation", selection.only, [ALL, *(each.name for each in among)])
    asked = wanted(among, selection.only, usual=suite.only)
    require_known("baseline", [baseline], [*dict.fromkeys(each.name for each in among), OWN])
    common = {(each.workload, each.name) for each in among if each.name == baseline}
    return with_baselines(among, asked | common), asked


def wanted(
    implementations: Sequence[Implementation], only: Sequence[str], *, usual: Sequence[str]
) -> set[tuple[str, str]]:
    """(operator, name) of those in `only`; by default of those in `usual` and of those that the user added.

    Both hold `NAME` or `OPERATOR:NAME`. `--only all` wants all, as do an empty `only` and an empty `usual`.
    """
    if ALL in only or not (only or usual):
        return {(each.workload, each.name) for each in implementations}
    # `usual` cannot name an implementation that the user adds, who expects it to be measured.
    added = set() if only else {*implementations} - {*IMPLEMENTATIONS}
    names = {*(only or usual)}
    return {
        (each.workload, each.name)
        for each in implementations
        if each.name in names or f"{each.workload}:{each.name}" in names or each in added
    }


def with_baselines(
    implementations: Sequence[Implementation], chosen: set[tuple[str, str]]
) -> tuple[Implementation, ...]:
    """The implementations whose (operator, name) is chosen, and the baselines they need.

    A speedup and an error limit need the baseline, and the baseline's error limit needs its own baseline.
    """
    there = {(i.workload, i.name) for i in implementations}
    while True:
        baselines = {
            (i.workload, name)
            for i in implementations
            if (i.workload, i.name) in chosen
            for name in (i.baseline, i.yardstick)
            if (i.workload, name) in there
        }
        if baselines <= chosen:
            return tuple(i for i in implementations if (i.workload, i.name) in chosen)
        chosen = chosen | baselines
