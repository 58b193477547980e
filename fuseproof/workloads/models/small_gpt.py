"""A small GPT of PyTorch's own layers: a whole model that needs no package beside the framework."""

from __future__ import annotations

from typing import ClassVar

from fuseproof.workloads.models.base import TextModel


class SmallGpt(TextModel):
    """Two decoder layers of width 128 and a head, norm first, as in GPT-2; tokens: (batch, length).

    base: twelve layers of width 768, with GPT-2's vocabulary.
    """

    requires: ClassVar[str] = ""
    vocabulary: ClassVar[int] = 50257
