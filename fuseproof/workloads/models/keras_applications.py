"""Models of images that come with Keras 3, `keras.applications`, with random weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from fuseproof.workloads.modules import Module
from fuseproof.workloads.operators.base import standard_normal

_CHANNELS = 3


class KerasApplication(Module):
    """images: (batch, size, size, 3). Gives scores, (batch, 1000); the loss is their mean squared distance to
    targets that are drawn.

    What is right is Keras on TensorFlow, eager and in float64: Keras computes everything in the dtype of its
    policy. It is the code of the rows on TensorFlow, so a mistake of Keras's own would not show there.

    pixels: images are whole numbers from 0 to 255, which the model scales itself; else standard normal.
    """

    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    reference_by: ClassVar[str] = "keras.eager"
    requires: ClassVar[str] = "keras"
    named_shapes: ClassVar[Mapping[str, str]] = {"cpu": "batch1_size64", "gpu": "batch1_size224"}
    pixels: ClassVar[bool] = True

    batch: int
    size: int

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        shape = (self.batch, self.size, self.size, _CHANNELS)
        if self.pixels:
            return {"images": generator.integers(256, size=shape).astype(np.float64)}
        return {"images": standard_normal(shape, generator)}


class ResNet50(KerasApplication):
    """ResNet-50 (He et al. 2016): 25.6 million parameters."""

    name: ClassVar[str] = "keras_resnet50"
    pixels: ClassVar[bool] = False


class MobileNetV3(KerasApplication):
    """MobileNetV3-Small (Howard et al. 2019): 2.6 million parameters."""

    name: ClassVar[str] = "keras_mobilenet_v3"


class EfficientNet(KerasApplication):
    """EfficientNet-B0 (Tan and Le 2019): 5.3 million parameters."""

    name: ClassVar[str] = "keras_efficientnet"


class ConvNeXt(KerasApplication):
    """ConvNeXt-Tiny (Liu et al. 2022): 28.6 million parameters."""

    name: ClassVar[str] = "keras_convnext"


KERAS_APPLICATIONS: tuple[type[KerasApplication], ...] = (ResNet50, MobileNetV3, EfficientNet, ConvNeXt)
# What a population has at batch 1, and at a larger one. It trains none: gradients can be checked of one
# model alone, and on two cores its step takes as long as all inference, most of it to compile.
_SINGLE = (ResNet50, EfficientNet, ConvNeXt)
_LARGER = (MobileNetV3,)


def cases(scale: str) -> tuple[str, ...]:
    """Names of the cases that the population `claims-models` has of these models."""
    single = _named(_SINGLE, scale, "inference", batch=1)
    return (*single, *_named(_LARGER, scale, "inference", batch=32))


def _named(models: Iterable[type[KerasApplication]], scale: str, pass_: str, *, batch: int) -> Iterable[str]:
    for model in models:
        shape = replace(model.from_label(model.named_shapes[scale]), batch=batch)
        yield f"{shape.name}[{shape.label}-float32-{pass_}]"
