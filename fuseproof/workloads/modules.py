"""Modules: workloads with parameters and buffers of their own, such as layers and models.

What a module is made of, its framework says; users write how its inputs are drawn and name an implementation
that is the reference. Its parameters are drawn too, with the mean and the spread of its own initial ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.operators.base import Operator
from fuseproof.workloads.tensor import MODULE_PASSES, Tensor

# Parameters whose initial values are all the same, as a norm's weights and biases are, would not show whether
# each goes where it belongs.
_LEAST_SPREAD = 1 / 8
_SPREAD_OF_ZEROS = 0.02

# Of AdamW, as in PyTorch and Optax; Keras's own default is ten times as much.
EPSILON = 1e-8


class Module(Operator):
    """A module at one shape, written as an Operator is; its implementations' targets make or are the module.

    A target is a torch.nn.Module, an equinox.Module, a flax.nnx.Module, a pair `(parameters, apply)` of JAX,
    a keras.Layer or a tf.Module, or a class or function that makes one and takes those of the fields that it
    names. Implementations in several frameworks are compared if their parameters have the same names and
    shapes; then all of them are given the same values.

    passes: `inference` is a call in evaluation mode without gradients. `training_step` is a call in training
        mode, the loss, its gradients, and a step of the optimizer; the gradients are cleared first. The loss
        is the output named `loss` if there is one, else the mean squared distance to targets that are drawn.
    autocast: `bfloat16` or `float16`: calls are made under torch.autocast with that dtype, and
        results may be as far off as it rounds. Parameters, gradients and steps keep the dtype of the case.
    requires: of a module that comes with Fuseproof, the package that its implementations import.
    optimizer: `adamw` or `sgd`, with its arguments: `learning_rate`, and of AdamW `weight_decay` and
        `epsilon`, which Keras adds at another place than others: where steps of Keras and of others are
        compared, one that is small beside any gradient, such as 1e-16.
    """

    passes: ClassVar[tuple[str, ...]] = MODULE_PASSES
    requires: ClassVar[str] = ""
    optimizer: ClassVar[Mapping[str, Any]] = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01}

    @property
    def autocast(self) -> str:
        return ""

    @property
    def longest_axis(self) -> int:
        # The gradient of a bias sums over all places of an input: all of it but channels, second or last.
        places = (
            tensor.size if not tensor.floating else tensor.size // min(tensor.shape[1], tensor.shape[-1])
            for tensor in self.inputs_by_name.values()
            if not tensor.floating or len(tensor.shape) > 2
        )
        return max(super().longest_axis, *places, 1)

    @property
    def options(self) -> dict[str, object]:
        """The fields: what a target that makes the module may take."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, kw_only=True)
class State:
    """What a module holds beside its inputs.

    parameters: by name, shape, and mean and spread of the initial values.
    buffers: by name; a call in training mode may change them.
    optimizer: its name and arguments.
    autocast: the dtype that operations are cast to; empty for none.
    """

    parameters: Mapping[str, tuple[tuple[int, ...], float, float]]
    buffers: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    autocast: str = ""

    @classmethod
    def of(
        cls,
        parameters: Mapping[str, NDArray[Any]],
        buffers: Mapping[str, NDArray[Any]],
        optimizer: Mapping[str, Any],
        autocast: str = "",
    ) -> State:
        """Of a module with these initial values."""
        return cls(
            parameters={
                name: (values.shape, float(values.mean()), _spread(values))
                for name, values in parameters.items()
            },
            buffers={
                name: Tensor(shape=values.shape, dtype="" if values.dtype.kind in "fV" else values.dtype.name)
                for name, values in buffers.items()
            },
            optimizer=optimizer,
            autocast=autocast,
        )

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        """Values of a parameter, in any shape."""
        _, mean, spread = self.parameters[name]
        values = generator.standard_normal(shape, dtype=np.float32)
        return values * np.float32(spread) + np.float32(mean)

    @property
    def results(self) -> dict[str, Tensor]:
        """What a training step gives: loss, gradients, and what it has made of parameters and buffers."""
        parameters = {name: Tensor(shape=tuple(shape)) for name, (shape, _, _) in self.parameters.items()}
        return {
            "loss": Tensor(shape=()),
            **{f"grad_{name}": tensor for name, tensor in parameters.items()},
            **{f"parameters.{name}": tensor for name, tensor in parameters.items()},
            **{f"buffers.{name}": tensor for name, tensor in self.buffers.items()},
        }


def _spread(values: NDArray[Any]) -> float:
    found = float(values.std())
    mean = abs(float(values.mean()))
    return found if found > 1e-6 * max(mean, 1e-30) else (_LEAST_SPREAD * mean or _SPREAD_OF_ZEROS)
