"""One module for each framework, all with the same function names; importing it imports the framework.

A worker process loads one of them, by `load`, and no other.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fuseproof.child_process import PlainError
from fuseproof.frameworks.calling import Signature
from fuseproof.workloads.modules import State

Tensor = Any
Raw = Any  # what one call returns: the output, or the output and a sequence of gradients
Result = dict[str, Tensor]  # outputs and, of a backward pass, gradients `grad_<input>`, by name
Bound = Callable[[], Raw]

# Frameworks that Keras runs on; which one is decided when it is imported.
_UNDER_KERAS = ("tensorflow", "jax")

# The most calls that `peak_memory` makes.
PEAK_MEMORY_CALLS = 4


class WrongResultError(PlainError):
    """The implementation broke a rule that no tolerance covers; the message says which."""


@dataclass(kw_only=True)
class Deployment:
    """What it took to get a program into a deployment runtime; filled in when a step is first bound.

    export_seconds: from the function or module, with its weights, to a file. load_seconds: from there to what
    can be called. artifact_bytes: of the file and all that belongs to it.
    """

    export_seconds: float = 0.0
    load_seconds: float = 0.0
    artifact_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """The work of one call of an implementation.

    bind:   a call with these inputs and these cotangents (none of a forward pass), by name, a
            `functools.partial` of what is timed; nothing but the user's own call is left to do then.
    unpack: outputs and gradients by name, of what such a call returned.
    stateful: a call goes on from where the last one left the module, and `bind` is what begins anew.
    deployment: of a step in a deployment runtime.
    bound_results: a call writes its results where the last one did, in memory that was bound before; what
        else it takes comes from the runtime's own allocator.
    """

    bind: Callable[[dict[str, Tensor], dict[str, Tensor]], Bound]
    unpack: Callable[[Raw], Result]
    stateful: bool = False
    deployment: Deployment | None = None
    bound_results: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What `Framework.batch` found.

    host:   seconds of all calls and one synchronisation.
    device: seconds between two events on the device; None without a clock there.
    last:   what the last call returned.
    """

    host: float
    device: float | None
    last: Raw


def has_own_methods(tensor: Any) -> bool:
    """Whether functions were put on this one tensor, which would be called instead of its class's."""
    return any(callable(value) for value in getattr(tensor, "__dict__", {}).values())


class Framework(Protocol):
    """What a module in this folder provides; the modules' own docstrings say how.

    INDEX: the dtype of the framework's indices.
    """

    INDEX: str

    def configure(self, *, device: str, threads: int) -> None: ...
    def description(self) -> dict[str, Any]: ...
    def state(self) -> dict[str, Any]: ...
    def watched(self) -> dict[Any, tuple[str, ...]]: ...
    def use_precision(self, dtype: str) -> None: ...
    def in_float64(self, function: Callable[..., Any]) -> Callable[..., Any]: ...
    def from_numpy(self, array: NDArray[Any], dtype: str) -> Tensor: ...
    def to_numpy(self, tensor: Tensor, dtype: Any = np.float32) -> NDArray[Any]: ...
    def dtype_name(self, tensor: Tensor) -> str: ...
    def is_plain(self, tensor: Any) -> bool: ...
    def copy(self, tensor: Tensor) -> Tensor: ...
    def pool(self, values: NDArray[Any]) -> Any: ...
    def refill(
        self, tensor: Tensor, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> Tensor: ...
    def holds(
        self, tensor: Tensor, pool: Any, offset: int, shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> bool: ...
    def differentiable(self, inputs: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]: ...
    def step(
        self,
        function: Callable[..., Any],
        signature: Signature,
        pass_: str,
        compiled: str | None,
        consumes: Sequence[str] = (),
    ) -> Step: ...
    def module(
        self,
        target: Any,
        fields: Mapping[str, object],
        dtype: str,
        example: Callable[[], Mapping[str, Any]],
    ) -> Any: ...
    def initial_state(self, module: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]: ...
    def module_step(
        self, module: Any, signature: Signature, state: State, pass_: str, compiled: str | None
    ) -> Step: ...
    def witness(self, indices: NDArray[np.int64]) -> Callable[[Tensor], Any]: ...
    def synchronize(self, raw: Raw) -> None: ...
    def warm_up_compiler(self) -> None: ...
    def reset(self) -> None: ...
    def compilations(self) -> int: ...
    def graphs(self) -> dict[str, int]: ...
    def poisoned_memory(self, shape: tuple[int, ...]) -> AbstractContextManager[None]: ...
    def peak_memory(self, call: Bound) -> int | None: ...
    def batch(self, calls: Iterable[Bound]) -> Batch: ...
    def single(self, call: Bound) -> tuple[float, float, Raw]: ...
    def profile(
        self, folder: Path, *, memory: bool, stacks: bool
    ) -> AbstractContextManager[dict[str, list[Any]]]: ...
    def kernel_names(self, names: Iterable[str]) -> list[str]: ...


def load(name: str) -> Framework:
    """The module for the framework `name`, on which Keras will run if it is imported later.

    Raises ImportError if the framework is not installed.
    """
    if name in _UNDER_KERAS and "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = name
    return cast(Framework, importlib.import_module(f"fuseproof.frameworks.{name}"))
