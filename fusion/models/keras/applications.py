"""Models of `keras.applications` with random weights, on the framework that Keras runs on.

The functions take the fields of their workloads in fuseproof.workloads.models.keras_applications. Dropout is
off: what it draws would differ from framework to framework. Classes are scores, without the softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

# Of a layer scale in a trained network. Keras begins with 1e-6, with which a block does next to nothing, and
# so does its gradient: a wrong one would not show.
_LAYER_SCALE = 0.1


def resnet50(size: int) -> keras.Model:
    return _made(keras.applications.ResNet50, size)


def mobilenet_v3_small(size: int) -> keras.Model:
    return _made(keras.applications.MobileNetV3Small, size, dropout_rate=0.0)


def efficientnet_b0(size: int) -> keras.Model:
    return _made(keras.applications.EfficientNetB0, size)


def convnext_tiny(size: int) -> keras.Model:
    model = _made(keras.applications.ConvNeXtTiny, size)
    for layer in _layers(model, "LayerScale"):
        layer.gamma.assign(keras.ops.full(layer.gamma.shape, _LAYER_SCALE))
    return model


def _made(application: Callable[..., Any], size: int, **more: Any) -> keras.Model:
    """size: height and width of the images, 32 at least."""
    given = {"weights": None, "input_shape": (size, size, 3), "classifier_activation": None, **more}
    if keras.backend.backend() == "jax":
        model = _without_compiling(lambda: application(**given))
    else:
        model = application(**given)
    for layer in _layers(model, "Dropout"):
        layer.rate = 0.0
    return model


def _layers(model: keras.Model, kind: str) -> list[Any]:
    return [each for each in model.layers if type(each).__name__ == kind]


def _without_compiling(make: Callable[[], keras.Model]) -> keras.Model:
    """The model, its trained weights zeros: they are given to it, and JAX would compile a program for each
    shape to draw some (16 s for MobileNetV3). Statistics have their own initial values.
    """
    with keras.StatelessScope():  # in which initial values are made at the end
        model = make()
        for variable in model.trainable_variables:
            variable._initializer = keras.initializers.Zeros()
    return model
