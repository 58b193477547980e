"""One module for each library of tensors, with the same function names; importing one imports the library.

Unlike the modules of `fuseproof.frameworks`, which own their process, these work in the user's: they choose
no device and no number of threads, and what they switch on for a call they switch back after it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Tensor = Any
Call = Callable[[Mapping[str, Tensor]], Any]  # the function on these tensors, by name
# A shape and a dtype by name, as of an output.
Like = tuple[tuple[int, ...], str]
# The gradient of a loss with respect to an output of this name and shape.
Cotangent = Callable[[str, tuple[int, ...]], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A tensor in memory of its own, laid out as the one that it is a copy of.

    Where the library allows it there is more memory on either side, so that a write there harms nothing.

    changed:    whether any of its values is not what it was, bit by bit.
    overrun:    whether anything was written into the memory around it.
    surrounded: whether that memory, and gaps between elements, hold NaN instead of 0. Around integers are
                values of the tensor in another order, because they may be indices.
    """

    tensor: Tensor
    changed: Callable[[], bool]
    overrun: Callable[[], bool] = lambda: False
    surrounded: bool = False


class Library(Protocol):
    """What a module in this folder provides.

    NAME: as messages name it. GRADIENTS: whether its functions can have any.
    """

    NAME: str
    GRADIENTS: bool

    def tensor(self, array: NDArray[Any], dtype: str, device: str) -> Tensor:
        """A new tensor; `device` may be empty for the library's own choice."""

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """A copy of the values: float64 of real numbers, else as they are. Raises TypeError for no tensor."""

    def dtype_name(self, tensor: Tensor) -> str: ...

    def converted(self, tensor: Tensor, dtype: str, device: str) -> Tensor:
        """The tensor in this dtype (empty: its own) on this device, itself if it is; the layout is kept."""

    def device_name(self, tensor: Tensor) -> str: ...

    def placed(self, tensor: Tensor, *, surrounded: bool = False) -> Placed:
        """A copy of the tensor; `surrounded` by NaN where the library allows that."""

    def overwrite(self, tensor: Tensor, values: NDArray[Any]) -> bool:
        """Write values into the tensor's own memory; False where the library or the layout forbids it."""

    def float64(self) -> AbstractContextManager[None]:
        """Within, tensors may be float64."""

    def in_float64(self, function: Any) -> Any:
        """The function for float64 tensors: of a module or layer a copy whose weights are float64."""

    def uncompiled(self, function: Any) -> Any | None:
        """The function that a compiler was given; None for one that is not compiled."""

    def differentiate(
        self, call: Call, tensors: Mapping[str, Tensor], names: Sequence[str], cotangent: Cotangent
    ) -> tuple[dict[str, Tensor], dict[str, Tensor | None], list[str]] | None:
        """Results, gradients of the inputs `names`, and the outputs they start from; None if there are none.

        A gradient is None where no output depends on the input.
        """

    def fresh_memory(
        self, like: Iterable[Like], device: str, *, poison: bool, eager: bool
    ) -> AbstractContextManager[None]:
        """Memory that a call allocates starts with NaN or huge values (`poison`), else with ones if it can.

        eager: whether the function is not compiled. Memory as large as a tensor of `like` is filled surely.
        """

    def finish(self, raw: Any) -> None:
        """Wait until results are there."""

    def device_memory(self, device: str) -> Callable[[], int] | None:
        """A function that gives the bytes in use on a device that is not the host; None on the host."""


def load(name: str) -> Library:
    """The module of the library `name`. Raises ImportError if it is not installed."""
    return cast(Library, importlib.import_module(f"fuseproof.checking.libraries.{name}"))
