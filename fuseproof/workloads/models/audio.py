"""Models of sound, from transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fuseproof.workloads.models.base import Model
from fuseproof.workloads.operators.base import standard_normal

MELS = 80


class WhisperEncoder(Model):
    """The encoder of Whisper (Radford et al. 2023).

    spectrogram: (batch, 80, frames), an even number of frames. Gives (batch, frames / 2, hidden); the loss is
    the mean squared distance to targets that are drawn.
    """

    named_shapes: ClassVar[Mapping[str, str]] = {"cpu": "batch1_frames128", "gpu": "batch1_frames3000_base"}

    batch: int
    frames: int
    base: bool = False
    bfloat16: bool = False

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        return {"spectrogram": standard_normal((self.batch, MELS, self.frames), generator)}
