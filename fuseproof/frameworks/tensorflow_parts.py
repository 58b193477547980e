"""What a module of TensorFlow is made of: variables by name, and how it is called.

A module is a layer or model of Keras 3, or a tf.Module with variables of its own. To add another kind: what
tells it from the others in `is_module`, and its parts in `of`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from fuseproof.child_process import PlainError
from fuseproof.frameworks import Bound, calling, keras_calls, keras_layers

WANTED = "a keras.Layer or a tf.Module"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The variables of a module, which a training step changes in place.

    parameters: by name, those that are trained, as the optimizer takes them.
    buffers:  by name; a call in training mode may change them.
    counts:   of random numbers drawn.
    bound:    a call with arguments by name, in training mode or not.
    losses:   after a call in training mode, what is added to the loss, such as regularizers do.
    """

    parameters: Mapping[str, Any]
    buffers: Mapping[str, Any]
    counts: Sequence[Any] = ()
    bound: Callable[[Mapping[str, Any], bool], Bound]
    losses: Callable[[], Sequence[Any]] = field(default=list)


def is_module(given: Any) -> bool:
    return isinstance(given, tf.keras.Layer | tf.Module)


def held(variable: Any) -> Any:
    """The tf.Variable in a variable of Keras, or itself."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def of(module: Any, names: Sequence[str]) -> Parts:
    """The parts of a module that is called with the inputs `names`."""
    return _of_layer(module, names) if isinstance(module, tf.keras.Layer) else _of_variables(module, names)


def _of_layer(layer: Any, names: Sequence[str]) -> Parts:
    call = keras_calls.Call(layer, names)
    found = keras_layers.weights(layer)
    return Parts(
        parameters={name: each for name, each in found.items() if each.trainable},
        buffers={name: each for name, each in found.items() if not each.trainable},
        counts=[each for each in layer.variables if each.name == "seed_generator_state"],
        bound=lambda arguments, training: call.bound(arguments, training=training),
        losses=lambda: layer.losses,
    )


def _of_variables(module: Any, names: Sequence[str]) -> Parts:
    call = type(module).__call__
    taken = calling.by_position(functools.partial(call, module), names)
    modal = "training" in inspect.signature(call).parameters

    def bound(arguments: Mapping[str, Any], training: bool) -> Bound:
        return calling.bound(module, taken, arguments, {"training": training} if modal else {})

    # By attributes and places, `layers.0.w`, as PyTorch names them.
    walked = module._flatten(predicate=lambda leaf: isinstance(leaf, tf.Variable), with_path=True)
    found = {".".join(map(str, path)): variable for path, variable in walked}
    return Parts(
        parameters={name: each for name, each in found.items() if each.trainable},
        buffers={name: each for name, each in found.items() if not each.trainable},
        bound=bound,
    )


def in_dtype(dtype: str) -> Any:
    """A scope in which a tf.Variable of real numbers has this dtype, unless it is made with one."""

    def create(following: Callable[..., Any], **given: Any) -> Any:
        values = given.get("initial_value")
        if given.get("dtype") is None and not callable(values):
            values = np.asarray(values)
            if values.dtype.kind == "f":
                given |= {"dtype": dtype, "initial_value": tf.cast(values, dtype)}
        return following(**given)

    return tf.variable_creator_scope(create)


def refuse_made(module: Any) -> None:
    """Raise PlainError for a tf.Module that is there already: nobody could make it again in another dtype."""
    if not isinstance(module, tf.keras.Layer):
        raise PlainError(
            "a tf.Module must be made anew for each case; give its class or a function that makes it"
        )
