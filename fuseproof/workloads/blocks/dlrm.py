"""A recommendation model: embeddings, dot interactions, two small networks (DLRM, Naumov et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes
from fuseproof.workloads.tensor import INDEX

DENSE = 13  # numbers in a row of Criteo's data


class DLRM(NetworkBlock):
    """d = bottom network of x; v = (d, one row of each table); y = top network of (d, vᵢ · vⱼ for i > j).

    x: (batch, 13); indices: (batch, tables), by Zipf's law; each table (rows, width). Networks of two layers,
    of inner width 4 · width, with SiLU where Naumov et al. have ReLU (why: `conv_residual`). Returns logits,
    (batch,).
    Source: https://arxiv.org/abs/1906.00091.
    """

    name: ClassVar[str] = "dlrm"
    label_example: ClassVar[str] = "256x8x1000x32 (batch x tables x rows x width)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x8x1000x32",
        "cpu-large": "256x8x1000x32",
        "cpu-training": "64x8x1000x32",
        "gpu-single": "1x26x10000x64",
        "gpu-large": "8192x26x10000x64",
        "gpu-training": "2048x26x10000x64",
    }
    input_dtypes: ClassVar[Mapping[str, str]] = {"indices": INDEX}

    batch: int
    tables: int
    rows: int
    width: int

    @property
    def input_shapes(self) -> Shapes:
        return {"x": (self.batch, DENSE), "indices": (self.batch, self.tables)}

    @property
    def parameters(self) -> Shapes:
        return {
            **self._linear("bottom_0", DENSE, 4 * self.width),
            **self._linear("bottom_1", 4 * self.width, self.width),
            **{f"table_{number}": (self.rows, self.width) for number in range(self.tables)},
            **self._linear("top_0", self.width + self._pairs, 4 * self.width),
            **self._linear("top_1", 4 * self.width, 1),
        }

    @property
    def multiply_adds(self) -> int:
        layers = DENSE + self.width + self.width + self._pairs + 1
        return self.batch * (4 * self.width * layers + self._pairs * self.width)

    def minimum_bytes(self, pass_: str, dtype: str) -> None:
        """How many rows of the tables differ is drawn."""

    @property
    def _pairs(self) -> int:
        return (self.tables + 1) * self.tables // 2

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        if name == "indices":
            ranks = (self.rows + 1.0) ** generator.random(shape)
            return np.minimum(ranks.astype(np.int64), self.rows) - 1
        return super().draw(name, shape, generator)

    def fan_in(self, parameter: str) -> int:
        # Rows of length 1, so that an interaction is of the size of a cosine times √width.
        return 1 if parameter.startswith("table_") else super().fan_in(parameter)
