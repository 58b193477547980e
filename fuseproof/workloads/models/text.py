"""Models of text, from transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fuseproof.workloads.models.base import TextModel


class Bert(TextModel):
    """BERT with its head for masked words (Devlin et al. 2019)."""

    vocabulary: ClassVar[int] = 30522


class DistilBert(TextModel):
    """DistilBERT with its head for masked words (Sanh et al. 2019)."""

    name: ClassVar[str] = "distilbert"
    vocabulary: ClassVar[int] = 30522


class Gpt2(TextModel):
    """GPT-2 (Radford et al. 2019)."""

    vocabulary: ClassVar[int] = 50257


class Llama(TextModel):
    """Llama (Touvron et al. 2023): RMS norm, rotary positions, grouped heads, SwiGLU."""

    vocabulary: ClassVar[int] = 49152


class Qwen3(TextModel):
    """Qwen3 (Yang et al. 2025): as Llama, with norms of queries and keys."""

    vocabulary: ClassVar[int] = 32768


class Mamba2(TextModel):
    """Mamba-2 (Dao and Gu 2024): a state space model, computed in chunks without the CUDA kernels."""

    vocabulary: ClassVar[int] = 50288


class T5(TextModel):
    """T5 1.1 (Raffel et al. 2020): an encoder and a decoder, which read the same tokens."""

    name: ClassVar[str] = "t5"
    named_shapes: ClassVar[Mapping[str, str]] = {"cpu": "batch1_length32", "gpu": "batch1_length128_base"}
    vocabulary: ClassVar[int] = 32128
