"""What to account for: the compiled implementations of a case, or what a run has measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.measure import results
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.records import is_twin


@dataclass(frozen=True, kw_only=True)
class Work:
    """One case with the implementations to account for."""

    case: Case
    implementations: tuple[Implementation, ...]


def of_case(case: Case, table: Sequence[Implementation], only: Sequence[str]) -> Work:
    """The compiled implementations of a case, or those of them in `only`.

    Raises UserError for a name that is unknown or not compiled.
    """
    of_operator = [each for each in table if each.workload == case.workload.name]
    # What a deployment runtime makes of a program cannot be read here.
    compiled = tuple(each for each in of_operator if each.compiled is not None and each.runtime is None)
    known = ", ".join(each.name for each in compiled)
    for name in only:
        if name not in {each.name for each in of_operator}:
            raise UserError(f"unknown implementation {name!r} of {case.workload.name}; there are {known}")
        if name not in {each.name for each in compiled}:
            raise UserError(f"{name} of {case.workload.name} is not compiled: nothing is fused; try {known}")
    return Work(case=case, implementations=tuple(each for each in compiled if not only or each.name in only))


def of_run(directory: RunDirectory, groups: Sequence[str], only: Sequence[str]) -> list[Work]:
    """What a run measured of the cases in `groups` (empty: all), without null twins and wrong results.

    Raises UserError for an unknown case or implementation, and if nothing compiled was measured.
    """
    cases = {case.group: case for case in directory.plan.cases}
    for group in groups:
        if group not in cases:
            raise UserError(f"the run has no case {group!r}; it has {', '.join(cases)}")
    table = [each for each in directory.plan.implementations if not is_twin(each.name)]
    work = []
    for case in cases.values():
        if not groups or case.group in groups:
            chosen = of_case(case, table, only).implementations
            right = results.measurable(directory, case)
            work.append(Work(case=case, implementations=tuple(each for each in chosen if each in right)))
    if not any(each.implementations for each in work):
        raise UserError(f"{directory.path} has measured nothing compiled of these; finish it with --resume")
    return work
