"""What every network block provides: inputs, named parameters and their initial values, FLOPs.

A network block is a module whose parameters are the block's own, by name and shape. Every framework holds the
same ones, so what a training step makes of them is compared with one reference: PyTorch's, in float64.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.workloads.modules import Module
from fuseproof.workloads.operators.base import standard_normal
from fuseproof.workloads.operators.extents import Extents
from fuseproof.workloads.tensor import Tensor

Shapes = dict[str, tuple[int, ...]]

# Sizes that a population comes in, and what it takes a block for at each of them: inference at batch 1 and at
# a batch of 32 or more, and training. Each block names its shapes so, `cpu-single`.
SCALES = ("cpu", "gpu")
USES = ("single", "large", "training")


class NetworkBlock(Module, Extents):
    """A network block at one shape. Each framework has a function `function(parameters, *inputs, **options)`,
    which the framework's `module_of` in `fuseproof.fusion.blocks` makes a module of.

    A weight of a product is (in, out), a kernel of a convolution (height, width, in, out) and images are
    (batch, height, width, channels): what JAX and TensorFlow take, and PyTorch as views. Weights have
    variance 1 / (in · height · width), so that activations stay near unit variance.
    """

    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    reference_by: ClassVar[str] = "torch.eager"
    # Keras adds ε before it corrects the mean of the squares, PyTorch and Optax after: one that is small
    # beside any gradient makes the steps of all three the same, in the same time.
    optimizer: ClassVar[Mapping[str, Any]] = {**Module.optimizer, "epsilon": 1e-16}

    @property
    def input_shapes(self) -> Shapes:
        raise NotImplementedError

    @property
    def parameters(self) -> Shapes:
        """Names and shapes of the parameters. A name's end says what values it has, see `initial_value`."""
        raise NotImplementedError

    def initial_parameters(self) -> dict[str, NDArray[np.float32]]:
        """By name, the same in every process. What is measured is drawn with their mean and spread."""
        generator = np.random.default_rng(0)
        return {name: self.initial_value(name, generator) for name in self.parameters}

    def initial_value(self, name: str, generator: np.random.Generator) -> NDArray[np.float32]:
        """Scales are near 1 and biases near 0, none of them exactly: one left out or put twice is wrong."""
        values: NDArray[np.float32] = standard_normal(self.parameters[name], generator)
        if name.endswith("_scale"):
            return 1 + np.float32(0.2) * values
        if name.endswith("_bias"):
            return np.float32(0.2) * values
        return values * np.float32(self.fan_in(name) ** -0.5)

    def fan_in(self, parameter: str) -> int:
        """The terms of a sum that a weight takes part in."""
        return math.prod(self.parameters[parameter][:-1])

    def taken_by(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Those of the fields that a function takes as keywords."""
        parameters = inspect.signature(function).parameters.values()
        names = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
        return {name: value for name, value in self.options.items() if name in names}

    @property
    def longest_axis(self) -> int:
        # A parameter's gradient sums over all rows of an input, a product over what a weight takes in.
        shapes = (*self.input_shapes.values(), *self.parameters.values())
        return max(math.prod(part) for shape in shapes for part in (shape[:-1], shape[-1:]))

    @property
    def multiply_adds(self) -> int:
        """Of the products and convolutions of a forward pass."""
        raise NotImplementedError

    def flops(self, pass_: str) -> int:
        # Two more products for each in the backward pass. What is done to each element is not counted, as in
        # the literature.
        return 2 * self.multiply_adds * (1 if pass_ == "inference" else 3)

    def minimum_bytes(self, pass_: str, dtype: str) -> int | None:
        """Inputs and parameters read once; in training also AdamW's two moments, and they, the parameters and
        the gradients written.
        """
        inputs = sum(tensor.bytes(dtype) for tensor in self.inputs_by_name.values())
        parameters = sum(Tensor(shape=shape).bytes(dtype) for shape in self.parameters.values())
        return inputs + parameters * (1 if pass_ == "inference" else 7)

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
