"""The library, offline, and what is around each of its models: one result out, and a loss in training."""

from __future__ import annotations

import os
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def library() -> Any:
    """transformers, which is told before it is imported that it may fetch nothing."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.logging.set_verbosity_error()  # it tells of packages that only GPUs have
    return transformers


class OfText(nn.Module):  # type: ignore[misc]
    """Logits of a model of text; in training their cross entropy with the words.

    shifted: each word is told from those before it, else from all.
    """

    def __init__(self, model: nn.Module, *, shifted: bool = False) -> None:
        super().__init__()
        self.model = model
        self.shifted = shifted

    def forward(self, tokens: Tensor) -> Tensor | dict[str, Tensor]:
        logits = self.logits(tokens)
        if not self.training:
            return logits
        if self.shifted:
            logits, tokens = logits[:, :-1], tokens[:, 1:]
        # Not the library's own loss, which is float32 in the reference too.
        return {"loss": F.cross_entropy(logits.flatten(0, 1), tokens.flatten())}

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens).logits


class OfTextTwice(OfText):
    """The same of a model with an encoder and a decoder, which read the same words."""

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens, decoder_input_ids=tokens).logits


class OfStates(OfText):
    """The same of Mamba-2, whose own logits are float32 in the reference too."""

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model.lm_head(self.model.backbone(tokens).last_hidden_state)


class OfImages(nn.Module):  # type: ignore[misc]
    """Logits of a model of images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).logits


class OfSound(nn.Module):  # type: ignore[misc]
    """What an encoder makes of a spectrogram."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectrogram: Tensor) -> Tensor:
        return self.model(spectrogram).last_hidden_state


class OfPairs(nn.Module):  # type: ignore[misc]
    """The features of texts and of images in the space that they share."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, pixels: Tensor) -> Any:
        found = self.model(input_ids=tokens, pixel_values=pixels)
        return {"texts": found.text_embeds, "images": found.image_embeds}
