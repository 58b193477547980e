"""What is checked: a function of tensors, its arguments, and how draws of them are made."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.checking.libraries import Library, Tensor, load
from fuseproof.errors import UserError
from fuseproof.frameworks import calling
from fuseproof.implementations import framework_of
from fuseproof.workloads import arguments, trees
from fuseproof.workloads.operators.base import round_to
from fuseproof.workloads.tensor import DTYPES, result_dtype, tensor_dtype

# By the name that NumPy and the frameworks have for it.
_CASE_DTYPES: Mapping[str, str] = {"float8_e4m3fn": "float8_e4m3", "float64": "float32"}
# Seeds of two draws are so far apart that a caller's own `seed + 1` meets neither.
_SECOND = 7919


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """One set of arguments.

    tensors: by name, of the library, in the dtype and on the device of the point.
    nesting: by argument, how they are put together.
    """

    tensors: Mapping[str, Tensor]
    nesting: Mapping[str, trees.Skeleton]
    library: Library

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Their values: float64 of real numbers."""
        return {name: self.library.array(tensor) for name, tensor in self.tensors.items()}

    @property
    def shown(self) -> str:
        """`x float32[5, 129], w float32[129]`."""
        return ", ".join(
            f"{name} {self.library.dtype_name(tensor)}{list(self.arrays[name].shape)}"
            for name, tensor in self.tensors.items()
        )

    @cached_property
    def real(self) -> tuple[str, ...]:
        """The tensors of real numbers, which may have gradients."""
        return tuple(name for name, array in self.arrays.items() if array.dtype.kind == "f")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A function with the arguments of one point of the grid.

    given: a function of a seed, or the arguments.
    dtype: of the case, as its error limits are named.
    """

    function: Any
    given: Any
    library: Library
    dtype: str
    device: str
    seed: int

    @classmethod
    def of(cls, function: Any, given: Any, *, dtype: str, device: str, seed: int) -> Subject:
        """Raises UserError for arguments that are none, or of several frameworks, or of an unknown dtype."""
        if dtype and dtype not in DTYPES:
            raise UserError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)}")
        leaves = trees.flatten(arguments.named(_raw(given, seed), []))
        if not leaves:
            raise UserError("the inputs hold no array; there is nothing to compute with")
        kinds = {found for leaf in leaves.values() if (found := framework_of.tensor(leaf))}
        if len(kinds) > 1:
            raise UserError(f"the inputs are tensors of {' and '.join(sorted(kinds))}; give them in one")
        own = kinds.pop() if kinds else framework_of.function(function) or "numpy"
        try:
            library = load(own)
        except ImportError as error:
            raise UserError(f"{own} is not installed ({error}); pip install 'fuseproof[{own}]'") from None
        return cls(
            function=function,
            given=given,
            library=library,
            dtype=dtype or _case_dtype(leaves),
            device=device,
            seed=seed,
        )

    @property
    def fixed(self) -> bool:
        """Whether the arguments are the same for every seed."""
        return not callable(self.given)

    @cached_property
    def first(self) -> Draw:
        return self._draw(_raw(self.given, self.seed))

    @cached_property
    def second(self) -> Draw | None:
        """Other values for the same arguments; None if fixed ones have none.

        Of fixed arguments the real numbers in reverse: valid where the original ones are, such as
        probabilities or a symmetric matrix. Integers may be indices, and stay.
        """
        if not self.fixed:
            return self._draw(_raw(self.given, self.seed + _SECOND))
        first = self.first
        tensors = dict(first.tensors)
        other = False
        for name in first.real:
            values = first.arrays[name].reshape(-1)[::-1].reshape(first.arrays[name].shape)
            copy = self.library.placed(first.tensors[name]).tensor
            if not self.library.overwrite(copy, values):
                copy = self.library.tensor(
                    values, self.library.dtype_name(copy), self.library.device_name(copy)
                )
            other = other or not np.array_equal(self.library.array(copy), first.arrays[name], equal_nan=True)
            tensors[name] = copy
        return Draw(tensors=tensors, nesting=first.nesting, library=self.library) if other else None

    @property
    def longest(self) -> int:
        """The longest axis of the inputs, for the rounding of sums."""
        return max((n for array in self.first.arrays.values() for n in array.shape), default=1)

    def call(self, function: Any, nesting: Mapping[str, trees.Skeleton], tensors: Mapping[str, Any]) -> Any:
        """What a function returns for these tensors, given as its users give them."""
        filled = {name: trees.fill(each, tensors) for name, each in nesting.items()}
        return calling.bound(function, calling.by_position(function, list(filled)), filled, {})()

    def cotangent(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """A gradient of a loss with respect to an output: standard normal, rounded to the case's dtype."""
        generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        drawn = generator.standard_normal(shape, np.float32)
        return round_to(np.asarray(drawn), result_dtype(self.dtype)).astype(np.float64)

    def _draw(self, raw: Any) -> Draw:
        named = arguments.named(raw, arguments.parameters(self.function))
        nesting = {name: trees.skeleton(value, name) for name, value in named.items()}
        leaves = trees.flatten(named)
        usual = _case_dtype(leaves)
        tensors = {name: self._own(name, leaf, usual) for name, leaf in leaves.items()}
        return Draw(tensors=tensors, nesting=nesting, library=self.library)

    def _own(self, name: str, leaf: Any, usual: str) -> Tensor:
        """A leaf as a tensor of the library; real numbers in the dtype of the case, if theirs is `usual`.

        Those of another, such as float32 statistics beside bfloat16, keep it.
        """
        found = _dtype_name(leaf)
        wanted = ""
        if _CASE_DTYPES.get(found, found) == usual:
            wanted = tensor_dtype(self.dtype)
        elif found == "float64":
            wanted = "float32"
        if framework_of.tensor(leaf) or self.library.NAME == "NumPy":
            try:
                self.library.array(leaf)
            except TypeError as error:
                raise UserError(f"the input {name} is {error}") from None
            return self.library.converted(leaf, wanted, self.device)
        array = np.asarray(leaf)
        return self.library.tensor(array, wanted or array.dtype.name, self.device)


def name_of(function: Any) -> str:
    """What a function is called in messages."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):  # of a functools.partial
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def accepts(function: Callable[..., Any], name: str, *, by_name: bool = False) -> bool:
    """Whether a function takes this keyword; `by_name`: whether it has a parameter that is called so."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(each.name == name or (each.kind is each.VAR_KEYWORD and not by_name) for each in parameters)


def _raw(given: Any, seed: int) -> Any:
    return given(seed) if callable(given) else given


def _case_dtype(leaves: Mapping[str, Any]) -> str:
    """The dtype of the first leaf of real numbers, as cases name it."""
    found = (_CASE_DTYPES.get(name, name) for name in map(_dtype_name, leaves.values()))
    return next((name for name in found if name in DTYPES), "float32")


def _dtype_name(leaf: Any) -> str:
    return str(getattr(leaf.dtype, "name", leaf.dtype)).removeprefix("torch.")
