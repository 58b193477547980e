"""The basic residual block of a ResNet: two convolutions with batch norm (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes

STATISTICS = ("first_mean", "first_variance", "second_mean", "second_variance")


class ConvResidual(NetworkBlock):
    """y = silu(norm₂(conv₂(silu(norm₁(conv₁(x))))) + x) with convolutions of 3 × 3.

    x: (batch, size, size, channels). Batch norm by the statistics of the batch, as in training; `frozen`: by
    means and variances that are inputs, as in inference. SiLU where He et al. have ReLU, whose kink makes a
    wrong gradient of a rounding error: with ReLU one draw in ten would fail in float32, and all in bfloat16.
    """

    name: ClassVar[str] = "conv_residual"
    label_example: ClassVar[str] = "2x28x64[_frozen] (batch x size x channels)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x28x64_frozen",
        "cpu-large": "32x14x64_frozen",
        "cpu-training": "4x14x64",
        "gpu-single": "1x56x64_frozen",
        "gpu-large": "64x56x64_frozen",
        "gpu-training": "32x56x64",
    }

    batch: int
    size: int
    channels: int
    frozen: bool = False

    @property
    def input_shapes(self) -> Shapes:
        x = (self.batch, self.size, self.size, self.channels)
        return {"x": x} | (dict.fromkeys(STATISTICS, (self.channels,)) if self.frozen else {})

    @property
    def parameters(self) -> Shapes:
        found: Shapes = {}
        for place in ("first", "second"):
            found[place] = (3, 3, self.channels, self.channels)
            found |= self._norm(place, self.channels)
        return found

    @property
    def multiply_adds(self) -> int:
        return 2 * self.batch * self.size**2 * 9 * self.channels**2

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        if name.endswith("_variance"):
            return generator.uniform(0.5, 2.0, shape).astype(np.float32)
        values = super().draw(name, shape, generator)
        return np.float32(0.2) * values if name.endswith("_mean") else values
