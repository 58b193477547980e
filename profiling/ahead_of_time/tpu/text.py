"""What `fuseproof compile` prints of programs for a TPU: a table for each target and case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fuseproof.profiling.ahead_of_time.tpu.results import LABEL, OK, SKIPPED, Figures, Result, WithoutFusion

_NAME = 22  # characters of an implementation's name in a table


def render_text(results: Sequence[Result], *, schedule: bool = False) -> str:
    """The tables, with `schedule` what runs when and how much memory is live, then what was not compiled."""
    versions: Mapping[str, str] = next((r.figures.versions for r in results if r.figures), {})
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"All numbers are {LABEL}{f' ({named})' if named else ''}.",
        "FLOPs and bytes are of the optimised program, what a fusion repeats counted again; Pallas counts "
        "what its author states.",
    ]
    table: tuple[str, str] | None = None
    for result in results:
        if result.figures is None:
            continue
        if table != (result.target, result.case):
            table = (result.target, result.case)
            lines += _heading(result, result.figures)
        lines += _program(result.implementation, result.figures)
        if schedule and result.figures.schedule:
            lines += _schedule(result.figures.schedule)
    lines += _not_compiled(results)
    return "\n".join(lines) + "\n"


def _heading(result: Result, figures: Figures) -> Iterator[str]:
    chips = f", {result.chips} chips" if result.chips > 1 else ""
    yield f"\n{result.case} on {result.target} ({figures.device_kind}{chips})"
    yield (
        f"  {'':{_NAME}}{'GFLOP':>9} {'MB moved':>9} {'temp MB':>9} {'VMEM MB':>9} {'peak MB':>9} "
        f"{'fusions':>8} {'kernels':>8} {'kcycles':>9}"
    )


def _program(name: str, figures: Figures) -> Iterator[str]:
    yield (
        f"  {name:{_NAME}}{_scaled(figures.flops, 1e9):>9} {_scaled(figures.bytes_accessed, 1e6):>9} "
        f"{_scaled(figures.temporary_bytes, 1e6):>9} {_scaled(figures.vmem_bytes, 1e6):>9} "
        f"{_scaled(figures.peak_bytes, 1e6):>9} {figures.fusions:>8} {figures.kernels:>8} "
        f"{_scaled(figures.estimated_cycles, 1e3):>9}"
    )
    if figures.without_fusion is not None:
        yield f"  {'':{_NAME}}{_without_fusion(figures, figures.without_fusion)}"
    if figures.collectives:
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(figures.collectives.items()))
        yield f"  {'':{_NAME}}collectives: {counted}"
    if figures.warning:
        yield f"  {'':{_NAME}}WARNING: {figures.warning}"


def _without_fusion(figures: Figures, apart: WithoutFusion) -> str:
    if apart.reason is not None:
        return f"without fusion: {apart.reason}"
    return (
        f"without fusion: {_count(apart.computing_instructions)} computing instructions instead of "
        f"{_count(figures.computing_instructions)}, {_scaled(apart.bytes_accessed, 1e6)} MB moved, "
        f"{_scaled(apart.temporary_bytes, 1e6)} temp MB, {_scaled(apart.peak_bytes, 1e6)} peak MB"
    )


def _schedule(schedule: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"    {'step':>4} {'live HBM MB':>12} {'live VMEM MB':>13} {'kcycles':>9}  instruction"
    for number, step in enumerate(schedule):
        if step["opcode"] in ("parameter", "get-tuple-element", "bitcast", "tuple", "constant"):
            continue
        fused = f" ({step['fused']} fused)" if step["fused"] else ""
        hbm, vmem = (_scaled(step[f"{space}_live_bytes"], 1e6) for space in ("hbm", "vmem"))
        yield (
            f"    {number:>4} {hbm:>12} {vmem:>13} "
            f"{_scaled(step['estimated_cycles'], 1e3):>9}  {step['instruction']}{fused}"
        )


def _not_compiled(results: Sequence[Result]) -> list[str]:
    """Each reason once, with the implementations it concerns."""
    concerned: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.status == OK:
            continue
        kind, name = "FAILED", f"{result.implementation} of {result.case} on {result.target}"
        if result.status == SKIPPED:
            kind, name = "not compiled", result.implementation
        concerned.setdefault((kind, result.reason or ""), []).append(name)
    lines = [
        f"{kind}: {', '.join(dict.fromkeys(names))}: {reason}" for (kind, reason), names in concerned.items()
    ]
    return ["", *lines] if lines else []


def _scaled(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:,.1f}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
