"""A block of a U-Net's way up, as diffusion models have it (Ronneberger et al. 2015; Ho et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes

GROUP = 16  # channels


class UNetBlock(NetworkBlock):
    """z = (conv₀(x, each pixel repeated 2 × 2); skip); h = conv₁(silu(group_norm(z))) + silu(time) embed;
    y = conv₂(silu(group_norm(h))) + z shortcut, with 16 channels in each group of a norm.

    A convolution after upsampling, as Ho et al. have it: without, the first norm would have nothing to give
    a gradient to, where PyTorch 2.13 crashes (group_norm of channels-last images on a CPU).

    x: (batch, size / 2, size / 2, channels); skip: (batch, size, size, channels); time: (batch, 4 channels).
    """

    name: ClassVar[str] = "unet_block"
    label_example: ClassVar[str] = "1x32x64 (batch x size x channels)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x32x64",
        "cpu-large": "32x8x64",
        "cpu-training": "2x16x64",
        "gpu-single": "1x64x320",
        "gpu-large": "32x16x320",
        "gpu-training": "2x64x320",
    }

    batch: int
    size: int
    channels: int

    @property
    def misfit(self) -> str | None:
        if self.channels % GROUP or self.size % 2:
            return f"channels must be a multiple of {GROUP}, and the size even"
        return None

    @property
    def input_shapes(self) -> Shapes:
        half = self.size // 2
        return {
            "x": (self.batch, half, half, self.channels),
            "skip": (self.batch, self.size, self.size, self.channels),
            "time": (self.batch, 4 * self.channels),
        }

    @property
    def parameters(self) -> Shapes:
        one, two = self.channels, 2 * self.channels
        return {
            **{"up": (3, 3, one, one), "up_bias": (one,)},
            **self._norm("first_norm", two),
            **{"first": (3, 3, two, one), "first_bias": (one,)},
            **self._linear("embed", 4 * one, one),
            **self._norm("second_norm", one),
            **{"second": (3, 3, one, one), "second_bias": (one,)},
            **self._linear("shortcut", two, one),
        }

    @property
    def multiply_adds(self) -> int:
        pixels = self.batch * self.size**2
        return (pixels * (9 * 4 + 2) + 4 * self.batch) * self.channels**2
