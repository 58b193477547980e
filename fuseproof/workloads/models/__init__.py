"""Whole models, whose parameters their own library makes: what `claims-models` measures."""

from __future__ import annotations

from collections.abc import Mapping

from fuseproof.workloads.models.audio import WhisperEncoder
from fuseproof.workloads.models.base import Model
from fuseproof.workloads.models.clip import Clip
from fuseproof.workloads.models.images import ConvNext, ResNet, Swin, Vit
from fuseproof.workloads.models.lengths import BertLengths
from fuseproof.workloads.models.small_gpt import SmallGpt
from fuseproof.workloads.models.text import T5, Bert, DistilBert, Gpt2, Llama, Mamba2, Qwen3

_ALL: tuple[type[Model], ...] = (
    SmallGpt,
    *(Bert, DistilBert, Gpt2, Llama, Qwen3, Mamba2, T5),
    *(Vit, Swin, ConvNext, ResNet),
    *(WhisperEncoder, Clip),
    BertLengths,
)
MODELS: Mapping[str, type[Model]] = {each.name: each for each in _ALL}
