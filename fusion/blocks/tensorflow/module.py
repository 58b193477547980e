"""A network block as a tf.Module: variables and a function of them, without a layer of Keras around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fuseproof.fusion.blocks import made_by
from fuseproof.workloads.blocks.base import NetworkBlock

Tensor = Any  # tf.Tensor; the package ships no types
Function = Callable[..., Tensor]


class BlockModule(tf.Module):  # type: ignore[misc]
    """A function of parameters and inputs, whose variables are the block's parameters, named as there."""

    def __init__(self, function: Function, block: NetworkBlock) -> None:
        super().__init__()
        self._function, self._options = function, block.taken_by(function)
        self._names = tuple(block.parameters)
        for name, values in block.initial_parameters().items():
            setattr(self, name, tf.Variable(values))

    def __call__(self, *inputs: Tensor) -> Tensor:
        parameters = {name: getattr(self, name) for name in self._names}
        return self._function(parameters, *inputs, **self._options)


module_of = made_by(BlockModule)
