"""A network block as a pair of JAX: parameters by name, and a function of them and the inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jax import Array

from fuseproof.fusion.blocks import made_by
from fuseproof.workloads.blocks.base import NetworkBlock

Function = Callable[..., Array]
Pair = tuple[dict[str, Any], Function]


def pair(function: Function, block: NetworkBlock) -> Pair:
    """The block's parameters, and the function with the block's options."""
    return block.initial_parameters(), functools.partial(function, **block.taken_by(function))


module_of = made_by(pair)
