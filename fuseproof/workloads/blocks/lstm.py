"""Two layers of LSTM (Hochreiter and Schmidhuber 1997), as PyTorch and cuDNN define it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes

LAYERS = 2


class LSTM(NetworkBlock):
    """(i, f, g, o) = input xₜ + input_bias + hidden hₜ₋₁ + hidden_bias; cₜ = σ(f) cₜ₋₁ + σ(i) tanh(g);
    hₜ = σ(o) tanh(cₜ), from zeros; the second layer takes the first one's h. Returns the second one's.

    x: (batch, length, hidden). Weights are (4 hidden, hidden), output first, as the library call has them.
    """

    name: ClassVar[str] = "lstm"
    label_example: ClassVar[str] = "8x32x128 (batch x length x hidden)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x32x128",
        "cpu-large": "32x16x128",
        "cpu-training": "8x16x128",
        "gpu-single": "1x64x512",
        "gpu-large": "256x64x512",
        "gpu-training": "64x64x512",
    }

    batch: int
    length: int
    hidden: int

    @property
    def input_shapes(self) -> Shapes:
        return {"x": (self.batch, self.length, self.hidden)}

    @property
    def parameters(self) -> Shapes:
        found: Shapes = {}
        for layer in range(LAYERS):
            for name in ("input", "hidden"):
                found[f"{name}_{layer}"] = (4 * self.hidden, self.hidden)
                found[f"{name}_{layer}_bias"] = (4 * self.hidden,)
        return found

    @property
    def multiply_adds(self) -> int:
        return LAYERS * self.batch * self.length * 8 * self.hidden**2

    def fan_in(self, parameter: str) -> int:
        return self.hidden
