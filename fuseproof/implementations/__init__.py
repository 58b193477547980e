"""The ways to compute an operator: those that come with Fuseproof, and those that users add."""

from fuseproof.implementations.builtin import IMPLEMENTATIONS
from fuseproof.implementations.implementation import (
    CUDA_GRAPHS,
    FRAMEWORKS,
    Implementation,
    reason_not_installed,
)
from fuseproof.implementations.listing import everything, table
from fuseproof.implementations.loading import resolve_function
from fuseproof.implementations.rows import runtime_rows

__all__ = [
    "CUDA_GRAPHS",
    "FRAMEWORKS",
    "IMPLEMENTATIONS",
    "Implementation",
    "everything",
    "reason_not_installed",
    "resolve_function",
    "runtime_rows",
    "table",
]
