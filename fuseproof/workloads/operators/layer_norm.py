"""Layer normalisation over the last axis, plain or of the sum with a residual (Ba et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.operators.row_norm import RowNorm

EPSILON = 1e-5


class LayerNorm(RowNorm):
    """y = (s − mean(s)) / √(var(s) + 1e-5) · weight + bias with s = x, or s = x + residual.

    x, residual: (rows, columns); weight, bias: (columns,).
    """

    name: ClassVar[str] = "layer_norm"
    label_example: ClassVar[str] = "4096x768 (rows x columns) or 4096x768_residual"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "gpt2": "1024x768",  # one context of 1024 tokens
        "bert-base": "1024x768_residual",  # 8 sentences of 128 tokens, post-norm
        "vit-base": "1576x768",  # 8 images of 197 tokens
        "gpt2-xl": "1024x1600",
    }
    epsilon: ClassVar[float] = EPSILON
    centred: ClassVar[bool] = True
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def flops(self, pass_: str) -> int:
        # Per element, forward: mean 1, centre 1, square and sum 2, scale 1, weight and bias 2. Backward: x̂ 2,
        # dx̂ 1, two row sums 3, dx 4, dweight 2, dbias 1. Plus 1 for the residual.
        forward = 7 + (1 if self.residual else 0)
        backward = 13 if pass_ == "forward_backward" else 0
        return self.rows * self.columns * (forward + backward)
