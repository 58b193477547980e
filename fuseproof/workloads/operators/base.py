"""What every operator provides: shapes, inputs, a float64 reference, FLOPs and minimum bytes."""

from __future__ import annotations

import math
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError

T = TypeVar("T")

Arrays = dict[str, NDArray[np.float32]]

# How the inputs of a case are stored. `tf32`: float32 tensors whose products may be TF32. The inputs are not
# rounded to it: how each implementation treats the other 13 bits is part of its error.
DTYPES: Mapping[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "tf32": np.dtype(np.float32),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
}
PASSES = ("forward", "forward_backward")

# Elements that one thread draws or rounds at a time: a billion of them take half a minute on one core.
_PART = 1 << 22

# Rows or heads the float64 reference is computed for: the first, the last and random ones between.
SAMPLES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampled:
    """A part of a tensor in float64: `values == exact_tensor[index]`.

    scale: errors are relative to it; None means the RMS of the values. For a tensor that is zero in exact
        arithmetic it is the RMS of the terms that cancel, whose rounding correct code leaves.
    """

    index: tuple[slice | NDArray[np.int64], ...]
    values: NDArray[np.float64]
    scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class Operator(ABC):
    """One operator at one shape. Subclasses are frozen dataclasses whose fields are the shape."""

    name: ClassVar[str]
    named_shapes: ClassVar[Mapping[str, str]]  # label by name, from published models
    label_pattern: ClassVar[re.Pattern[str]]
    label_example: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")  # that a case may have

    @property
    @abstractmethod
    def label(self) -> str:
        """The shape in one word, as it stands in a case's name; `from_label` is its inverse."""

    @classmethod
    @abstractmethod
    def _from_match(cls, match: re.Match[str]) -> Self: ...

    @property
    @abstractmethod
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names (the keyword arguments of every implementation) and shapes of the inputs, in order."""

    @property
    @abstractmethod
    def output_shape(self) -> tuple[int, ...]: ...

    @property
    def options(self) -> dict[str, object]:
        """Keyword arguments that are not tensors, such as `causal`."""
        return {}

    @abstractmethod
    def flops(self, pass_: str) -> int:
        """Floating-point operations of the textbook algorithm."""

    @abstractmethod
    def reference(self, inputs: Arrays, cotangent: NDArray[np.float32] | None) -> dict[str, Sampled]:
        """Output, and with a cotangent the gradient of every input, in float64 on sampled slices.

        Keys: `output` and `grad_<input>`. `inputs` and `cotangent` are already rounded to the case's dtype,
        so the reference is exact for what the implementations are given.
        """

    def reason_against(self, dtype: str, pass_: str) -> str | None:
        """Why this shape has no case in `dtype` and `pass_`, None if it has one."""
        if dtype in self.dtypes:
            return None
        return f"{self.name} is not computed in {dtype}; there are {', '.join(self.dtypes)}"

    @property
    def longest_axis(self) -> int:
        """An upper bound on the terms of any sum, for the rounding a correct result may have."""
        return max(extent for shape in (*self.input_shapes.values(), self.output_shape) for extent in shape)

    @classmethod
    def from_label(cls, label: str) -> Self:
        """The shape named `label` (`gpt2`) or written out as in case names. Raises UserError."""
        match = cls.label_pattern.fullmatch(cls.named_shapes.get(label, label))
        if match is None:
            raise UserError(
                f"unknown {cls.name} shape {label!r}; write it like {cls.label_example} "
                f"or use one of {', '.join(cls.named_shapes)}"
            )
        operator = cls._from_match(match)
        if any(extent == 0 for shape in operator.input_shapes.values() for extent in shape):
            raise UserError(f"{cls.name} shape {label!r} has an extent of 0; every extent must be at least 1")
        return operator

    def inputs(self, seed: int, dtype: str) -> Arrays:
        """Inputs as float32 arrays that `dtype` holds exactly; the same for every framework."""
        generator = self._generator(seed)
        return {
            name: round_to(self.draw(name, shape, generator), dtype)
            for name, shape in self.input_shapes.items()
        }

    def cotangent(self, seed: int, dtype: str) -> NDArray[np.float32]:
        """The gradient of a loss with respect to the output, drawn like the inputs."""
        generator = self._generator(seed + 1_000_003)
        return round_to(standard_normal(self.output_shape, generator), result_dtype(dtype))

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        """Values of the input `name`; standard normal unless the operator says otherwise."""
        return standard_normal(shape, generator)

    def minimum_bytes(self, pass_: str, dtype: str) -> int:
        """Bytes that must move when every tensor is read or written once per direction."""
        inputs = DTYPES[dtype].itemsize * sum(math.prod(shape) for shape in self.input_shapes.values())
        output = DTYPES[result_dtype(dtype)].itemsize * math.prod(self.output_shape)
        forward = inputs + output
        # Backward reads the inputs again and the cotangent, and writes a gradient for each input.
        backward = inputs + output + inputs
        return forward + (backward if pass_ == "forward_backward" else 0)

    def result_bytes(self, pass_: str, dtype: str) -> int:
        """Bytes of the output and of any gradients: what a call must keep."""
        size: int = DTYPES[result_dtype(dtype)].itemsize
        shapes = [self.output_shape, *(self.input_shapes.values() if pass_ != "forward" else ())]
        elements: int = sum(math.prod(shape) for shape in shapes)
        return size * elements

    def _generator(self, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(f"{self.name}[{self.label}]".encode())])


def tensor_dtype(dtype: str) -> str:
    """The dtype of the tensors of a case, as every framework names it: `float32` for `tf32`."""
    return DTYPES[dtype].name


def result_dtype(dtype: str) -> str:
    """The dtype of a case's output: that of its inputs, but bfloat16 for 8-bit floats."""
    return "bfloat16" if dtype == "float8_e4m3" else tensor_dtype(dtype)


def round_to(array: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """`array` rounded to `dtype` and back to float32."""
    storage = DTYPES[dtype]
    if storage == np.float32:
        return array.astype(np.float32)
    rounded = np.empty(array.shape, np.float32)
    source, target = np.ascontiguousarray(array).reshape(-1), rounded.reshape(-1)

    def fill(part: slice) -> None:
        target[part] = source[part].astype(storage)

    _for_each_part(fill, array.size)
    return rounded


def standard_normal(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """Draws of `generator`: large arrays in parts on all cores, the same for any number of cores."""
    size = math.prod(shape)
    if size <= _PART:
        return generator.standard_normal(shape, dtype=np.float32)
    array = np.empty(shape, np.float32)
    flat = array.reshape(-1)
    children = generator.spawn(-(-size // _PART))

    def fill(part: slice) -> None:
        children[part.start // _PART].standard_normal(dtype=np.float32, out=flat[part])

    _for_each_part(fill, size)
    return array


def in_threads(work: Callable[[T], object], items: Sequence[T]) -> None:
    """`work` on every item, on as many threads as the process may use cores; NumPy leaves them alone."""
    workers = min(len(items), len(os.sched_getaffinity(0)))
    if workers <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, items))


def _for_each_part(work: Callable[[slice], object], size: int) -> None:
    in_threads(work, [slice(start, min(start + _PART, size)) for start in range(0, size, _PART)])


def rms(values: NDArray[np.float64]) -> float:
    """Root of the mean of the squares."""
    return float(np.sqrt(np.mean(values**2)))


def sample(length: int, count: int = SAMPLES) -> NDArray[np.int64]:
    """Sorted indices into an axis: both ends (where tiles are ragged) and random ones between."""
    if length <= count:
        return np.arange(length)
    end = max(1, count // 8)
    middle = np.random.default_rng(length).choice(
        np.arange(end, length - end), size=count - 2 * end, replace=False
    )
    return np.sort(np.concatenate([np.arange(end), middle, np.arange(length - end, length)]))
