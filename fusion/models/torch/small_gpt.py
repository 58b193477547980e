"""A small GPT: fuseproof.workloads.models.small_gpt. No dropout, and the head has weights of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def small_gpt(*, length: int, base: bool) -> nn.Module:
    return Gpt(length, words=50257, hidden=768, layers=12) if base else Gpt(length)


class Layer(nn.Module):  # type: ignore[misc]
    """x + attention(norm(x)), then the same with two products and GELU."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.heads = hidden // 64
        self.before_attention, self.before_mlp = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.transpose(1, 3).unbind(2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.before_mlp(x)), approximate="tanh"))


class Gpt(nn.Module):  # type: ignore[misc]
    """Logits, (batch, length, words); in training the cross entropy of each word with those before it."""

    def __init__(self, length: int, words: int = 1024, hidden: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, hidden), nn.Embedding(length, hidden)
        self.layers = nn.ModuleList(Layer(hidden) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(hidden), nn.Linear(hidden, words, bias=False)

    def forward(self, tokens: Tensor) -> Tensor | dict[str, Tensor]:
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x))
        if not self.training:
            return logits
        return {"loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())}
