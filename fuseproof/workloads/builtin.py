"""Every workload that comes with Fuseproof, by name: operators, network blocks and models."""

from __future__ import annotations

from collections.abc import Mapping

from fuseproof.errors import require_known
from fuseproof.workloads.blocks import BLOCKS
from fuseproof.workloads.models import MODELS
from fuseproof.workloads.modules import Module
from fuseproof.workloads.operators import OPERATORS, Operator

# What they hold only their framework knows: a plan has it described, as a user's workload.
MODULES: Mapping[str, type[Module]] = {**BLOCKS, **MODELS}
WORKLOADS: Mapping[str, type[Operator]] = {**OPERATORS, **MODULES}
NAMES = tuple(WORKLOADS)


def get(name: str) -> type[Operator]:
    """The class of the workload named `name`. Raises UserError for any other name."""
    require_known("workload", [name], NAMES)
    return WORKLOADS[name]
