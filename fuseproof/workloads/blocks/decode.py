"""Decoding: 32 tokens one after the other through a decoder block with a static cache of keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.blocks.base import NetworkBlock, Shapes, angles, misfit_of_heads
from fuseproof.workloads.blocks.decoder_block import decoder_parameters

TOKENS = 32


class Decode(NetworkBlock):
    """yₜ = rms_norm(block(xₜ)) for t = 0 … 31, one after the other: the block, that of `decoder_block`,
    writes keys and values into place `prompt` + t of the cache and attends to all places up to it.

    x: (batch, 32, hidden); keys, values: (batch, key_value_heads, prompt + 32, head_dim), of which the first
    `prompt` places count; cos, sin: (32, head_dim / 2). The tokens are given, as where a text is scored:
    choosing the next would make another token of a rounding error, and feeding results back multiplied errors
    by eight in 32 steps. Inference only. Source of the static cache: https://arxiv.org/abs/2211.05102.
    """

    name: ClassVar[str] = "decode"
    label_example: ClassVar[str] = "1x8x16x4x2x24 (batch x prompt x hidden x heads x kv x inner)"
    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu-single": "1x64x256x8x2x688",
        "cpu-large": "32x16x256x8x2x688",
        "gpu-single": "1x512x2048x16x4x5632",
        "gpu-large": "32x512x2048x16x4x5632",
    }
    passes: ClassVar[tuple[str, ...]] = ("inference",)

    batch: int
    prompt: int
    hidden: int
    heads: int
    key_value_heads: int
    inner: int

    @property
    def misfit(self) -> str | None:
        return misfit_of_heads(self.hidden, self.heads, self.key_value_heads, halves=True)

    @property
    def input_shapes(self) -> Shapes:
        cache = (self.batch, self.key_value_heads, self.prompt + TOKENS, self.head_dim)
        table = (TOKENS, self.head_dim // 2)
        return {
            "x": (self.batch, TOKENS, self.hidden),
            "keys": cache,
            "values": cache,
            "cos": table,
            "sin": table,
        }

    @property
    def parameters(self) -> Shapes:
        block = decoder_parameters(self.hidden, self.key_value_heads * self.head_dim, self.inner)
        return block | {"final_norm_scale": (self.hidden,)}

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def multiply_adds(self) -> int:
        shared = self.key_value_heads * self.head_dim
        weights = self.hidden * (2 * self.hidden + 2 * shared + 3 * self.inner)
        attention = 2 * self.hidden * sum(range(self.prompt + 1, self.prompt + TOKENS + 1))
        return self.batch * (TOKENS * weights + attention)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        if name in ("cos", "sin"):
            return angles(name, shape, generator)
        return super().draw(name, shape, generator)
