"""A network block as a layer of Keras, whose weights are the block's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from fuseproof.fusion.blocks import made_by
from fuseproof.workloads.blocks.base import NetworkBlock

Tensor = Any  # of the framework that Keras runs on
Function = Callable[..., Tensor]


class BlockLayer(keras.Layer):  # type: ignore[misc]
    """A function of parameters and inputs, whose weights are the block's parameters, named as there."""

    def __init__(self, function: Function, block: NetworkBlock) -> None:
        super().__init__()
        self._function, self._options = function, block.taken_by(function)
        self._own = {
            name: self.add_weight(shape=values.shape, name=name, initializer="zeros")
            for name, values in block.initial_parameters().items()
        }
        self.set_weights(list(block.initial_parameters().values()))
        self.built = True

    def call(self, *inputs: Tensor) -> Tensor:
        parameters = {name: weight.value for name, weight in self._own.items()}
        return self._function(parameters, *inputs, **self._options)


module_of = made_by(BlockLayer)
