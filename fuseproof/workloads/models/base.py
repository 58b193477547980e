"""What every model says of itself: its inputs, its two sizes, and which package it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.modules import Module
from fuseproof.workloads.operators.base import standard_normal

# Words that a small model knows: redrawing a larger table of them would take longer than a call.
SMALL_VOCABULARY = 1024
PIXELS = 3


class Model(Module):
    """A whole model with random parameters, at one batch and one length or size of image.

    batch:      texts, images or sounds of a call.
    base:       a configuration that is in use, instead of the small one.
    bfloat16:   calls are under autocast; parameters are float32.
    vocabulary: words of the configuration in use.
    """

    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    reference_by: ClassVar[str] = "torch.eager"
    requires: ClassVar[str] = "transformers"
    vocabulary: ClassVar[int] = 0

    @property
    def autocast(self) -> str:
        return "bfloat16" if self.options["bfloat16"] else ""

    def tokens(self, generator: np.random.Generator, batch: int, length: int) -> NDArray[np.int64]:
        """Words by their numbers, (batch, length), each as likely as any other."""
        known = self.vocabulary if self.options["base"] else SMALL_VOCABULARY
        return generator.integers(known, size=(batch, length))


class TextModel(Model):
    """tokens: (batch, length). Gives logits, (batch, length, vocabulary); the loss is their cross entropy."""

    named_shapes: ClassVar[Mapping[str, str]] = {"cpu": "batch1_length64", "gpu": "batch1_length128_base"}

    batch: int
    length: int
    base: bool = False
    bfloat16: bool = False

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        return {"tokens": self.tokens(generator, self.batch, self.length)}


class ImageModel(Model):
    """pixels: (batch, 3, size, size). Gives logits, (batch, classes); the loss is their mean squared distance
    to targets that are drawn.
    """

    named_shapes: ClassVar[Mapping[str, str]] = {"cpu": "batch1_size64", "gpu": "batch1_size224_base"}

    batch: int
    size: int
    base: bool = False
    bfloat16: bool = False

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        return {"pixels": standard_normal((self.batch, PIXELS, self.size, self.size), generator)}
