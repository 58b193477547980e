"""The rows of models that come with Keras: a function makes one on each framework that Keras runs on."""

from __future__ import annotations

from collections.abc import Iterable

from fuseproof.implementations.implementation import Implementation
from fuseproof.implementations.rows import runtime_rows

_MADE_BY = {
    "keras_resnet50": "resnet50",
    "keras_mobilenet_v3": "mobilenet_v3_small",
    "keras_efficientnet": "efficientnet_b0",
    "keras_convnext": "convnext_tiny",
}
# Eager, JAX compiles each operation of a model for each shape: minutes before the first call.
_ROWS = (
    ("keras.eager", "tensorflow", None),
    ("keras.function", "tensorflow", "function"),
    ("keras.xla", "tensorflow", "xla"),
    ("keras.jit", "jax", "jit"),
)


def of_keras_models() -> Iterable[Implementation]:
    """Keras on TensorFlow, as it is, compiled and exported, and on JAX; all are compared with the first."""
    for model, function in _MADE_BY.items():
        target = f"fuseproof.fusion.models.keras.applications:{function}"
        for name, framework, compiled in _ROWS:
            yield Implementation(
                model,
                name,
                framework=framework,
                target=target,
                compiled=compiled,
                baseline="keras.eager",
                dtypes=("float32",),
            )
        yield from runtime_rows(model, "tensorflow", target, baseline="keras.eager")
