"""Network blocks in each framework, one a file, with the same names in each.

Each name makes a module of the block's fields; `module_of` of a framework makes such a maker of a function.

To add a framework, or a library such as Keras: a folder whose names make modules with the block's parameters,
and rows in `fuseproof/implementations/builtin.py`. Names and shapes must be those of the block, or the module
is refused; weights of a layer are named by attributes and their own names (`frameworks/keras_layers.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fuseproof.workloads.blocks.base import NetworkBlock

Function = Callable[..., Any]
Made = TypeVar("Made")


def made_by(
    make: Callable[[Function, NetworkBlock], Made],
) -> Callable[[type[NetworkBlock]], Callable[[Function], Callable[..., Made]]]:
    """A framework's decorator `module_of(kind)`, where `make` makes its module of a function and a block.

    It turns `function(parameters, *inputs, **options)` into what makes the module from the block's fields.
    """

    def module_of(kind: type[NetworkBlock]) -> Callable[[Function], Callable[..., Made]]:
        def decorate(function: Function) -> Callable[..., Made]:
            def from_fields(**fields: Any) -> Made:
                return make(function, kind(**fields))

            return from_fields

        return decorate

    return module_of
