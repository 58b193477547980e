"""Layers and models of Keras 3 made of a target, called and trained: what is the same on every framework.

Which framework Keras runs on is decided when it is imported, so a process has one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fuseproof.child_process import PlainError
from fuseproof.frameworks import Bound, calling, keras_layers

# As in PyTorch and Optax; Keras's own default is ten times as much.
_EPSILON = 1e-8


def make(
    target: Any, fields: Mapping[str, object], dtype: str, build: Callable[[Any], None], *, on: str
) -> Any:
    """The layer or model that a target is or makes, with weights of the dtype.

    build: called with it, makes the weights that it makes when it is first called. on: Keras's backend.
    Raises PlainError for a target that is and makes none, NotImplementedError for Keras on another framework.
    """
    import keras

    if keras.backend.backend() != on:
        raise NotImplementedError(
            f"Keras runs on {keras.backend.backend()} here; set the environment variable KERAS_BACKEND={on}, "
            "and measure what runs on another framework in another run"
        )
    with _dtype_policy(dtype):
        keras.utils.set_random_seed(0)  # the same initial weights in every process
        layer = calling.made(target, fields, lambda given: isinstance(given, keras.Layer), "a keras.Layer")
        if layer is target:  # what one case makes of it must not meet the next
            return keras_layers.again(keras_layers.Description.of(layer), dtype, build)
        build(layer)
    return layer


@contextlib.contextmanager
def _dtype_policy(dtype: str) -> Iterator[None]:
    import keras

    own = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(own)


class Call:
    """How a layer is called with arguments by name: by position, as its users do."""

    def __init__(self, layer: Any, names: Sequence[str]) -> None:
        self._layer = layer
        self._taken = calling.by_position(layer.call, names)
        self._in_one = len(names) > 1 and takes_all_in_one(layer)

    def bound(self, arguments: Mapping[str, Any], *, training: bool) -> Bound:
        if self._in_one:
            return functools.partial(self._layer, dict(arguments), training=training)
        return calling.bound(self._layer, self._taken, arguments, {"training": training})

    def __call__(self, arguments: Mapping[str, Any], *, training: bool) -> Any:
        return self.bound(arguments, training=training)()


def takes_all_in_one(layer: Any) -> bool:
    """Whether all inputs are one argument: a functional model of several inputs takes a dictionary."""
    return len(getattr(layer, "inputs", None) or ()) > 1


def optimizer(given: Mapping[str, Any]) -> Any:
    """Keras's optimizer. Raises PlainError for one that there is not."""
    import keras

    rate = float(given["learning_rate"])
    if given["name"] == "sgd":
        return keras.optimizers.SGD(rate)
    if given["name"] == "adamw":
        decay = float(given.get("weight_decay", 0.01))
        return keras.optimizers.AdamW(rate, weight_decay=decay, epsilon=_EPSILON)
    raise PlainError(f"unknown optimizer {given['name']!r}; there are adamw, sgd")
