"""Softmax over the last axis, as in attention's scores and a classifier's probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.operators.base import Arrays, Sampled, rms, sample
from fuseproof.workloads.operators.extents import Extents

# The mean of what is drawn: eˣ of it is infinite in float32, so that a softmax which does not take off the
# row's maximum gives NaN.
_SHIFT = 100.0


class Softmax(Extents):
    """y = exp(x − max(x)) / Σ exp(x − max(x)), row by row. x: (rows, columns)."""

    name: ClassVar[str] = "softmax"
    label_example: ClassVar[str] = "4096x4096 (rows x columns)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "bert-base-scores": "12288x128",  # Devlin et al. 2018: 8 sentences, 12 heads, 128 queries and keys
        "gpt2-scores": "12288x1024",  # Radford et al. 2019: 12 heads of one context of 1024 tokens
        "gpt2-vocabulary": "1024x50257",  # its probabilities of the next token
        "llama-3-8b-sampling": "8x128256",  # Grattafiori et al. 2024: the next token of 8 sequences
    }

    rows: int
    columns: int

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"x": self.output_shape}

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.rows, self.columns)

    def flops(self, pass_: str) -> int:
        # Per element, forward: maximum 1, difference 1, exponential 1, sum 1, quotient 1. Backward: dy·y and
        # its sum 2, difference 1, product 1.
        return self.rows * self.columns * (5 if pass_ == "forward" else 9)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        values: NDArray[np.float32] = super().draw(name, shape, generator)
        return values + np.float32(_SHIFT)

    def reference(
        self,
        inputs: Arrays,
        cotangent: NDArray[np.float32] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        rows, every = sample(self.rows, generator or np.random.default_rng()), slice(None)
        x = inputs["x"][rows].astype(np.float64)
        y = np.exp(x - x.max(axis=-1, keepdims=True))
        y /= y.sum(axis=-1, keepdims=True)
        sampled = {"output": Sampled(index=(rows, every), values=y)}
        if cotangent is not None:
            dy = cotangent[rows].astype(np.float64)
            dx = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
            # The softmax of one column is 1 whatever x is: all of dy cancels.
            scale = rms(dy) if self.columns == 1 else None
            sampled["grad_x"] = Sampled(index=(rows, every), values=dx, scale=scale)
        return sampled
