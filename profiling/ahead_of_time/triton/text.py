"""Compiled launches as text: a table for each target, what is wrong, and a line of summary."""

from __future__ import annotations

from collections.abc import Sequence

from fuseproof.profiling.ahead_of_time.request import Request
from fuseproof.profiling.ahead_of_time.triton import budget as triton_budget
from fuseproof.profiling.ahead_of_time.triton.results import FAILED, OK, OVER_BUDGET, Result, Usage


def render_text(results: Sequence[Result], request: Request) -> str:
    """A table for each target, unless quiet; then what failed or is over budget, and one line of summary."""
    lines: list[str] = []
    if not request.quiet:
        for target in request.targets:
            lines += _table([result for result in results if result.target == target], target)
    lines += _what_is_wrong(results)
    usages = [result.usage for result in results if result.usage is not None]
    spilled = sum(usage.spill_bytes > 0 for usage in usages)
    failed = sum(result.status == FAILED for result in results)
    over = sum(result.status == OVER_BUDGET for result in results)
    compared = any(result.compared or result.status == OVER_BUDGET for result in results)
    version = next((result.triton for result in results if result.triton), "")
    if not (request.update_budget or compared):
        budget = "no budget for kernels from outside"
    elif not request.update_budget:
        budget = f"{over} over budget"
    elif failed:
        budget = "the budget is unchanged because of the failures"
    else:
        budget = f"wrote {triton_budget.FILE}"
    lines.append(
        f"{len(usages)} launches compiled with triton {version} for {', '.join(request.targets)}; "
        f"{spilled} spill registers, {failed} failed; {budget}"
    )
    return "\n".join(lines) + "\n"


def _what_is_wrong(results: Sequence[Result]) -> list[str]:
    """A line for each launch that failed or is over budget; one line where many have one reason."""
    launches: dict[tuple[str, str, str | None], list[str]] = {}
    for result in results:
        if result.status != OK:
            key = (result.status.upper(), result.target, result.reason)
            launches.setdefault(key, []).append(result.launch)
    return [
        f"{status}: {target} {names[0] if len(names) == 1 else f'{len(names)} launches'}: {reason}"
        for (status, target, reason), names in launches.items()
    ]


def _table(results: Sequence[Result], target: str) -> list[str]:
    """Lines of the launches that were compiled; empty without any."""
    compiled = [(result.launch, result.usage) for result in results if result.usage is not None]
    if not compiled:
        return []
    source = compiled[0][1].instruction_source
    width = max(len(launch) for launch, _ in compiled)
    return [
        f"{target}: registers and spilled bytes per thread; warps and bytes of shared memory per block;",
        f"theoretical occupancy, its limiter; instructions in {source}, loop bodies once; 128-bit/all",
        f"{'':{width}} {'regs':>4} {'spill':>5} {'warps':>5} {'static':>6} {'dynamic':>7} {'occ.':>5}  "
        f"{'limiter':23} {'tensor cores':14} {'TMA':>4} {'async':>5} {'ld 128':>9} {'st 128':>9}",
        *(f"{launch:{width}} {_columns(usage)}" for launch, usage in compiled),
        "",
    ]


def _columns(usage: Usage) -> str:
    held, counts = usage.occupancy, usage.instructions
    assert counts is not None, "instructions are counted unless the table is not asked for"
    cores = " ".join(f"{counts[kind]} {kind}" for kind in ("wgmma", "tcgen05", "mma") if counts[kind])
    return (
        f"{usage.registers:>4} {usage.spill_bytes:>5} {usage.num_warps:>5} {usage.static_shared_bytes:>6} "
        f"{usage.dynamic_shared_bytes:>7} {held.share:>5.0%}  {', '.join(held.limiters):23} "
        f"{cores or '-':14} {counts['tma']:>4} {counts['cp_async']:>5} "
        f"{counts['load_128']:>4}/{counts['load']:<4} {counts['store_128']:>4}/{counts['store']:<4}"
    )
