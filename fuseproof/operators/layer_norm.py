"""Layer normalisation over the last axis, plain or of the sum with a residual (Ba et al. 2016)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fuseproof.operators.base import Arrays, Operator, Sampled, rms, sample

EPSILON = 1e-5

# Rows held at once in float64 by the reference.
_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Operator):
    """y = (s − mean(s)) / √(var(s) + 1e-5) · weight + bias with s = x, or s = x + residual.

    x, residual: (rows, columns); weight, bias: (columns,).
    """

    name: ClassVar[str] = "layer_norm"
    label_pattern: ClassVar[re.Pattern[str]] = re.compile(r"(\d+)x(\d+)(_residual)?")
    label_example: ClassVar[str] = "4096x768 (rows x columns) or 4096x768_residual"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "gpt2": "1024x768",  # one context of 1024 tokens
        "bert-base": "1024x768_residual",  # 8 sentences of 128 tokens, post-norm
        "vit-base": "1576x768",  # 8 images of 197 tokens
        "gpt2-xl": "1024x1600",
    }

    rows: int
    columns: int
    residual: bool = False

    @property
    def label(self) -> str:
        return f"{self.rows}x{self.columns}{'_residual' if self.residual else ''}"

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> Self:
        rows, columns, residual = match.groups()
        return cls(rows=int(rows), columns=int(columns), residual=residual is not None)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "x": self.output_shape,
            "weight": (self.columns,),
            "bias": (self.columns,),
        }
        return {**shapes, "residual": self.output_shape} if self.residual else shapes

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.rows, self.columns)

    def flops(self, pass_: str) -> int:
        # Per element, forward: mean 1, centre 1, square and sum 2, scale 1, weight and bias 2. Backward: x̂ 2,
        # dx̂ 1, two row sums 3, dx 4, dweight 2, dbias 1. Plus 1 for the residual.
        forward = 7 + (1 if self.residual else 0)
        backward = 13 if pass_ == "forward_backward" else 0
        return self.rows * self.columns * (forward + backward)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        values = super().draw(name, shape, generator)
        # Trained weights stay near one. x gets a mean, so that a variance taken without centring shows.
        spread = {"weight": 1 / 8, "bias": 1 / 8}.get(name, 1.0)
        centre = {"weight": 1.0, "x": 1.0}.get(name, 0.0)
        return values * np.float32(spread) + np.float32(centre)

    def reference(self, inputs: Arrays, cotangent: NDArray[np.float32] | None) -> dict[str, Sampled]:
        rows, every = sample(self.rows), slice(None)
        weight, bias = (inputs[name].astype(np.float64) for name in ("weight", "bias"))
        normalised, rstd = self._normalise(inputs, rows)
        sampled = {"output": Sampled(index=(rows, every), values=normalised * weight + bias)}
        if cotangent is None:
            return sampled

        d = cotangent[rows].astype(np.float64) * weight
        dx = rstd * (
            d - d.mean(axis=-1, keepdims=True) - normalised * (d * normalised).mean(axis=-1, keepdims=True)
        )
        # One column is its own mean, whatever its value: d − mean(d) cancels.
        scale = rms(rstd * d) if self.columns == 1 else None
        for name in ("x", "residual") if self.residual else ("x",):
            sampled[f"grad_{name}"] = Sampled(index=(rows, every), values=dx, scale=scale)

        dweight, dbias = np.zeros(self.columns), np.zeros(self.columns)
        for start in range(0, self.rows, _ROWS):
            block = np.arange(start, min(start + _ROWS, self.rows))
            dy = cotangent[block].astype(np.float64)
            dweight += (dy * self._normalise(inputs, block)[0]).sum(axis=0)
            dbias += dy.sum(axis=0)
        sampled["grad_weight"] = Sampled(index=(every,), values=dweight)
        sampled["grad_bias"] = Sampled(index=(every,), values=dbias)
        return sampled

    def _normalise(
        self, inputs: Arrays, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        s = inputs["x"][rows].astype(np.float64)
        if self.residual:
            s += inputs["residual"][rows]
        s -= s.mean(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt((s * s).mean(axis=-1, keepdims=True) + EPSILON)
        return s * rstd, rstd
