"""The feed-forward block of a transformer: layer norm, two products, GELU, residual (Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes


class MLPBlock(NetworkBlock):
    """y = x + gelu(layer_norm(x) up + up_bias) down + down_bias, with the tanh form of GELU, as GPT-2 has it.

    x: (batch, length, hidden); up: (hidden, inner); down: (inner, hidden).
    """

    name: ClassVar[str] = "mlp_block"
    label_example: ClassVar[str] = "2x128x256x1024 (batch x length x hidden x inner)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x128x256x1024",
        "cpu-large": "32x16x256x1024",
        "cpu-training": "4x64x256x1024",
        "gpu-single": "1x1024x1024x4096",
        "gpu-large": "32x512x1024x4096",
        "gpu-training": "8x512x1024x4096",
    }

    batch: int
    length: int
    hidden: int
    inner: int

    @property
    def input_shapes(self) -> Shapes:
        return {"x": (self.batch, self.length, self.hidden)}

    @property
    def parameters(self) -> Shapes:
        return {
            **self._norm("norm", self.hidden),
            **self._linear("up", self.hidden, self.inner),
            **self._linear("down", self.inner, self.hidden),
        }

    @property
    def multiply_adds(self) -> int:
        return 2 * self.batch * self.length * self.hidden * self.inner
