"""A transformer decoder block as Llama has it (Touvron et al. 2023; Grattafiori et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes, angles, misfit_of_heads


class DecoderBlock(NetworkBlock):
    """a = x + attention(rotary(rms_norm(x))) out; y = a + (silu(n gate) · (n up)) down with n = rms_norm(a).

    x: (batch, length, hidden); cos, sin: (length, head_dim / 2). Causal, with `heads` query heads that share
    `key_value_heads` heads of keys and values (Ainslie et al. 2023); no biases.
    """

    name: ClassVar[str] = "decoder_block"
    label_example: ClassVar[str] = "2x8x16x4x2x24 (batch x length x hidden x heads x kv x inner)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x128x256x8x2x688",
        "cpu-large": "32x16x256x8x2x688",
        "cpu-training": "4x32x256x8x2x688",
        "gpu-single": "1x1024x2048x16x4x5632",
        "gpu-large": "32x64x2048x16x4x5632",
        "gpu-training": "2x512x2048x16x4x5632",
    }

    batch: int
    length: int
    hidden: int
    heads: int
    key_value_heads: int
    inner: int

    @property
    def misfit(self) -> str | None:
        return misfit_of_heads(self.hidden, self.heads, self.key_value_heads, halves=True)

    @property
    def input_shapes(self) -> Shapes:
        table = (self.length, self.head_dim // 2)
        return {"x": (self.batch, self.length, self.hidden), "cos": table, "sin": table}

    @property
    def parameters(self) -> Shapes:
        return decoder_parameters(self.hidden, self.key_value_heads * self.head_dim, self.inner)

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def multiply_adds(self) -> int:
        tokens, shared = self.batch * self.length, self.key_value_heads * self.head_dim
        weights = self.hidden * (2 * self.hidden + 2 * shared + 3 * self.inner)
        return tokens * weights + tokens * self.length * self.hidden  # half of the scores are masked

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        if name in ("cos", "sin"):
            return angles(name, shape, generator)
        return super().draw(name, shape, generator)


def decoder_parameters(hidden: int, shared: int, inner: int) -> Shapes:
    """Of a block whose keys, and whose values, are `shared` wide."""
    return {
        "attention_norm_scale": (hidden,),
        "query": (hidden, hidden),
        "key": (hidden, shared),
        "value": (hidden, shared),
        "out": (hidden, hidden),
        "mlp_norm_scale": (hidden,),
        "gate": (hidden, inner),
        "up": (hidden, inner),
        "down": (inner, hidden),
    }
