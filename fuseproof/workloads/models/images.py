"""Models of images, from transformers."""

from __future__ import annotations

from fuseproof.workloads.models.base import ImageModel


class Vit(ImageModel):
    """ViT, classifying (Dosovitskiy et al. 2021)."""


class Swin(ImageModel):
    """Swin, classifying, with shifted windows (Liu et al. 2021)."""


class ConvNext(ImageModel):
    """ConvNeXt, classifying (Liu et al. 2022)."""

    name = "convnext"


class ResNet(ImageModel):
    """ResNet, classifying, with batch norm (He et al. 2016)."""

    name = "resnet"
