"""Modules of TensorFlow, of Keras 3 or without: inference, and training steps with an optimizer of Keras.

A module holds its state in variables, which a step changes, as PyTorch's does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fuseproof.frameworks import (
    Bound,
    Result,
    Step,
    WrongResultError,
    calling,
    keras_calls,
    keras_layers,
    tensorflow_parts,
)
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.runtimes import in_tensorflow
from fuseproof.frameworks.tensorflow_parts import Parts, held
from fuseproof.workloads import trees
from fuseproof.workloads.described import PARAMETERS
from fuseproof.workloads.modules import State

Inputs = dict[str, Any]


def make(
    target: Any, fields: Mapping[str, object], dtype: str, example: Callable[[], Mapping[str, Any]]
) -> Any:
    """The module that a target is or makes, with variables of the dtype; a layer is built with examples.

    Raises PlainError for a target that is and makes none, NotImplementedError for Keras on another framework.
    """
    with keras_calls.making(dtype, on="tensorflow"):
        with tensorflow_parts.in_dtype(dtype):
            module = calling.made(target, fields, tensorflow_parts.is_module, tensorflow_parts.WANTED)
        build = functools.partial(_build, example)
        if module is target:  # what one case makes of it must not meet the next
            tensorflow_parts.refuse_made(module)
            return keras_layers.again(keras_layers.Description.of(module), dtype, build)
        if keras_layers.is_layer(module):
            build(module)
    return module


def _build(example: Callable[[], Mapping[str, Any]], layer: Any) -> None:
    """Make the weights that a layer makes when it is first called."""
    arguments = example()
    tensorflow_parts.of(layer, list(arguments)).bound(arguments, False)()


def initial_state(module: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Parameters and buffers by name."""
    parts = tensorflow_parts.of(module, ())
    return _arrays(parts.parameters), _arrays(parts.buffers)


def _arrays(variables: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    found = {name: np.asarray(tf.convert_to_tensor(held(each))) for name, each in variables.items()}
    return {name: each.astype(np.float32) if each.dtype.kind == "V" else each for name, each in found.items()}


def step(module: Any, signature: Signature, state: State, pass_: str, compiled: str | None) -> Step:
    """The work of one call in a pass of modules.

    Raises PlainError for a module whose parameters or buffers are not those of the reference.
    """
    if compiled not in (None, "function", "xla", *in_tensorflow.MODES):
        raise NotImplementedError(f"TensorFlow has no compile mode {compiled!r}; use 'function' or 'xla'")
    parts = tensorflow_parts.of(module, list(signature.arguments))
    if pass_ == "inference":
        return _inference(parts, signature, state, compiled)
    return _training(parts, signature, state, compiled)


def _inference(parts: Parts, signature: Signature, state: State, compiled: str | None) -> Step:
    kept = _Kept(parts, state, None)

    def infer(*tensors: Any) -> Any:
        return parts.bound(signature.filled(dict(zip(signature.tensors, tensors, strict=True))), False)()

    if compiled in in_tensorflow.MODES:
        # The variables themselves: of a layer alone LiteRT's converter makes noise.
        variables = [
            held(each) for each in (*parts.parameters.values(), *parts.buffers.values(), *parts.counts)
        ]
        return in_tensorflow.step(infer, signature.tensors, compiled, variables=variables, ready=kept.load)
    called = _compiled(infer, signature.tensors, compiled)

    def bind(inputs: Inputs, _: Inputs) -> Bound:
        kept.load(inputs)
        if compiled is None:  # nothing hides how the module is called
            return parts.bound(signature.filled(inputs), False)
        return functools.partial(called, *(inputs[name] for name in signature.tensors))

    return Step(bind=bind, unpack=trees.results)


def _training(parts: Parts, signature: Signature, state: State, compiled: str | None) -> Step:
    optimizer = keras_calls.optimizer(state.optimizer)
    kept = _Kept(parts, state, optimizer)
    names, outputs = signature.tensors, signature.cotangents
    variables = list(parts.parameters.values())

    def train(*given: Any) -> tuple[Any, list[Any]]:
        arguments = signature.filled(dict(zip(names, given, strict=False)))
        targets = dict(zip(outputs, given[len(names) :], strict=True))
        with tf.GradientTape() as tape:
            loss = _loss(parts.bound(arguments, True)(), targets, parts.losses())
        gradients = tape.gradient(loss, [held(each) for each in variables])
        if None in gradients:
            without = list(parts.parameters)[gradients.index(None)]
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


class _Kept:
    """The state of a module, in its own variables: what is given is copied there."""

    def __init__(self, parts: Parts, state: State, optimizer: Any) -> None:
        shapes = {name: tuple(each.shape) for name, each in parts.parameters.items()}
        calling.refuse_other_state(shapes, parts.buffers, state)
        self._parameters, self._buffers, self._counts = (
            {name: held(each) for name, each in parts.parameters.items()},
            {name: held(each) for name, each in parts.buffers.items()},
            [held(each) for each in parts.counts],
        )
        remembered: list[Any] = []
        if optimizer is not None:
            optimizer.build(list(parts.parameters.values()))
            remembered = [held(each) for each in optimizer.variables if each.name != "learning_rate"]
        initial = [each.numpy() for each in (*self._buffers.values(), *self._counts)]
        self._first = initial[len(self._buffers) :]

        def load(*values: Any) -> None:
            for variable, value in zip(self._parameters.values(), values, strict=True):
                variable.assign(value)
            for variable, value in zip((*self._buffers.values(), *self._counts), initial, strict=True):
                variable.assign(value)
            for variable in remembered:
                variable.assign(tf.zeros_like(variable))

        # One after the other, in Python, hundreds of variables would take longer than a call.
        self._load = tf.function(load, autograph=False)

    def load(self, inputs: Inputs) -> None:
        """Parameters with the values given, all else with what it began with."""
        self._load(*(inputs[f"{PARAMETERS}{name}"] for name in self._parameters))

    def results(self, gradients: Sequence[Any]) -> Result:
        """Gradients, parameters and buffers as they are now."""
        counts = zip(self._counts, self._first, strict=True)
        if any(not np.array_equal(each.numpy(), first) for each, first in counts):
            raise WrongResultError(calling.DRAWS_RANDOM_NUMBERS)
        return {
            **{f"grad_{name}": each for name, each in zip(self._parameters, gradients, strict=True)},
            **{f"{PARAMETERS}{name}": each.read_value() for name, each in self._parameters.items()},
            **{f"buffers.{name}": each.read_value() for name, each in self._buffers.items()},
        }
