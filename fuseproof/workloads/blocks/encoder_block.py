"""A transformer encoder block (Vaswani et al. 2017), norm first as in ViT (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes, misfit_of_heads


class EncoderBlock(NetworkBlock):
    """a = x + attention(layer_norm(x)) out; y = a + gelu(layer_norm(a) up) down, with exact GELU and biases.

    x: (batch, length, hidden). Query, key and value are one product, (hidden, 3 hidden): the gradient of a
    bias of keys alone would be zero in exact arithmetic. The inner width is 4 hidden.
    """

    name: ClassVar[str] = "encoder_block"
    label_example: ClassVar[str] = "2x128x256x4 (batch x length x hidden x heads)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x128x256x4",
        "cpu-large": "32x16x256x4",
        "cpu-training": "4x32x256x4",
        "gpu-single": "1x512x1024x16",
        "gpu-large": "32x256x1024x16",
        "gpu-training": "4x512x1024x16",
    }

    batch: int
    length: int
    hidden: int
    heads: int

    @property
    def misfit(self) -> str | None:
        return misfit_of_heads(self.hidden, self.heads)

    @property
    def input_shapes(self) -> Shapes:
        return {"x": (self.batch, self.length, self.hidden)}

    @property
    def parameters(self) -> Shapes:
        return {
            **self._norm("attention_norm", self.hidden),
            **self._linear("qkv", self.hidden, 3 * self.hidden),
            **self._linear("out", self.hidden, self.hidden),
            **self._norm("mlp_norm", self.hidden),
            **self._linear("up", self.hidden, 4 * self.hidden),
            **self._linear("down", 4 * self.hidden, self.hidden),
        }

    @property
    def multiply_adds(self) -> int:
        tokens = self.batch * self.length
        return 12 * tokens * self.hidden**2 + 2 * tokens * self.length * self.hidden
