"""Embedding: rows of a table by index, whose backward pass adds gradients up where an index repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.operators.base import SAMPLES, Arrays, Sampled, sample
from fuseproof.workloads.operators.extents import Extents
from fuseproof.workloads.tensor import INDEX, result_dtype

# Rows added to a gradient in float64 at once.
_ROWS = 1024


class Embedding(Extents):
    """y = table[indices]. table: (vocabulary, hidden); indices: (tokens,); the gradient is that of all rows.

    Indices follow Zipf's law as words do, row i with a probability of about 1 / (i ln vocabulary): some rows
    get a sum of many gradients, most get none and are zero.
    """

    name: ClassVar[str] = "embedding"
    label_example: ClassVar[str] = "4096x128256x4096 (tokens x vocabulary x hidden)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "gpt2": "1024x50257x768",  # Radford et al. 2019: one context of 1024 tokens
        "bert-base": "1024x30522x768",  # Devlin et al. 2018: 8 sentences of 128 tokens
        "llama-2-7b": "4096x32000x4096",  # Touvron et al. 2023
        "llama-3-8b": "4096x128256x4096",  # Grattafiori et al. 2024
    }
    input_dtypes: ClassVar[Mapping[str, str]] = {"indices": INDEX}

    tokens: int
    vocabulary: int
    hidden: int

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"table": (self.vocabulary, self.hidden), "indices": (self.tokens,)}

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.tokens, self.hidden)

    def flops(self, pass_: str) -> int:
        # Forward only moves; backward adds each element of the cotangent to a sum.
        return 0 if pass_ == "forward" else self.tokens * self.hidden

    def minimum_bytes(self, pass_: str, dtype: str) -> int:
        # Of the table only the rows of the indices are read, at least one: how many differ is drawn. The
        # gradient is written whole, from the indices and the cotangent alone.
        table, indices = (tensor.bytes(dtype) for tensor in self.inputs_by_name.values())
        output = sum(tensor.bytes(result_dtype(dtype)) for tensor in self.outputs_by_name.values())
        forward = indices + output + table // self.vocabulary
        return forward if pass_ == "forward" else forward + indices + output + table

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        if name != "indices":
            return super().draw(name, shape, generator)
        # The logarithm of such an index is uniform.
        ranks = (self.vocabulary + 1.0) ** generator.random(shape)
        return np.minimum(ranks.astype(np.int64), self.vocabulary) - 1

    def reference(
        self,
        inputs: Arrays,
        cotangent: NDArray[np.float32] | None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        generator = generator or np.random.default_rng()
        table, indices, every = inputs["table"], inputs["indices"], slice(None)
        tokens = sample(self.tokens, generator)
        output = table[indices[tokens]].astype(np.float64)
        sampled = {"output": Sampled(index=(tokens, every), values=output)}
        if cotangent is None:
            return sampled
        # Of a large table few rows are hit: half of the sample is drawn from those.
        hit = np.unique(indices)
        half = SAMPLES // 2
        rows = np.union1d(
            hit[sample(len(hit), generator, count=half)], sample(self.vocabulary, generator, count=half)
        )
        gradient = np.zeros((len(rows), self.hidden))
        wanted = np.flatnonzero(np.isin(indices, rows))
        for start in range(0, len(wanted), _ROWS):
            block = wanted[start : start + _ROWS]
            np.add.at(gradient, np.searchsorted(rows, indices[block]), cotangent[block].astype(np.float64))
        sampled["grad_table"] = Sampled(index=(rows, every), values=gradient)
        return sampled
