"""A workload made of what a Python session holds: a function of a seed, or the arguments themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.modules import Module
from fuseproof.workloads.operators.base import Operator


class Captured(Operator):
    """What functions of the caller compute; `capture` makes one.

    Its one shape is that of the arguments. It is pickled into the run and read again by each process.
    """

    @classmethod
    def capture(
        cls,
        name: str,
        draw: Callable[[np.random.Generator], Mapping[str, Any]],
        *,
        forward: Callable[..., Any] | None,
        reference_by: str,
        reference_dtype: str,
        dtype: str,
        passes: tuple[str, ...],
        input_dtypes: Mapping[str, str],
        differentiable: tuple[str, ...] | None,
        flops: int | None = None,
        bytes_: int | None = None,
        optimizer: Mapping[str, Any] | None = None,
    ) -> Self:
        """A workload of this name, whose inputs `draw` gives as NumPy arrays.

        forward:        what is right, in NumPy on float64; None if the implementation `reference_by` is that.
        dtype:          of the tensors that are not in `input_dtypes`.
        differentiable: the inputs that get a gradient; None: all of real numbers.
        flops, bytes_:  of a forward pass or an inference, where the caller has counted them.
        optimizer:      of a module.
        """
        made = cls()
        fields = {
            "name": name,
            "dtypes": (dtype,),
            "passes": passes,
            "input_dtypes": dict(input_dtypes),
            "reference_by": reference_by,
            "reference_dtype": reference_dtype,
            "_draw": draw,
            "_right": forward,
            "_differentiable": differentiable,
            "_flops": flops,
            "_bytes": bytes_,
        }
        if optimizer is not None:
            fields["optimizer"] = dict(optimizer)
        vars(made).update(fields)  # past the frozen dataclass: nothing changes them later
        return made

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        drawn: Mapping[str, Any] = vars(self)["_draw"](generator)
        return drawn

    def forward(self, **inputs: NDArray[Any]) -> Any:
        right = vars(self)["_right"]
        return super().forward(**inputs) if right is None else right(**inputs)

    @property
    def differentiable(self) -> tuple[str, ...]:
        chosen: tuple[str, ...] | None = vars(self)["_differentiable"]
        return super().differentiable if chosen is None else chosen

    def flops(self, pass_: str) -> int | None:
        return vars(self)["_flops"] if pass_ in ("forward", "inference") else None

    def minimum_bytes(self, pass_: str, dtype: str) -> int | None:
        return vars(self)["_bytes"] if pass_ in ("forward", "inference") else None

    # A frozen dataclass without fields would be equal to every other one.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class CapturedModule(Captured, Module):
    """The same of modules."""
