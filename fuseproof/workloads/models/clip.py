"""CLIP, from transformers: images and texts in one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fuseproof.workloads.models.base import PIXELS, Model
from fuseproof.workloads.operators.base import standard_normal


class Clip(Model):
    """CLIP (Radford et al. 2021).

    tokens: (batch, length). pixels: (batch, 3, size, size). Gives the features of both; the loss is the mean
    squared distance to targets that are drawn.
    """

    named_shapes: ClassVar[Mapping[str, str]] = {
        "cpu": "batch1_length16_size64",
        "gpu": "batch1_length77_size224_base",
    }
    vocabulary: ClassVar[int] = 49408

    batch: int
    length: int
    size: int
    base: bool = False
    bfloat16: bool = False

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        return {
            "tokens": self.tokens(generator, self.batch, self.length),
            "pixels": standard_normal((self.batch, PIXELS, self.size, self.size), generator),
        }
