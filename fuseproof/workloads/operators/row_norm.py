"""Normalisation over the last axis: what layer norm and RMS norm share."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.operators.base import Arrays, Sampled, rms, sample
from fuseproof.workloads.operators.extents import Extents

# Rows held at once in float64 by the reference.
_ROWS = 1024


class RowNorm(Extents):
    """y = ŝ · weight (+ bias), ŝ = c / √(mean(c²) + epsilon), s = x or x + residual, row by row.

    c is s itself, or s − mean(s) where the class is `centred`. x, residual: (rows, columns); weight, bias:
    (columns,).
    """

    epsilon: ClassVar[float]
    centred: ClassVar[bool]  # the mean is taken off
    parameters: ClassVar[tuple[str, ...]]  # weight, or weight and bias

    rows: int
    columns: int
    residual: bool = False

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "x": self.output_shape,
            **dict.fromkeys(self.parameters, (self.columns,)),
        }
        return {**shapes, "residual": self.output_shape} if self.residual else shapes

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.rows, self.columns)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        values = super().draw(name, shape, generator)
        # Trained weights stay near one. x gets a mean, so that it shows when a mean is not taken off, or is
        # taken off where it should stay.
        spread = dict.fromkeys(self.parameters, 1 / 8).get(name, 1.0)
        centre = {"weight": 1.0, "x": 1.0}.get(name, 0.0)
        return values * np.float32(spread) + np.float32(centre)

    def reference(
        self,
        inputs: Arrays,
        cotangent: NDArray[np.float32] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        generator = generator or np.random.default_rng()
        rows, every = sample(self.rows, generator), slice(None)
        parameters = {name: inputs[name].astype(np.float64) for name in self.parameters}
        normalised, rstd = self._normalise(inputs, rows)
        output = normalised * parameters["weight"] + parameters.get("bias", 0.0)
        sampled = {"output": Sampled(index=(rows, every), values=output)}
        if cotangent is None:
            return sampled

        d = cotangent[rows].astype(np.float64) * parameters["weight"]
        dx = d - normalised * (d * normalised).mean(axis=-1, keepdims=True)
        if self.centred:
            dx -= d.mean(axis=-1, keepdims=True)
        dx *= rstd
        # One column is ±1 once normalised, whatever its value, but for epsilon: all of d cancels.
        scale = rms(rstd * d) if self.columns == 1 else None
        for name in ("x", "residual") if self.residual else ("x",):
            sampled[f"grad_{name}"] = Sampled(index=(rows, every), values=dx, scale=scale)

        sums = {name: np.zeros(self.columns) for name in self.parameters}
        for start in range(0, self.rows, _ROWS):
            block = np.arange(start, min(start + _ROWS, self.rows))
            dy = cotangent[block].astype(np.float64)
            sums["weight"] += (dy * self._normalise(inputs, block)[0]).sum(axis=0)
            if "bias" in sums:
                sums["bias"] += dy.sum(axis=0)
        for name, values in sums.items():
            sampled[f"grad_{name}"] = Sampled(index=(every,), values=values)
        return sampled

    def _normalise(
        self, inputs: Arrays, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        s = inputs["x"][rows].astype(np.float64)
        if self.residual:
            s += inputs["residual"][rows]
        if self.centred:
            s -= s.mean(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt((s * s).mean(axis=-1, keepdims=True) + self.epsilon)
        return s * rstd, rstd
