"""Operators whose shape is a few extents and what is true of it: `1024x768_residual`."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from fuseproof.workloads import labels
from fuseproof.workloads.operators.base import Operator


class Extents(Operator):
    """One whose fields are whole numbers, in its label joined by `x`, then truths, named where they hold."""

    label_pattern: ClassVar[re.Pattern[str]] = re.compile("")  # of a subclass: made of its fields

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        cls.label_pattern = labels.short_pattern(cls)

    @property
    def label(self) -> str:
        return labels.short(self)

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> Self:
        return cls(**labels.short_fields(cls, match))
