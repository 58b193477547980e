"""The gated feed-forward layer of Llama and its successors (Shazeer 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.operators.base import Arrays, Sampled, sample
from fuseproof.workloads.operators.extents import Extents

# Inner columns whose weights the reference holds at once in float64.
_COLUMNS = 1024

# Inner columns that the gradients of the weights are computed for.
_SAMPLED_COLUMNS = 16


class SwiGLU(Extents):
    """y = (silu(x gate) · (x up)) down with silu(g) = g / (1 + e⁻ᵍ).

    x: (tokens, hidden); gate, up: (hidden, inner); down: (inner, hidden).
    Source: https://arxiv.org/abs/2002.05202.
    """

    name: ClassVar[str] = "swiglu"
    label_example: ClassVar[str] = "2048x4096x14336 (tokens x hidden x inner)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "llama-2-7b": "2048x4096x11008",  # Touvron et al. 2023
        "llama-3-8b": "2048x4096x14336",  # Grattafiori et al. 2024
        "llama-3-8b-decode": "8x4096x14336",  # one new token for each of 8 sequences
        "qwen3-0.6b": "1024x1024x3072",  # Yang et al. 2025
    }
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16", "tf32")

    tokens: int
    hidden: int
    inner: int

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "x": (self.tokens, self.hidden),
            "gate": (self.hidden, self.inner),
            "up": (self.hidden, self.inner),
            "down": (self.inner, self.hidden),
        }

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.tokens, self.hidden)

    def flops(self, pass_: str) -> int:
        # Three products, and two more for each in the backward pass. What is done to each element of the
        # inner matrices is not counted, as in the literature.
        forward = 3 * 2 * self.tokens * self.hidden * self.inner
        return forward if pass_ == "forward" else 3 * forward

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        values: NDArray[np.float32] = super().draw(name, shape, generator)
        # Weights of variance 1 / rows keep each product near unit variance, where silu is not just linear.
        rows = {"gate": self.hidden, "up": self.hidden, "down": self.inner}.get(name, 1)
        return values * np.float32(rows**-0.5)

    def reference(
        self,
        inputs: Arrays,
        cotangent: NDArray[np.float32] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        generator = generator or np.random.default_rng()
        rows, every = sample(self.tokens, generator), slice(None)
        x = inputs["x"][rows].astype(np.float64)
        dy = None if cotangent is None else cotangent[rows].astype(np.float64)
        output, dx = np.zeros_like(x), np.zeros_like(x)
        for start in range(0, self.inner, _COLUMNS):
            gate, up, down = self._weights(inputs, slice(start, start + _COLUMNS))
            g, u = x @ gate, x @ up
            output += _silu(g) * u @ down
            if dy is not None:
                dh = dy @ down.T
                dx += (dh * u * _silu_derivative(g)) @ gate.T + (dh * _silu(g)) @ up.T
        sampled = {"output": Sampled(index=(rows, every), values=output)}
        if cotangent is None:
            return sampled

        # Gradients of the weights sum over all tokens; of some inner columns they are whole.
        columns = sample(self.inner, generator, count=_SAMPLED_COLUMNS)
        gate, up, down = self._weights(inputs, columns)
        all_x, all_dy = inputs["x"].astype(np.float64), cotangent.astype(np.float64)
        g, u, dh = all_x @ gate, all_x @ up, all_dy @ down.T
        sampled["grad_x"] = Sampled(index=(rows, every), values=dx)
        sampled["grad_gate"] = Sampled(
            index=(every, columns), values=all_x.T @ (dh * u * _silu_derivative(g))
        )
        sampled["grad_up"] = Sampled(index=(every, columns), values=all_x.T @ (dh * _silu(g)))
        sampled["grad_down"] = Sampled(index=(columns, every), values=(_silu(g) * u).T @ all_dy)
        return sampled

    @staticmethod
    def _weights(inputs: Arrays, columns: slice | NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """The weights of some inner columns, in float64."""
        picked = (inputs["gate"][:, columns], inputs["up"][:, columns], inputs["down"][columns])
        return tuple(weight.astype(np.float64) for weight in picked)


def _silu(g: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(g / (1 + np.exp(-g)))


def _silu_derivative(g: NDArray[np.float64]) -> NDArray[np.float64]:
    sigmoid = 1 / (1 + np.exp(-g))
    return np.asarray(sigmoid * (1 + g * (1 - sigmoid)))
