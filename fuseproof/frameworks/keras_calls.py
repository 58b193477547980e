"""Layers and models of Keras 3 made of a target, called and trained: what is the same on every framework.

Which framework Keras runs on is decided when it is imported, so a process has one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fuseproof.child_process import PlainError
from fuseproof.frameworks import Bound, calling
from fuseproof.workloads.modules import EPSILON


@contextlib.contextmanager
def making(dtype: str, *, on: str) -> Iterator[None]:
    """Within, layers get weights of the dtype and the same initial values in every process.

    on: Keras's backend. Raises NotImplementedError for Keras on another framework.
    """
    import keras

    if keras.backend.backend() != on:
        raise NotImplementedError(
            f"Keras runs on {keras.backend.backend()} here; set the environment variable KERAS_BACKEND={on}, "
            "and measure what runs on another framework in another run"
        )
    own = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        keras.utils.set_random_seed(0)
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
        decay, epsilon = float(given.get("weight_decay", 0.01)), float(given.get("epsilon", EPSILON))
        return keras.optimizers.AdamW(rate, weight_decay=decay, epsilon=epsilon)
    raise PlainError(f"unknown optimizer {given['name']!r}; there are adamw, sgd")
