"""Models of sound: fuseproof.workloads.models.audio. Dropout is 0."""

from __future__ import annotations

from torch import nn

from fuseproof.fusion.models.transformers.parts import OfSound, library


def whisper_encoder(*, frames: int, base: bool) -> nn.Module:
    transformers = library()
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    small = {"d_model": 256, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 1024}
    config = transformers.WhisperConfig(
        **({} if base else small), max_source_positions=frames // 2,
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, encoder_layerdrop=0.0,
    )  # fmt: skip
    return OfSound(WhisperEncoder(config))
