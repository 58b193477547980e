"""The basic residual block of a ResNet: two convolutions with batch norm (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes


class ConvResidual(NetworkBlock):
    """y = silu(norm₂(conv₂(silu(norm₁(conv₁(x))))) + x) with convolutions of 3 × 3.

    x: (batch, size, size, channels). Batch norm by the statistics of the batch, as in training; `frozen`: by
    means and variances that are inputs, as in inference. SiLU where He et al. have ReLU, whose kink makes a
    wrong gradient of a rounding error: with ReLU one draw in ten would fail in float32, and all in bfloat16.
    """

    name: ClassVar[str] = "conv_residual"
    label_example: ClassVar[str] = "2x28x64[_frozen] (batch x size x channels)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu": "2x28x64",
        "cpu-frozen": "2x28x64_frozen",
        "gpu": "32x56x64",
        "gpu-frozen": "32x56x64_frozen",
    }

    batch: int
    size: int
    channels: int
    frozen: bool = False

    @property
    def activations(self) -> Shapes:
        return {"x": (self.batch, self.size, self.size, self.channels)}

    @property
    def parameters(self) -> Shapes:
        found: Shapes = {}
        for place in ("first", "second"):
            found[place] = (3, 3, self.channels, self.channels)
            found |= self._norm(place, self.channels)
            if self.frozen:
                found |= {f"{place}_mean": (self.channels,), f"{place}_variance": (self.channels,)}
        return found

    @property
    def differentiable(self) -> tuple[str, ...]:
        return tuple(name for name in super().differentiable if not name.endswith(("_mean", "_variance")))

    @property
    def options(self) -> dict[str, object]:
        return {"frozen": self.frozen}

    @property
    def multiply_adds(self) -> int:
        return 2 * self.batch * self.size**2 * 9 * self.channels**2

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        if name.endswith("_variance"):
            return generator.uniform(0.5, 2.0, shape).astype(np.float32)
        return super().draw(name, shape, generator)

    def fan_in(self, parameter: str) -> int:
        return 25 if parameter.endswith("_mean") else super().fan_in(parameter)
