"""Modules of Keras 3 on TensorFlow: inference, and training steps with an optimizer of Keras.

A module holds its state in variables, which a step changes, as PyTorch's does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fuseproof.child_process import PlainError
from fuseproof.frameworks import Bound, Result, Step, WrongResultError, calling, keras_layers
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.runtimes import in_tensorflow
from fuseproof.workloads import trees
from fuseproof.workloads.described import PARAMETERS
from fuseproof.workloads.modules import State

Inputs = dict[str, Any]
# As in PyTorch and Optax; Keras's own default is ten times as much.
_EPSILON = 1e-8


def make(
    target: Any, fields: Mapping[str, object], dtype: str, example: Callable[[], Mapping[str, Any]]
) -> Any:
    """The layer or model that a target is or makes, with weights of the dtype, built with example arguments.

    Raises PlainError for a target that is and makes none, NotImplementedError for Keras on another framework.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise NotImplementedError(
            f"Keras runs on {keras.backend.backend()} here; set the environment variable "
            "KERAS_BACKEND=tensorflow"
        )
    own = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        keras.utils.set_random_seed(0)  # the same initial weights in every process
        layer = calling.made(target, fields, lambda given: isinstance(given, keras.Layer), "a keras.Layer")
        build = functools.partial(_build, example)
        if layer is target:  # what one case makes of it must not meet the next
            return keras_layers.again(keras_layers.Description.of(layer), dtype, build)
        build(layer)
    finally:
        keras.config.set_dtype_policy(own)
    return layer


def _build(example: Callable[[], Mapping[str, Any]], layer: Any) -> None:
    """Make the weights that a layer makes when it is first called."""
    arguments = example()
    _Call(layer, list(arguments))(arguments, training=False)


def initial_state(layer: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Parameters and buffers by name."""
    found = keras_layers.weights(layer)
    values = {name: np.asarray(tf.convert_to_tensor(each.value)) for name, each in found.items()}
    values = {
        name: each.astype(np.float32) if found[name].dtype == "bfloat16" else each
        for name, each in values.items()
    }
    trained = {name for name, each in found.items() if each.trainable}
    return (
        {name: each for name, each in values.items() if name in trained},
        {name: each for name, each in values.items() if name not in trained},
    )


def step(layer: Any, signature: Signature, state: State, pass_: str, compiled: str | None) -> Step:
    """The work of one call in a pass of modules.

    Raises PlainError for a layer whose parameters or buffers are not those of the reference.
    """
    if compiled not in (None, "function", "xla", *in_tensorflow.MODES):
        raise NotImplementedError(f"TensorFlow has no compile mode {compiled!r}; use 'function' or 'xla'")
    if pass_ == "inference":
        return _inference(layer, signature, state, compiled)
    return _training(layer, signature, state, compiled)


def _inference(layer: Any, signature: Signature, state: State, compiled: str | None) -> Step:
    kept, call = _Kept(layer, state, None), _Call(layer, list(signature.arguments))

    def infer(*tensors: Any) -> Any:
        return call(signature.filled(dict(zip(signature.tensors, tensors, strict=True))), training=False)

    if compiled in in_tensorflow.MODES:
        variables = [each.value for each in layer.variables]
        return in_tensorflow.step(infer, signature.tensors, compiled, variables=variables, ready=kept.load)
    called = _compiled(infer, signature.tensors, compiled)

    def bind(inputs: Inputs, _: Inputs) -> Bound:
        kept.load(inputs)
        if compiled is None:  # nothing hides how the layer is called
            return call.bound(signature.filled(inputs), training=False)
        return functools.partial(called, *(inputs[name] for name in signature.tensors))

    return Step(bind=bind, unpack=trees.results)


def _training(layer: Any, signature: Signature, state: State, compiled: str | None) -> Step:
    optimizer = _optimizer(state.optimizer)
    kept, call = _Kept(layer, state, optimizer), _Call(layer, list(signature.arguments))
    names, outputs = signature.tensors, signature.cotangents
    variables = list(kept.parameters.values())

    def train(*given: Any) -> tuple[Any, list[Any]]:
        arguments = signature.filled(dict(zip(names, given, strict=False)))
        targets = dict(zip(outputs, given[len(names) :], strict=True))
        with tf.GradientTape() as tape:
            loss = _loss(call(arguments, training=True), targets, layer.losses)
        gradients = tape.gradient(loss, [each.value for each in variables])
        if None in gradients:
            without = list(kept.parameters)[gradients.index(None)]
            raise WrongResultError(f"the parameter {without} has no gradient after a training step")
        # The gradient of a gather is a list of rows; others add them up within the call, so this does too.
        gradients = [
            tf.convert_to_tensor(each) if isinstance(each, tf.IndexedSlices) else each for each in gradients
        ]
        optimizer.apply(gradients, variables)
        return loss, gradients

    called = _compiled(train, (*names, *(f"target_{name}" for name in outputs)), compiled)

    def bind(inputs: Inputs, targets: Inputs) -> Bound:
        kept.load(inputs)
        tensors = [inputs[name] for name in names]
        return functools.partial(called, *tensors, *(targets[name] for name in outputs))

    return Step(bind=bind, unpack=lambda raw: {"loss": raw[0], **kept.results(raw[1])}, stateful=True)


def _compiled(function: Callable[..., Any], names: Sequence[str], compiled: str | None) -> Callable[..., Any]:
    if compiled is None:
        return function
    parameters = [calling.identifier(name) for name in names]
    # AutoGraph does not reach into Keras's layers, and would hide what is raised here.
    found: Callable[..., Any] = tf.function(
        calling.with_parameters(function, parameters), jit_compile=compiled == "xla", autograph=False
    )
    return found


def _loss(output: Any, targets: Inputs, penalties: Sequence[Any]) -> Any:
    """The loss, with what the layers' regularizers add to it."""
    found = trees.results(output)
    if "loss" in found:
        loss = found["loss"]
    elif absent := [name for name in targets if name not in found]:
        raise WrongResultError(f"of the results {absent[0]} is missing")
    else:
        loss = sum(tf.reduce_mean(tf.square(found[name] - target)) for name, target in targets.items())
    return loss + sum(penalties) if penalties else loss


class _Call:
    """How a layer is called with arguments by name: by position, as its users do."""

    def __init__(self, layer: Any, names: Sequence[str]) -> None:
        self._layer = layer
        self._taken = calling.by_position(layer.call, names)
        # A functional model of several inputs takes them as one argument.
        self._in_one = len(names) > 1 and len(getattr(layer, "inputs", None) or ()) > 1

    def bound(self, arguments: Mapping[str, Any], *, training: bool) -> Bound:
        if self._in_one:
            return functools.partial(self._layer, dict(arguments), training=training)
        return calling.bound(self._layer, self._taken, arguments, {"training": training})

    def __call__(self, arguments: Mapping[str, Any], *, training: bool) -> Any:
        return self.bound(arguments, training=training)()


class _Kept:
    """The state of a layer, in its own variables: what is given is copied there."""

    def __init__(self, layer: Any, state: State, optimizer: Any) -> None:
        found = keras_layers.weights(layer)
        self.parameters = {name: each for name, each in found.items() if each.trainable}
        self._buffers = {name: each for name, each in found.items() if not each.trainable}
        shapes = {name: tuple(each.shape) for name, each in self.parameters.items()}
        calling.refuse_other_state(shapes, self._buffers, state)
        self._counts = [each for each in layer.variables if each.name == "seed_generator_state"]
        remembered: list[Any] = []
        if optimizer is not None:
            optimizer.build(list(self.parameters.values()))
            remembered = [each for each in optimizer.variables if each.name != "learning_rate"]
        initial = [each.numpy() for each in (*self._buffers.values(), *self._counts)]
        self._first = initial[len(self._buffers) :]

        def load(*values: Any) -> None:
            for variable, value in zip(self.parameters.values(), values, strict=True):
                variable.value.assign(value)
            for variable, value in zip((*self._buffers.values(), *self._counts), initial, strict=True):
                variable.value.assign(value)
            for variable in remembered:
                variable.value.assign(tf.zeros_like(variable.value))

        # One after the other, in Python, hundreds of variables would take longer than a call.
        self._load = tf.function(load, autograph=False)

    def load(self, inputs: Inputs) -> None:
        """Parameters with the values given, all else with what it began with."""
        self._load(*(inputs[f"{PARAMETERS}{name}"] for name in self.parameters))

    def results(self, gradients: Sequence[Any]) -> Result:
        """Gradients, parameters and buffers as they are now."""
        counts = zip(self._counts, self._first, strict=True)
        if any(not np.array_equal(each.numpy(), first) for each, first in counts):
            raise WrongResultError(calling.DRAWS_RANDOM_NUMBERS)
        return {
            **{f"grad_{name}": each for name, each in zip(self.parameters, gradients, strict=True)},
            **{f"{PARAMETERS}{name}": each.value.read_value() for name, each in self.parameters.items()},
            **{f"buffers.{name}": each.value.read_value() for name, each in self._buffers.items()},
        }


def _optimizer(given: Mapping[str, Any]) -> Any:
    import keras

    rate = float(given["learning_rate"])
    if given["name"] == "sgd":
        return keras.optimizers.SGD(rate)
    if given["name"] == "adamw":
        decay = float(given.get("weight_decay", 0.01))
        return keras.optimizers.AdamW(rate, weight_decay=decay, epsilon=_EPSILON)
    raise PlainError(f"unknown optimizer {given['name']!r}; there are adamw, sgd")
