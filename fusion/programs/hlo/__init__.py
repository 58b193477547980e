"""The text of an XLA module (HLO) as data: `parse` gives a `Module`."""

from fuseproof.fusion.programs.hlo.module import (
    COLLECTIVES,
    FREE_OPCODES,
    Array,
    Computation,
    Instruction,
    Module,
    controlled_by,
)
from fuseproof.fusion.programs.hlo.parser import parse

__all__ = [
    "COLLECTIVES",
    "FREE_OPCODES",
    "Array",
    "Computation",
    "Instruction",
    "Module",
    "controlled_by",
    "parse",
]
