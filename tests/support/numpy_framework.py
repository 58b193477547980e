"""NumPy for a framework: what a worker asks of one, with a clock that the test holds."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from fuseproof.cases import Case
from fuseproof.frameworks import Batch, Step, host_view
from fuseproof.frameworks.calling import Signature
from fuseproof.measure.values import Values
from fuseproof.workloads import trees
from fuseproof.workloads.operators import DTYPES

GROUP = "layer_norm[7x13-float32-forward]"
SEED = 5


class NumpyFramework(SimpleNamespace):
    """The functions of a framework's module. Every call takes one second of its clock.

    called:   the inputs of each call.
    on_call:  what else happens in a call, given its number.
    settings: what `state` says, to be changed by an implementation.
    replaces: whether `refill` has to make a new tensor, as on a GPU that lets nobody write.
    """

    def __init__(self) -> None:
        super().__init__(
            INDEX="int64",
            now=0.0,
            synchronized=0,
            compiled=0,
            called=[],
            on_call=lambda number: None,
            settings={"threads": 1},
            replaces=False,
        )

    def state(self) -> dict[str, Any]:
        return dict(self.settings)

    def watched(self) -> dict[Any, tuple[str, ...]]:
        return {}

    def use_precision(self, dtype: str) -> None:
        self.settings["precision"] = dtype

    def from_numpy(self, array: Any, dtype: str) -> Any:
        return array.astype(DTYPES.get(dtype, dtype), order="K")

    def to_numpy(self, tensor: Any, dtype: Any = np.float32) -> Any:
        return np.array(tensor, dtype=dtype)

    def dtype_name(self, tensor: Any) -> str:
        return str(tensor.dtype)

    def is_plain(self, tensor: Any) -> bool:
        return type(tensor) is np.ndarray

    def copy(self, tensor: Any) -> Any:
        return tensor.copy()

    def pool(self, values: Any) -> Any:
        return values

    def refill(self, tensor: Any, pool: Any, offset: int, shape: Any, axes: Any) -> Any:
        window = host_view.window(pool, offset, shape, axes)
        if self.replaces:
            return np.array(window)
        np.copyto(tensor, window)
        return tensor

    def holds(self, tensor: Any, pool: Any, offset: int, shape: Any, axes: Any) -> bool:
        return np.array_equal(tensor, host_view.window(pool, offset, shape, axes))

    def differentiable(self, inputs: Any, names: Sequence[str]) -> Any:
        return inputs

    def step(
        self,
        function: Callable[..., Any],
        signature: Signature,
        pass_: str,
        compiled: str | None,
        consumes: Sequence[str] = (),
    ) -> Step:
        def call(inputs: dict[str, Any], cotangents: dict[str, Any]) -> Any:
            self.called.append(inputs)
            self.now += 1.0
            self.on_call(len(self.called))
            if pass_ == "forward":
                return function(**signature.filled(inputs), **signature.options)
            return function(**inputs, cotangent=cotangents["output"], **signature.options)

        return Step(
            bind=functools.partial(functools.partial, call),
            unpack=trees.results
            if pass_ == "forward"
            else lambda raw: trees.results(raw[0]) | {f"grad_{name}": each for name, each in raw[1].items()},
        )

    def witness(self, indices: Any) -> Callable[[Any], Any]:
        return lambda tensor: np.asarray(tensor).reshape(-1)[indices]

    def synchronize(self, raw: Any) -> None:
        self.synchronized += 1

    def warm_up_compiler(self) -> None: ...

    def reset(self) -> None: ...

    def graphs(self) -> dict[str, int]:
        return {}

    def compilations(self) -> int:
        return self.compiled

    def poisoned_memory(self, shape: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def peak_memory(self, call: Callable[[], Any]) -> int:
        call()
        return 42

    def batch(self, calls: Iterable[Callable[[], Any]]) -> Batch:
        started = self.now
        for call in calls:
            raw = call()
        return Batch(host=self.now - started, device=None, last=raw)

    def single(self, call: Callable[[], Any]) -> tuple[float, float, Any]:
        started = self.now
        raw = call()
        return self.now - started, self.now - started, raw


def right(x: Any, weight: Any, bias: Any) -> Any:
    """The layer norm."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return ((x - mean) / np.sqrt(variance + np.float32(1e-5)) * weight + bias).astype(x.dtype)


class Cached:
    """A layer norm that computes when it sees another array, and again every `every` calls."""

    def __init__(self, every: int = 10**9) -> None:
        self._known: dict[int, Any] = {}
        self._calls = 0
        self._every = every

    def __call__(self, x: Any, weight: Any, bias: Any) -> Any:
        self._calls += 1
        if id(x) not in self._known or self._calls % self._every == 0:
            self._known[id(x)] = right(x, weight, bias)
        return self._known[id(x)]


def batches_of(framework: NumpyFramework) -> list[int]:
    """The numbers of calls of each batch from now on; the list grows."""
    sizes: list[int] = []
    batch = framework.batch

    def counted(calls: Iterable[Any]) -> Batch:
        calls = list(calls)
        sizes.append(len(calls))
        return batch(calls)

    framework.batch = counted
    return sizes


def mutates(x: Any, weight: Any, bias: Any) -> Any:
    """A layer norm that changes an input."""
    output = right(x, weight, bias)
    x += 1
    return output


def writes_over_x(x: Any, weight: Any, bias: Any) -> Any:
    """A layer norm in place."""
    x[:] = right(x, weight, bias)
    return x


def values(draw: int, group: str = GROUP) -> Any:
    """The inputs of a draw."""
    return Values(Case.from_group(group), SEED).arrays(draw)[0]
