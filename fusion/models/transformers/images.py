"""Models of images: fuseproof.workloads.models.images. Dropout is 0; a small model knows 100 classes."""

from __future__ import annotations

from typing import Any

from torch import nn

from fuseproof.fusion.models.transformers.parts import OfImages, library

_CLASSES = {False: 100, True: 1000}  # small; in use


def vit(*, size: int, base: bool) -> nn.Module:
    transformers = library()
    small = {
        **{"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1024},
        "patch_size": 8,
    }
    config = transformers.ViTConfig(
        **({} if base else small), image_size=size, num_labels=_CLASSES[base],
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return OfImages(transformers.ViTForImageClassification(config))


def swin(*, size: int, base: bool) -> nn.Module:
    transformers = library()
    small = {"embed_dim": 64, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
    config = transformers.SwinConfig(
        **({} if base else small), image_size=size, num_labels=_CLASSES[base],
        drop_path_rate=0.0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return OfImages(transformers.SwinForImageClassification(config))


def convnext(*, size: int, base: bool) -> nn.Module:
    transformers = library()
    small = {"hidden_sizes": [48, 96, 192], "depths": [1, 1, 2], "num_stages": 3}
    config = transformers.ConvNextConfig(
        **({} if base else small), image_size=size, num_labels=_CLASSES[base], drop_path_rate=0.0
    )
    return OfImages(transformers.ConvNextForImageClassification(config))


def resnet(*, base: bool) -> nn.Module:
    """SiLU and a mean, not ReLU and a maximum: at a kink a rounding error flips a gradient."""
    transformers = library()
    small: dict[str, Any] = {"embedding_size": 32, "hidden_sizes": [64, 128, 256], "depths": [1, 1, 1]}
    config = transformers.ResNetConfig(
        **({} if base else small), hidden_act="silu", num_labels=_CLASSES[base]
    )
    model = transformers.ResNetForImageClassification(config)
    for layer in model.modules():  # those within a bottleneck are ReLU whatever the configuration says
        if isinstance(getattr(layer, "activation", None), nn.ReLU):
            layer.activation = nn.SiLU()
    model.resnet.embedder.pooler = nn.AvgPool2d(kernel_size=3, stride=2, padding=1)
    return OfImages(model)
