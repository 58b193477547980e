"""The ways to compute an operator: those that come with Fuseproof, and those that users add."""

from fuseproof.implementations.builtin import IMPLEMENTATIONS
from fuseproof.implementations.implementation import CUDA_GRAPHS, FRAMEWORKS, Implementation
from fuseproof.implementations.loading import resolve_function, table

__all__ = [
    "CUDA_GRAPHS",
    "FRAMEWORKS",
    "IMPLEMENTATIONS",
    "Implementation",
    "resolve_function",
    "table",
]
