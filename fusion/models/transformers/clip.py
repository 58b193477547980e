"""CLIP: fuseproof.workloads.models.clip. Dropout is 0."""

from __future__ import annotations

from torch import nn

from fuseproof.fusion.models.transformers.parts import OfPairs, library


def clip(*, length: int, size: int, base: bool) -> nn.Module:
    transformers = library()
    text = {
        **{"vocab_size": 1024, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "max_position_embeddings": length},
    }
    vision = {
        **{"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 4},
        "patch_size": 8,
    }
    ends = {"bos_token_id": None, "eos_token_id": 2}  # a text's features are those of its largest number
    config = transformers.CLIPConfig(
        text_config={**({} if base else text), **ends, "attention_dropout": 0.0},
        vision_config={**({} if base else vision), "image_size": size, "attention_dropout": 0.0},
        projection_dim=512 if base else 128,
    )
    return OfPairs(transformers.CLIPModel(config))
