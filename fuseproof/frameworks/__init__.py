"""One module for each framework, all with the same function names; importing it imports the framework.

`load` is the laziness: a worker process loads one of them and no other.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Tensor = Any
Result = tuple[Tensor, dict[str, Tensor]]
Step = Callable[[dict[str, Tensor], Tensor | None], Result]

# The most calls that `peak_memory` makes.
PEAK_MEMORY_CALLS = 4


class Framework(Protocol):
    """What a module in this folder provides; the modules' own docstrings say how."""

    def configure(self, *, device: str, threads: int) -> None: ...
    def description(self) -> dict[str, Any]: ...
    def from_numpy(self, array: NDArray[np.float32], dtype: str) -> Tensor: ...
    def to_numpy(self, tensor: Tensor) -> NDArray[np.float32]: ...
    def dtype_name(self, tensor: Tensor) -> str: ...
    def copy(self, tensor: Tensor) -> Tensor: ...
    def differentiable(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]: ...
    def step(
        self,
        function: Callable[..., Any],
        options: Mapping[str, object],
        pass_: str,
        compiled: str | None,
        consumes: Sequence[str] = (),
    ) -> Step: ...
    def synchronize(self, result: Result) -> None: ...
    def warm_up_compiler(self) -> None: ...
    def reset(self) -> None: ...
    def forbid_recompilation(self, step: Step) -> AbstractContextManager[None]: ...
    def poisoned_memory(self, like: NDArray[np.float32]) -> AbstractContextManager[None]: ...
    def peak_memory(self, call: Callable[[], Result]) -> int | None: ...
    def batch(self, call: Callable[[], Result], calls: int) -> tuple[float, float | None]: ...
    def profile(
        self, folder: Path, *, memory: bool, stacks: bool
    ) -> AbstractContextManager[dict[str, list[Any]]]: ...
    def kernel_names(self, names: Iterable[str]) -> list[str]: ...


def load(name: str) -> Framework:
    """The module for the framework `name`. Raises ImportError if the framework is not installed."""
    return cast(Framework, importlib.import_module(f"fuseproof.frameworks.{name}"))
