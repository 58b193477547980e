"""A workload: what is computed, at one shape, as flat named tensors in and out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.distribution import Drawn
from fuseproof.workloads.tensor import Tensor, result_dtype
from fuseproof.workloads.trees import OUTPUT, Skeleton

Arrays = dict[str, NDArray[Any]]  # float32, or integers
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampled:
    """A part of a tensor in float64: `values == exact_tensor[index]`.

    scale: errors are relative to it; None means the RMS of the values. For a tensor that is zero in exact
        arithmetic it is the RMS of the terms that cancel, whose rounding correct code leaves.
    drawn: what draws of a random tensor have in common; then the values are of one of them.
    """

    index: tuple[slice | NDArray[np.int64], ...]
    values: Reals
    scale: float | None = None
    drawn: Drawn | None = None


def whole(values: NDArray[Any]) -> Sampled:
    """All of a tensor."""
    return Sampled(index=(slice(None),) * np.ndim(values), values=np.asarray(values, np.float64))


class Workload(ABC):
    """What measuring, checking and reporting know of a workload."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in names of cases, the same at every shape."""

    @property
    @abstractmethod
    def dtypes(self) -> tuple[str, ...]:
        """Those that a case may have."""

    @property
    @abstractmethod
    def passes(self) -> tuple[str, ...]:
        """Those that a case may have."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The shape in one word, as it stands in a case's name."""

    @property
    @abstractmethod
    def inputs_by_name(self) -> Mapping[str, Tensor]:
        """The inputs, in the order in which every implementation takes them."""

    @property
    @abstractmethod
    def outputs_by_name(self) -> Mapping[str, Tensor]:
        """What a forward pass gives, in the order of what a call returns."""

    @property
    def random(self) -> bool:
        """Whether a call draws random numbers, so that its results are compared by their distribution."""
        return False

    def computed_in(self, dtype: str) -> str:
        """The dtype that results of a case are rounded to, which says how far off they may be."""
        return dtype

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The inputs that get a gradient: all of real numbers, unless the workload says otherwise."""
        return tuple(name for name, tensor in self.inputs_by_name.items() if tensor.floating)

    @property
    def arguments(self) -> Mapping[str, Skeleton]:
        """How the inputs make the arguments of a call, by argument; each input is one by default."""
        return {name: name for name in self.inputs_by_name}

    @property
    def options(self) -> dict[str, object]:
        """Keyword arguments that are not tensors, such as `causal`."""
        return {}

    @abstractmethod
    def flops(self, pass_: str) -> int | None:
        """Floating-point operations of the textbook algorithm; None where nobody has counted them."""

    @abstractmethod
    def minimum_bytes(self, pass_: str, dtype: str) -> int | None:
        """Bytes that must move at least; None where nobody has counted them."""

    @property
    def pooled(self) -> bool:
        """Whether values do not depend on their place, so that a window of more of them is an input too."""
        return False

    @property
    def module_parameters(self) -> tuple[str, ...]:
        """The inputs that are a module's parameters, in order; of an operator none."""
        return ()

    @abstractmethod
    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        """The values of all inputs but `module_parameters`, nested as the arguments are, not yet rounded."""

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        """Values of a parameter, or of one input of a `pooled` workload, in any shape."""
        raise NotImplementedError

    @abstractmethod
    def expected(
        self, inputs: Arrays, cotangents: Arrays, generator: np.random.Generator | None = None
    ) -> dict[str, Sampled]:
        """Every output and, with cotangents (by output), every `grad_<input>`, in float64 on sampled slices.

        inputs, cotangents: rounded to the case's dtype, so this is exact for what implementations get.
        generator: draws what is sampled; by default one of the operating system's randomness, so that nobody
            can know it beforehand.
        """

    def results(self, pass_: str) -> dict[str, Tensor]:
        """What a call gives, in order: the outputs, then `grad_<input>` of a backward pass."""
        found = dict(self.outputs_by_name)
        if pass_ != "forward":
            inputs = self.inputs_by_name
            found |= {f"grad_{name}": inputs[name] for name in self.differentiable}
        return found

    @property
    def cotangents(self) -> dict[str, Tensor]:
        """The outputs that a backward pass starts from."""
        return {name: tensor for name, tensor in self.outputs_by_name.items() if tensor.floating}

    @property
    def has_one_output(self) -> bool:
        return list(self.outputs_by_name) == [OUTPUT]

    def in_order(self, inputs: Arrays, dtype: str) -> Arrays:
        """The inputs in the order in memory that implementations in `dtype` take; C order by default."""
        return inputs

    def reason_against(self, dtype: str, pass_: str) -> str | None:
        """Why this shape has no case in `dtype` and `pass_`, None if it has one."""
        if dtype not in self.dtypes:
            return f"{self.name} is not computed in {dtype}; there are {', '.join(self.dtypes)}"
        if pass_ not in self.passes:
            return f"{self.name} has no {pass_} pass; there are {', '.join(self.passes)}"
        return None

    @property
    def longest_axis(self) -> int:
        """An upper bound on the terms of any sum, for the rounding a correct result may have."""
        tensors = (*self.inputs_by_name.values(), *self.outputs_by_name.values())
        return max((extent for tensor in tensors for extent in tensor.shape), default=1)

    def result_bytes(self, pass_: str, dtype: str) -> int:
        """Bytes of the outputs and of any gradients: what a call must keep."""
        return sum(tensor.bytes(result_dtype(dtype)) for tensor in self.results(pass_).values())
