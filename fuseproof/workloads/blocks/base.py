"""What every network block provides: inputs, named parameters, FLOPs.

A network block is an operator that takes its parameters as a dictionary after its other inputs. All
frameworks get the same arrays, drawn from the run's seed, and the gradients of all parameters are compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.workloads import trees
from fuseproof.workloads.described import PARAMETERS
from fuseproof.workloads.operators.base import standard_normal
from fuseproof.workloads.operators.extents import Extents

Shapes = dict[str, tuple[int, ...]]

# Sizes that a population comes in; each block names its shapes for them so.
SCALES = ("cpu", "gpu")


class NetworkBlock(Extents):
    """A network block at one shape; calls are `function(*activations, parameters, **options)`.

    A weight of a product is (in, out), a kernel of a convolution (height, width, in, out) and images are
    (batch, height, width, channels): what JAX and TensorFlow take, and PyTorch as views. Weights are drawn
    with variance 1 / (in · height · width), so that activations stay near unit variance.

    constants: activations that get no gradient, such as indices and tables of angles.
    """

    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    reference_by: ClassVar[str] = "torch.eager"
    constants: ClassVar[tuple[str, ...]] = ()

    @property
    def activations(self) -> Shapes:
        """Names and shapes of the inputs that are no parameters, in order."""
        raise NotImplementedError

    @property
    def parameters(self) -> Shapes:
        """Names and shapes of the parameters. A name's end says how it is drawn, see `draw`."""
        raise NotImplementedError

    @property
    def input_shapes(self) -> Shapes:
        return self.activations | {f"{PARAMETERS}{name}": shape for name, shape in self.parameters.items()}

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.activations["x"]

    @property
    def arguments(self) -> Mapping[str, trees.Skeleton]:
        parameters = {name: f"{PARAMETERS}{name}" for name in self.parameters}
        return {name: name for name in self.activations} | {"parameters": {"dict": parameters}}

    @property
    def differentiable(self) -> tuple[str, ...]:
        return tuple(name for name in self.input_shapes if name not in self.constants)

    @property
    def longest_axis(self) -> int:
        # A parameter's gradient sums over all rows of an input, a product over what a weight takes in.
        shapes = (*self.activations.values(), *self.parameters.values())
        return max(super().longest_axis, *(math.prod(shape[:-1]) for shape in shapes))

    @property
    def multiply_adds(self) -> int:
        """Of the products and convolutions of a forward pass."""
        raise NotImplementedError

    def flops(self, pass_: str) -> int:
        # Two more products for each in the backward pass. What is done to each element is not counted, as in
        # the literature.
        return 2 * self.multiply_adds * (1 if pass_ == "forward" else 3)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        """Scales are near 1 and biases near 0, both drawn: one that is left out or put twice is wrong."""
        values: NDArray[np.float32] = standard_normal(shape, generator)
        if not name.startswith(PARAMETERS):
            return values
        if name.endswith("_scale"):
            return 1 + np.float32(0.2) * values
        if name.endswith("_bias"):
            return np.float32(0.2) * values
        return values * np.float32(self.fan_in(name.removeprefix(PARAMETERS)) ** -0.5)

    def fan_in(self, parameter: str) -> int:
        """The terms of a sum that a weight takes part in."""
        return math.prod(self.parameters[parameter][:-1])

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> Self:
        block = super()._from_match(match)
        if any(value == 0 and value is not False for value in vars(block).values()):
            raise UserError(f"{cls.name} shape {match.string!r}: every extent must be at least 1")
        if (misfit := block.misfit) is not None:
            raise UserError(f"{cls.name} shape {match.string!r}: {misfit}")
        return block

    @property
    def misfit(self) -> str | None:
        """Why there is no such shape, else None."""
        return None

    # Of several blocks.

    @staticmethod
    def _norm(name: str, width: int) -> Shapes:
        return {f"{name}_scale": (width,), f"{name}_bias": (width,)}

    @staticmethod
    def _linear(name: str, rows: int, columns: int) -> Shapes:
        return {name: (rows, columns), f"{name}_bias": (columns,)}


def misfit_of_heads(hidden: int, heads: int, key_value_heads: int = 1, *, halves: bool = False) -> str | None:
    """Why a width cannot be split into heads, which share those of keys and values, else None.

    halves: the head dim must be even, for rotary positions.
    """
    if hidden % heads:
        return f"{heads} heads do not share a width of {hidden} equally; make it a multiple"
    if heads % key_value_heads:
        return f"{heads} heads do not share {key_value_heads} of keys and values equally; make it a multiple"
    if halves and hidden // heads % 2:
        return f"a head dim of {hidden // heads} has no halves; make it even"
    return None


def angles(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """Cosines or sines, by the input's name, of angles of their own and not of positions: what computes them
    itself instead of reading them is wrong.
    """
    drawn = generator.uniform(0, 2 * np.pi, shape).astype(np.float32)
    return np.cos(drawn) if name == "cos" else np.sin(drawn)
