"""BERT for texts of several lengths: fuseproof.workloads.models.lengths. Parameters have the same names."""

from __future__ import annotations

from collections.abc import Mapping

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
    """The same, each text padded to the longest, and what was put there masked."""

    def __init__(self, model: nn.Module, longest: int) -> None:
        super().__init__(model)
        self.longest = longest

    def logits(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        missing = self.longest - length
        mask = F.pad(tokens.new_ones(tokens.shape), (0, missing))
        found = self.model(input_ids=F.pad(tokens, (0, missing)), attention_mask=mask)
        return found.logits[:, :length]


def eager(*, longest: int, base: bool) -> nn.Module:
    return OfLengths(bert_model(length=longest, base=base))


def compiled(*, longest: int, base: bool) -> nn.Module:
    """The model compiled as its users do, and called with one length after the other."""
    module = eager(longest=longest, base=base)
    module.model.compile()  # in place, so that the parameters keep their names
    return module


def compiled_padded(*, longest: int, base: bool) -> nn.Module:
    """The model compiled for one length, to which every text is padded."""
    model = bert_model(length=longest, base=base)
    model.compile()
    return Padded(model, longest)
