"""One model called with texts of several lengths: what recompiling and padding cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fuseproof.workloads.models.base import Model

_EIGHTHS = (2, 3, 4, 6, 8)


class BertLengths(Model):
    """BERT called once for each of five lengths, from a quarter of the longest to all of it, in this order.

    tokens_L: (batch, L), one input for each length L. Gives the logits of each, (batch, L, vocabulary); the
    loss is the mean squared distance to targets that are drawn.
    """

    named_shapes: ClassVar[Mapping[str, str]] = {"cpu": "batch1_longest64", "gpu": "batch1_longest128_base"}
    vocabulary: ClassVar[int] = 30522

    batch: int
    longest: int
    base: bool = False
    bfloat16: bool = False

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(max(1, self.longest * eighths // 8) for eighths in _EIGHTHS))

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        return {"texts": {str(n): self.tokens(generator, self.batch, n) for n in self.lengths}}
