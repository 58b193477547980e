"""The feed-forward block of a transformer: layer norm, two products, GELU, residual (Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes


class MLPBlock(NetworkBlock):
    """y = x + gelu(layer_norm(x) up + up_bias) down + down_bias, with the tanh form of GELU, as GPT-2 has it.

    x: (tokens, hidden); up: (hidden, inner); down: (inner, hidden).
    """

    name: ClassVar[str] = "mlp_block"
    label_example: ClassVar[str] = "256x256x1024 (tokens x hidden x inner)"
    named_shapes: ClassVar[Mapping[str, str]] = {"cpu": "256x256x1024", "gpu": "8192x1024x4096"}

    tokens: int
    hidden: int
    inner: int

    @property
    def activations(self) -> Shapes:
        return {"x": (self.tokens, self.hidden)}

    @property
    def parameters(self) -> Shapes:
        return {
            **self._norm("norm", self.hidden),
            **self._linear("up", self.hidden, self.inner),
            **self._linear("down", self.inner, self.hidden),
        }

    @property
    def multiply_adds(self) -> int:
        return 2 * self.tokens * self.hidden * self.inner
