"""Rotary position embedding of queries and keys (Su et al. 2021), by halves, as Llama has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.workloads.operators.base import Arrays, Operator, Sampled, sample
from fuseproof.workloads.tensor import result_dtype

# Heads of all sequences that the reference is computed for.
_HEADS = 8


class Rotary(Operator):
    """(q₁ cos − q₂ sin, q₂ cos + q₁ sin) with q = (q₁, q₂), halves of the head dim; k alike. Returns both.

    q: (batch, query_heads, length, head_dim); k: (batch, key_value_heads, length, head_dim); cos, sin:
    (length, head_dim / 2), which get no gradient. The tables are drawn, cosines and sines of angles of their
    own, not those of positions: what computes them itself instead of reading them is wrong.
    """

    name: ClassVar[str] = "rotary"
    label_pattern: ClassVar[re.Pattern[str]] = re.compile(r"b(\d+)_h(\d+)(?:_kv(\d+))?_s(\d+)_d(\d+)")
    label_example: ClassVar[str] = "b1_h32_kv8_s4096_d128"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "llama-2-7b": "b1_h32_s4096_d128",  # Touvron et al. 2023
        "llama-3-8b": "b1_h32_kv8_s4096_d128",  # Grattafiori et al. 2024
        "llama-3-8b-decode": "b8_h32_kv8_s1_d128",  # one new token for each of 8 sequences
        "llama-3-70b": "b1_h64_kv8_s4096_d128",
    }

    batch: int
    query_heads: int
    key_value_heads: int
    length: int
    head_dim: int

    @property
    def label(self) -> str:
        grouped = f"_kv{self.key_value_heads}" if self.key_value_heads != self.query_heads else ""
        return f"b{self.batch}_h{self.query_heads}{grouped}_s{self.length}_d{self.head_dim}"

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> Self:
        batch, heads, grouped, length, dim = match.groups()
        if int(dim) % 2:
            raise UserError(f"rotary shape {match.string!r}: a head dim of {dim} has no halves; make it even")
        return cls(
            batch=int(batch),
            query_heads=int(heads),
            key_value_heads=int(grouped or heads),
            length=int(length),
            head_dim=int(dim),
        )

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        table = (self.length, self.head_dim // 2)
        return {
            "q": (self.batch, self.query_heads, self.length, self.head_dim),
            "k": (self.batch, self.key_value_heads, self.length, self.head_dim),
            "cos": table,
            "sin": table,
        }

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.input_shapes
        return {"output_0": shapes["q"], "output_1": shapes["k"]}

    @property
    def differentiable(self) -> tuple[str, ...]:
        return ("q", "k")

    def flops(self, pass_: str) -> int:
        # Two products and a sum for each element of q and k; as many for each of their gradients.
        heads = self.query_heads + self.key_value_heads
        forward = 3 * self.batch * heads * self.length * self.head_dim
        return forward if pass_ == "forward" else 2 * forward

    def minimum_bytes(self, pass_: str, dtype: str) -> int:
        # A rotation is linear: its backward reads the tables and the cotangents, and not q and k again.
        tensors = self.inputs_by_name
        tables, rotated = (
            sum(tensors[n].bytes(dtype) for n in names) for names in (("cos", "sin"), ("q", "k"))
        )
        results = sum(tensor.bytes(result_dtype(dtype)) for tensor in self.outputs_by_name.values())
        return (tables + rotated + results) * (1 if pass_ == "forward" else 2)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        if name in ("q", "k"):
            values: NDArray[np.float32] = super().draw(name, shape, generator)
            return values
        angles = generator.uniform(0, 2 * np.pi, shape).astype(np.float32)
        return np.cos(angles) if name == "cos" else np.sin(angles)

    def reference(
        self,
        inputs: Arrays,
        cotangent: Mapping[str, NDArray[np.float32]] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        generator = generator or np.random.default_rng()
        places = sample(self.length, generator)
        cos, sin = (inputs[name][places].astype(np.float64) for name in ("cos", "sin"))
        sampled = {}
        for number, name in enumerate(("q", "k")):
            batch, heads = np.unravel_index(
                sample(self.batch * inputs[name].shape[1], generator, count=_HEADS), inputs[name].shape[:2]
            )
            index = (batch[:, None], heads[:, None], places[None, :])
            rotated = _rotate(inputs[name][index].astype(np.float64), cos, sin)
            sampled[f"output_{number}"] = Sampled(index=index, values=rotated)
            if cotangent is not None:
                back = _rotate(cotangent[f"output_{number}"][index].astype(np.float64), cos, -sin)
                sampled[f"grad_{name}"] = Sampled(index=index, values=back)
        return sampled


def _rotate(
    x: NDArray[np.float64], cos: NDArray[np.float64], sin: NDArray[np.float64]
) -> NDArray[np.float64]:
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
