"""Layers and models of Keras 3 on JAX as parts: called without state, as Keras's own `fit` does.

In a `keras.StatelessScope` variables have the values given, and what a call makes of them is noted. It is
what `stateless_call` opens, which then skips `__call__`: layers within would not hear of the training mode.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from fuseproof.frameworks import calling, keras_calls, keras_layers
from fuseproof.frameworks.jax_records import Leaves, Optimizer, Parts


def make(
    target: Any,
    fields: Mapping[str, object],
    dtype: str,
    device: Any,
    example: Callable[[], Mapping[str, Any]],
) -> Any:
    """The layer or model that a target is or makes, with weights of the dtype on the device.

    Raises PlainError for a target that is and makes none, NotImplementedError for Keras on another framework.
    """
    with jax.default_device(device), keras_calls.making(dtype, on="jax"):
        layer = calling.made(target, fields, keras_layers.is_layer, "a keras.Layer")
        build = functools.partial(_build, example)
        if layer is target:  # what one case makes of it must not meet the next
            return keras_layers.again(keras_layers.Description.of(layer), dtype, build)
        build(layer)
    return layer


def _build(example: Callable[[], Mapping[str, Any]], layer: Any) -> None:
    """Make the weights that a layer makes when it is first called, without computing anything: JAX would
    compile every operation of that one call. A functional model has them all.
    """
    import keras

    if all(each.built for each in layer._flatten_layers()):
        return

    def shown(given: Any) -> Any:
        return keras.KerasTensor(given.shape, str(given.dtype)) if hasattr(given, "dtype") else given

    # One after the other: a tree would sort the names.
    arguments = {name: jax.tree.map(shown, each) for name, each in example().items()}
    keras_calls.Call(layer, list(arguments)).bound(arguments, training=False)()


def parts(layer: Any, *, training: bool) -> Parts:
    """The parts of a layer that `make` gave."""
    named = keras_layers.weights(layer)
    parameters = {name: each for name, each in named.items() if each.trainable}
    buffers = {name: each for name, each in named.items() if not each.trainable}
    known = {id(each) for each in named.values()}
    rest = [each for each in layer.non_trainable_variables if id(each) not in known]
    held = [*parameters.values(), *buffers.values(), *rest]
    trained, others = (
        _places(held, those) for those in (layer.trainable_variables, layer.non_trainable_variables)
    )
    after = _places(layer.non_trainable_variables, held[len(parameters) :])

    def together(parameters: Sequence[Any], buffers: Sequence[Any], rest: Sequence[Any]) -> _Stateless:
        values = [*parameters, *buffers, *rest]
        return _Stateless(
            layer, [values[place] for place in trained], [values[place] for place in others], training
        )

    def apart(called: _Stateless) -> tuple[Leaves, Leaves]:
        values = [called.after[place] for place in after]
        return values[: len(buffers)], values[len(buffers) :]

    return Parts(
        parameters={name: each.value for name, each in parameters.items()},
        buffers={name: each.value for name, each in buffers.items()},
        rest=[each.value for each in rest],
        together=together,
        apart=apart,
        counts=[place for place, each in enumerate(rest) if each.name == "seed_generator_state"],
        penalties=lambda called: called.penalties,
        optimizer=functools.partial(_optimizer, list(parameters.values())),
    )


class _Stateless:
    """A layer with these values of its variables, which a call reads and whose successors it keeps.

    after: values of the variables that are not trained, after a call. penalties: what its regularizers add to
    the loss.
    """

    def __init__(self, layer: Any, trained: Leaves, others: Leaves, training: bool) -> None:
        self._layer = layer
        self._values = [*trained, *others]
        self._training = training
        self._in_one = keras_calls.takes_all_in_one(layer)
        # What `calling.by_position` asks: without parameters all go by keyword.
        self.__signature__ = inspect.Signature() if self._in_one else inspect.signature(layer.call)
        self.after = others
        self.penalties: Leaves = []

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self._in_one:
            given, named = (named,), {}
        import keras

        layer, others = self._layer, self._layer.non_trainable_variables
        values = list(zip((*layer.trainable_variables, *others), self._values, strict=True))
        with keras.StatelessScope(state_mapping=values, collect_losses=True) as scope:
            output = layer(*given, **named, training=self._training)
            self.penalties = layer.losses
        self.after = [scope.get_current_value(each) for each in others]
        return output


def _optimizer(variables: Leaves, given: Mapping[str, Any]) -> Optimizer:
    """Keras's own, whose epsilon is where it is on other frameworks, and not where Optax has it."""
    optimizer = keras_calls.optimizer(given)
    optimizer.build(variables)

    def step(gradients: Leaves, remembered: Leaves, parameters: Leaves) -> tuple[Leaves, Leaves]:
        found: tuple[Leaves, Leaves] = optimizer.stateless_apply(remembered, gradients, parameters)
        return found

    return Optimizer(init=lambda _: [each.value for each in optimizer.variables], step=step)


def _places(among: Sequence[Any], those: Sequence[Any]) -> list[int]:
    """Where these variables are among others."""
    places = {id(each): place for place, each in enumerate(among)}
    return [places[id(each)] for each in those]
