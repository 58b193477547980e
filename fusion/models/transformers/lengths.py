"""BERT for texts of several lengths: fuseproof.workloads.models.lengths. Parameters have the same names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fuseproof.fusion.models.transformers.text import bert_model


class OfLengths(nn.Module):  # type: ignore[misc]
    """Logits of each text, by its length."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {length: self.logits(tokens) for length, tokens in texts.items()}

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens).logits


class Padded(OfLengths):
    """The same with each text padded to the longest and the padding masked: compiled for one length."""

    def __init__(self, model: nn.Module, longest: int) -> None:
        super().__init__(model)
        self.longest = longest
        # A function of its own: what Dynamo learns of lengths belongs to the function that it compiles.
        self.compiled = torch.compile(self.masked)

    def logits(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        padding = (0, self.longest - length)
        mask = F.pad(torch.ones_like(tokens), padding)
        return self.compiled(F.pad(tokens, padding), mask)[:, :length]

    def masked(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=tokens, attention_mask=mask).logits


def eager(*, longest: int, base: bool) -> nn.Module:
    return OfLengths(bert_model(length=longest, base=base))


def compiled(*, longest: int, base: bool) -> nn.Module:
    """The model compiled as its users do, and called with one length after the other."""
    module = eager(longest=longest, base=base)
    module.model.compile()  # in place, so that the parameters keep their names
    return module


def compiled_padded(*, longest: int, base: bool) -> nn.Module:
    return Padded(bert_model(length=longest, base=base), longest)
