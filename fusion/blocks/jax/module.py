"""A network block as a pair of JAX: parameters by name, and a function of them and the inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jax import Array

from fuseproof.workloads.blocks.base import NetworkBlock

Function = Callable[..., Array]
Pair = tuple[dict[str, Any], Function]


def module_of(kind: type[NetworkBlock]) -> Callable[[Function], Callable[..., Pair]]:
    """Makes of `function(parameters, *inputs, **options)` what makes the pair, from the block's fields."""

    def decorate(function: Function) -> Callable[..., Pair]:
        def make(**fields: Any) -> Pair:
            block = kind(**fields)
            return block.initial_parameters(), functools.partial(function, **block.taken_by(function))

        return make

    return decorate
