"""Every workload that comes with Fuseproof, by name: operators and network blocks."""

from __future__ import annotations

from collections.abc import Mapping

from fuseproof.errors import require_known
from fuseproof.workloads.blocks import BLOCKS
from fuseproof.workloads.operators import OPERATORS, Operator

WORKLOADS: Mapping[str, type[Operator]] = {**OPERATORS, **BLOCKS}


def get(name: str) -> type[Operator]:
    """The class of the workload named `name`. Raises UserError for any other name."""
    require_known("operator", [name], WORKLOADS)
    return WORKLOADS[name]
