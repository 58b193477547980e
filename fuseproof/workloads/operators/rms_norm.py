"""RMS normalisation over the last axis, plain or of the sum with a residual (Zhang & Sennrich 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.operators.row_norm import RowNorm

EPSILON = 1e-6


class RMSNorm(RowNorm):
    """y = s / √(mean(s²) + 1e-6) · weight with s = x, or s = x + residual.

    x, residual: (rows, columns); weight: (columns,). Source: https://arxiv.org/abs/1910.07467.
    """

    name: ClassVar[str] = "rms_norm"
    label_example: ClassVar[str] = "4096x4096 (rows x columns) or 4096x4096_residual"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "t5-base": "1024x768",  # Raffel et al. 2020, two sequences of 512 tokens
        "llama-3-8b": "4096x4096_residual",  # Grattafiori et al. 2024, 4096 tokens
        "llama-3-8b-decode": "8x4096_residual",  # one new token for each of 8 sequences
        "llama-3-70b": "4096x8192_residual",
        "qwen3-8b-heads": "32768x128",  # Yang et al. 2025: the queries of 1024 tokens, head by head
    }
    epsilon: ClassVar[float] = EPSILON
    centred: ClassVar[bool] = False
    parameters: ClassVar[tuple[str, ...]] = ("weight",)

    def flops(self, pass_: str) -> int:
        # Per element, forward: square and sum 2, scale 1, weight 1. Backward: ŝ 1, dŝ 1, row sum 2, dx 3,
        # dweight 2. Plus 1 for the residual.
        forward = 4 + (1 if self.residual else 0)
        backward = 9 if pass_ == "forward_backward" else 0
        return self.rows * self.columns * (forward + backward)
