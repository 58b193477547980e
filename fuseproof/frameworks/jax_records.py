"""What a module of JAX is made of, whatever its library, as records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Leaves = list[Any]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How parameters are trained.

    init: what it remembers of parameters, before the first step.
    step: new parameters and what it remembers then, of gradients, what it remembers and parameters.
    """

    init: Callable[[Leaves], Any]
    step: Callable[[Leaves, Any, Leaves], tuple[Leaves, Any]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The arrays of a module in one of its two modes.

    parameters: by name, real numbers, which are trained.
    buffers:  by name; a call in training mode may change them.
    rest:     arrays that are neither: whole numbers, keys and counts of random numbers.
    together: the module of these parameters, buffers and rest, each in this order.
    apart:    buffers and rest of such a module after a call.
    counts:   places in rest that count the random numbers drawn.
    penalties: what such a module adds to the loss after a call.
    optimizer: its library's own of this name and these arguments; None for Optax's.
    """

    parameters: Mapping[str, Any]
    buffers: Mapping[str, Any]
    rest: Leaves
    together: Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Callable[..., Any]]
    apart: Callable[[Any], tuple[Leaves, Leaves]]
    counts: Sequence[int] = field(default=())
    penalties: Callable[[Any], Sequence[Any]] = lambda _: ()
    optimizer: Callable[[Mapping[str, Any]], Optimizer] | None = None
