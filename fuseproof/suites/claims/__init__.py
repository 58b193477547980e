"""Populations: suites that claims speak of, the same cases at two sizes."""

from __future__ import annotations

from fuseproof.suites import Suite


def population(
    name: str, summary: str, *, modules: tuple[str, ...], only: tuple[str, ...], scale: str, palindromes: int
) -> Suite:
    """A suite of modules at this scale: as many blocks as a verdict needs, and the sizes for a GPU on one."""
    return Suite(
        name=name,
        summary=summary,
        cases=(),
        modules=modules,
        only=only,
        device="cuda" if scale == "gpu" else "",
        scale=scale,
        blocks=5,
        max_blocks=5,
        palindromes=palindromes,
        max_palindromes=palindromes,
        leg_seconds=0.003,
        profile=False,
    )
