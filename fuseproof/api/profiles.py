"""Captures of what a run measured, as `fuseproof profile` makes them of any case."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fuseproof import files
from fuseproof.cases import Case
from fuseproof.errors import UserError, require_known
from fuseproof.measure import display
from fuseproof.profiling import capture
from fuseproof.profiling.capture import collection
from fuseproof.profiling.pages import profile_page
from fuseproof.profiling.pages.profile_page import Profile
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.records import Run, is_twin


def take(
    run: Run,
    directory: RunDirectory,
    group: str | None,
    *,
    only: Sequence[str],
    calls: int,
    stacks: bool,
    page: Path | None,
) -> Profile:
    """Capture the implementations of a case that were right, in fresh processes, and write their page.

    group: name of the case; None for the only one. only: implementations; all of the case if empty.
    Raises what `Comparison.profile` says.
    """
    case = _case(directory, group)
    settings = directory.plan.settings
    if page is not None:
        files.require_writable(page)
    measured = {each.implementation for each in run.benchmarks if each.group == case.group}
    implementations = [
        each
        for each in directory.plan.implementations_of(case)
        if each.name in measured and not is_twin(each.name)
    ]
    failed = [
        (each.implementation, each.message)
        for each in run.failures
        if each.group == case.group and each.kind == "error" and each.implementation not in measured
    ]
    names = [*(each.name for each in implementations), *(name for name, _ in failed)]
    require_known(f"implementation of {case.group}", only, names)
    # What is captured has to be what was measured.
    directory.refuse_another_machine("profiled here")
    directory.refuse_changed_sources()
    with directory.locked(), display.status(Console(stderr=True), "profiling") as say:
        taken = collection.take(
            case,
            [each for each in implementations if not only or each.name in only],
            device=settings.device,
            directory=collection.DEFAULT_ROOT / collection.plain(case.group, settings.device),
            options=capture.Options(calls=calls, threads=settings.threads, seed=settings.seed, stacks=stacks),
            progress=say,
        )
    failures = [each for each in failed if not only or each[0] in only]
    return profile_page.draw(dataclasses.replace(taken, failures=[*failures, *taken.failures]), page)


def _case(directory: RunDirectory, group: str | None) -> Case:
    cases = {case.group: case for case in directory.plan.cases}
    if group is None and len(cases) > 1:
        raise UserError(f"the run has {len(cases)} cases; name one to profile: {', '.join(cases)}")
    group = group or next(iter(cases))
    require_known("case", [group], cases)
    return cases[group]
