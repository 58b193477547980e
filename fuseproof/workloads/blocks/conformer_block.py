"""A Conformer block of speech recognition: attention and a convolution between two halves of a feed-forward
layer (Gulati et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes, misfit_of_heads

KERNEL = 31


class ConformerBlock(NetworkBlock):
    """a = x + feed(x) / 2; b = a + attention(a); c = b + conv(b); y = layer_norm(c + feed(c) / 2).

    x: (batch, length, hidden). feed: layer norm, up to 4 hidden, SiLU, down. attention: layer norm, heads
    without positions. conv: layer norm, gated linear unit, depthwise convolution over 31 steps, layer norm,
    SiLU, product. Depthwise kernels are (31, hidden). The norm within the convolution is that of streaming
    models; Gulati et al. have batch norm there, which is another function in training than in inference.
    """

    name: ClassVar[str] = "conformer_block"
    label_example: ClassVar[str] = "2x128x144x4 (batch x length x hidden x heads)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x128x144x4",
        "cpu-large": "32x16x144x4",
        "cpu-training": "4x32x144x4",
        "gpu-single": "1x512x256x4",
        "gpu-large": "32x256x256x4",
        "gpu-training": "8x512x256x4",
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
        width = self.hidden
        return {
            **self._feed("first", width),
            **self._norm("attention_norm", width),
            **self._linear("qkv", width, 3 * width),
            **self._linear("out", width, width),
            **self._norm("conv_norm", width),
            **self._linear("glu", width, 2 * width),
            "depthwise": (KERNEL, width),
            **self._norm("depthwise_norm", width),
            **self._linear("pointwise", width, width),
            **self._feed("second", width),
            **self._norm("final_norm", width),
        }

    def _feed(self, name: str, width: int) -> Shapes:
        return {
            **self._norm(f"{name}_norm", width),
            **self._linear(f"{name}_up", width, 4 * width),
            **self._linear(f"{name}_down", 4 * width, width),
        }

    @property
    def multiply_adds(self) -> int:
        tokens = self.batch * self.length
        return tokens * self.hidden * (23 * self.hidden + 2 * self.length + KERNEL)
