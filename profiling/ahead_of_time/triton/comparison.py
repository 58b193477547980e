"""Compiled launches against the budget: which use more than their row allows; or a new budget from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fuseproof.profiling.ahead_of_time.triton import budget as triton_budget
from fuseproof.profiling.ahead_of_time.triton.budget import Rows
from fuseproof.profiling.ahead_of_time.triton.results import FAILED, OVER_BUDGET, Result

_UPDATE = "fuseproof compile --target {} --update-budget"


def compare(results: Sequence[Result], version: str, *, complete: tuple[str, ...]) -> list[Result]:
    """The results with their rows of the budget, and a result for each row that no launch has.

    Args:
        version: of Triton, whose minor version chooses the section of the budget.
        complete: prefixes of labels; a row whose label has such a prefix must have a launch.
    """
    budget = triton_budget.load(triton_budget.FILE)
    minor = triton_budget.minor(version)
    compared = [
        _compare_one(result, budget.get((minor, result.target, result.dtype)), minor)
        if result.usage is not None
        else result
        for result in results
    ]
    for (target, dtype), own in _by_section(results).items():
        rows = budget.get((minor, target, dtype), {})
        labels = {result.launch for result in own}
        unused = [label for label in sorted(rows) if label.startswith(complete) and label not in labels]
        compared += [_unused(target, dtype, label) for label in unused]
    return compared


def update(results: Sequence[Result], version: str, *, complete: tuple[str, ...]) -> None:
    """Rewrite the budget for these results. Rows with a prefix of `complete` that no launch has are removed.

    If a launch failed, the budget is left unchanged: a part of it would hide the failure.
    """
    budget = triton_budget.load(triton_budget.FILE)
    if any(result.status == FAILED for result in results):
        return
    minor = triton_budget.minor(version)
    for (target, dtype), own in _by_section(results).items():
        rows = {result.launch: result.usage.row for result in own if result.usage is not None}
        old = budget.get((minor, target, dtype), {})
        kept = {label: row for label, row in old.items() if not label.startswith(complete)}
        budget[minor, target, dtype] = {**kept, **rows}
    triton_budget.save(triton_budget.FILE, budget)


def _by_section(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """The results by target and dtype, the sections of the budget."""
    sections: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        sections.setdefault((result.target, result.dtype), []).append(result)
    return sections


def _compare_one(result: Result, rows: Rows | None, minor: str) -> Result:
    """A compiled result compared with its section of the budget, None if there is none."""
    assert result.usage is not None
    row = (rows or {}).get(result.launch)
    compared = replace(result, compared=True, budget=row)
    remedy = f"pin it with `{_UPDATE.format(result.target)}`"
    if row is not None:
        reasons = row.exceeded_by(result.usage.row)
    elif rows is not None:
        reasons = [f"not in the budget; {remedy}"]
    else:
        section = f"{result.dtype} on {result.target} with triton {minor}"
        reasons = [f"there is no budget for {section}; {remedy}"]
    return replace(compared, status=OVER_BUDGET, reason=", ".join(reasons)) if reasons else compared


def _unused(target: str, dtype: str, label: str) -> Result:
    """The result for a row of the budget that no launch has."""
    return Result(
        target=target,
        operator="",
        dtype=dtype,
        launch=label,
        status=OVER_BUDGET,
        reason=f"in the budget, but no launch has this label; remove it with `{_UPDATE.format(target)}`",
    )
