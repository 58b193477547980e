"""What every operator provides: shapes, inputs, a float64 reference, FLOPs and minimum bytes.

Users write theirs in the same form: a class with the shape as fields, which says how inputs are drawn and
what is right.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError
from fuseproof.workloads import labels, trees
from fuseproof.workloads.differences import gradients
from fuseproof.workloads.tensor import DTYPES, INDEX, PASSES, Tensor, numpy_dtype, result_dtype, tensor_dtype
from fuseproof.workloads.workload import Arrays, Sampled, Workload, whole

__all__ = [
    "DTYPES", "PASSES", "SAMPLES", "Arrays", "Operator", "Sampled", "in_threads", "result_dtype", "rms",
    "round_to", "sample", "standard_normal", "tensor_dtype",
]  # fmt: skip

T = TypeVar("T")

# Elements that one thread draws or rounds at a time: a billion of them take half a minute on one core.
_PART = 1 << 22

# Rows or heads the float64 reference is computed for: the first, the last and random ones between.
SAMPLES = 64


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Operator(Workload):
    """One operator at one shape: a class whose annotated fields (int, bool, float, str) are the shape.

    Subclasses become frozen keyword-only dataclasses. What a subclass has to say is how its inputs are drawn
    and what is right: either `input_shapes` (with `draw`), `output_shape` and `reference`, which scale to
    shapes of gigabytes, or `draw_inputs` and `forward`, which take three lines.

    name:         of the operator, by default the class's own in snake case.
    named_shapes: shapes by name, each a label or a mapping of the fields.
    dtypes, passes: that a case may have.
    input_dtypes: inputs whose dtype is not that of the case: one of `tensor.FIXED`, such as `index`.
    reference_by: the name of an implementation that is the reference, computed in float64, where there is no
        closed form; its gradients are then the reference of gradients.
    reference_dtype: what `reference_by` is computed in; empty for the dtype of the case, where it has no
        float64. Then nothing but that implementation vouches for the result.
    random: a call draws random numbers, as dropout does: its results are compared with the distribution of
        the reference's, for which an implementation has to stand.
    """

    name: ClassVar[str] = ""
    named_shapes: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {}
    label_example: ClassVar[str] = ""
    label_pattern: ClassVar[re.Pattern[str] | None] = None  # where the label is not made of the fields
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")
    passes: ClassVar[tuple[str, ...]] = PASSES
    input_dtypes: ClassVar[Mapping[str, str]] = {}
    reference_by: ClassVar[str] = ""
    reference_dtype: ClassVar[str] = "float64"
    random: ClassVar[bool] = False

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        dataclass(frozen=True, kw_only=True)(cls)
        if not cls.__dict__.get("name"):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if cls.label_pattern is None:
            cls.label_example = labels.example(cls)

    # What a user of the short form writes.

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        return {name: self.draw(name, shape, generator) for name, shape in self.input_shapes.items()}

    def forward(self, **inputs: NDArray[Any]) -> Any:
        """What is right, in NumPy: an array, a tuple or a dictionary. Inputs are float64 or integers."""
        raise UserError(
            f"{self.name}: nothing says what is right; give the class `forward` (NumPy, in float64) or "
            "`reference_by`, the name of an implementation"
        )

    # What an operator of the long form writes.

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the inputs, in the order in which every implementation takes them."""
        return {name: tensor.shape for name, tensor in self.inputs_by_name.items()}

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.outputs_by_name[trees.OUTPUT].shape

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of an operator with several outputs."""
        return {trees.OUTPUT: self.output_shape}

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[Any]:
        """Values of the input `name`; standard normal unless the operator says otherwise."""
        return standard_normal(shape, generator)

    def reference(
        self,
        inputs: Arrays,
        cotangent: Any,
        generator: np.random.Generator | None = None,
    ) -> dict[str, Sampled]:
        """As `Workload.expected`; the cotangent is an array or None, of several outputs a dictionary."""
        generator = generator or np.random.default_rng()
        exact = {
            name: array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array
            for name, array in inputs.items()
        }
        found = {name: whole(values) for name, values in self._forward(exact).items()}
        if cotangent is None:
            return found
        of = cotangent if isinstance(cotangent, dict) else {trees.OUTPUT: cotangent}
        return found | gradients(self._forward, exact, self.differentiable, of, generator)

    # What measuring asks.

    @property
    def label(self) -> str:
        return labels.of(self)

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> Self:
        """The operator in a match of `label_pattern`."""
        raise NotImplementedError

    @property
    def pooled(self) -> bool:
        return not _overrides(self, "draw_inputs")

    @property
    def inputs_by_name(self) -> Mapping[str, Tensor]:
        if not _overrides(self, "input_shapes"):
            return self._looked[0]
        return {
            name: Tensor(shape=tuple(shape), dtype=self.input_dtypes.get(name, ""))
            for name, shape in self.input_shapes.items()
        }

    @property
    def outputs_by_name(self) -> Mapping[str, Tensor]:
        if _overrides(self, "output_shape") or _overrides(self, "output_shapes"):
            return {name: Tensor(shape=tuple(shape)) for name, shape in self.output_shapes.items()}
        return self._looked[1]

    @property
    def arguments(self) -> Mapping[str, trees.Skeleton]:
        return self._looked[2] if _overrides(self, "draw_inputs") else super().arguments

    def flops(self, pass_: str) -> int | None:
        return None

    def minimum_bytes(self, pass_: str, dtype: str) -> int | None:
        """Bytes that must move when every tensor is read or written once per direction.

        None for an operator of the short form: nobody has said that it reads all of its inputs.
        """
        if not _overrides(self, "input_shapes"):
            return None
        inputs = sum(tensor.bytes(dtype) for tensor in self.inputs_by_name.values())
        outputs = sum(tensor.bytes(result_dtype(dtype)) for tensor in self.outputs_by_name.values())
        gradients = sum(self.inputs_by_name[name].bytes(dtype) for name in self.differentiable)
        # Backward reads the inputs again and the cotangent, and writes the gradients.
        backward = inputs + outputs + gradients
        return inputs + outputs + (backward if pass_ == "forward_backward" else 0)

    def expected(
        self, inputs: Arrays, cotangents: Arrays, generator: np.random.Generator | None = None
    ) -> dict[str, Sampled]:
        one = cotangents.get(trees.OUTPUT) if self.has_one_output else cotangents or None
        return self.reference(inputs, one, generator)

    @classmethod
    def from_label(cls, label: str) -> Self:
        """The shape named `label` (`gpt2`) or written out as in case names. Raises UserError."""
        named = cls.named_shapes.get(label, label)
        if not isinstance(named, str):
            return labels.made(cls, named, of=f"{cls.name} shape {label!r}")
        if cls.label_pattern is None:
            shape = labels.parse(cls, named)
            operator = None if shape is None else labels.made(cls, shape, of=f"{cls.name} shape {label!r}")
        else:
            match = cls.label_pattern.fullmatch(named)
            operator = None if match is None else cls._from_match(match)
        if operator is None:
            known = f" or use one of {', '.join(cls.named_shapes)}" if cls.named_shapes else ""
            raise UserError(f"unknown {cls.name} shape {label!r}; write it like {cls.label_example}{known}")
        if _overrides(operator, "input_shapes") and any(
            extent == 0 for shape in operator.input_shapes.values() for extent in shape
        ):
            raise UserError(f"{cls.name} shape {label!r} has an extent of 0; every extent must be at least 1")
        return operator

    def inputs(self, seed: int, dtype: str) -> Arrays:
        """Inputs as arrays that `dtype` holds exactly; the same for every framework."""
        drawn = trees.flatten(self.draw_inputs(self._generator(seed)))
        return self.in_order(rounded(drawn, self.inputs_by_name, dtype), dtype)

    def cotangent(self, seed: int, dtype: str) -> Any:
        """The gradient of a loss with respect to the output, drawn like the inputs; of several outputs a
        dictionary, as `reference` takes it.
        """
        generator = self._generator(seed + 1_000_003)
        drawn = {name: standard_normal(tensor.shape, generator) for name, tensor in self.cotangents.items()}
        found = rounded(drawn, self.cotangents, result_dtype(dtype))
        return found[trees.OUTPUT] if self.has_one_output else found

    def _generator(self, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(f"{self.name}[{self.label}]".encode())])

    def _forward(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """The outputs by name, of flat inputs."""
        given = {name: trees.fill(nesting, inputs) for name, nesting in self.arguments.items()}
        return trees.results(self.forward(**given))

    @cached_property
    def _looked(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, trees.Skeleton]]:
        """Inputs, outputs and arguments as one draw has them. Raises UserError for what can be none."""
        drawn = self.draw_inputs(self._generator(0))
        if not isinstance(drawn, Mapping) or not drawn:
            raise UserError(f"{self.name}: draw_inputs must return a dictionary of inputs by name")
        flat = trees.flatten(drawn)
        inputs = {
            name: Tensor(shape=array.shape, dtype=_dtype_of(self, name, array))
            for name, array in flat.items()
        }
        nesting = {str(name): trees.skeleton(value, str(name)) for name, value in drawn.items()}
        if self.reference_by or not _overrides(self, "forward"):
            return inputs, {}, nesting
        exact = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in flat.items()}
        given = {name: trees.fill(each, exact) for name, each in nesting.items()}
        outputs = {
            name: Tensor(shape=np.shape(value), dtype=_dtype_of(self, name, np.asarray(value)))
            for name, value in trees.results(self.forward(**given)).items()
            if value is not None
        }
        return inputs, outputs, nesting


def _dtype_of(operator: Operator, name: str, array: NDArray[Any]) -> str:
    """The dtype of a tensor that users' code made: real numbers have that of the case."""
    if name in operator.input_dtypes:
        return operator.input_dtypes[name]
    if array.dtype.kind == "f":
        return ""
    found = INDEX if array.dtype == np.int64 else array.dtype.name
    try:
        Tensor(shape=(), dtype=found).bytes("float32")
    except TypeError:
        found = ""
    if not found or array.dtype.kind not in "iub":
        raise UserError(f"{operator.name}: {name} is an array of {array.dtype}; use real numbers or integers")
    return found


def _overrides(operator: Operator, attribute: str) -> bool:
    """Whether the class of the operator has said what `attribute` is."""
    return inspect.getattr_static(type(operator), attribute) is not inspect.getattr_static(
        Operator, attribute
    )


def rounded(arrays: Arrays, tensors: Mapping[str, Tensor], dtype: str) -> Arrays:
    """The arrays as their tensors hold them in a case of `dtype`: real numbers as float32."""
    found = {}
    for name, array in arrays.items():
        tensor = tensors[name]
        own = numpy_dtype(tensor.dtype or dtype)
        found[name] = round_to(array, tensor.dtype or dtype) if tensor.floating else np.asarray(array, own)
    return found


def round_to(array: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """`array` rounded to `dtype` and back to float32."""
    storage = numpy_dtype(dtype)
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


def sample(length: int, generator: np.random.Generator, count: int = SAMPLES) -> NDArray[np.int64]:
    """Sorted indices into an axis: both ends (where tiles are ragged) and ones drawn between."""
    if length <= count:
        return np.arange(length)
    end = max(1, count // 8)
    middle = generator.choice(np.arange(end, length - end), size=count - 2 * end, replace=False)
    return np.sort(np.concatenate([np.arange(end), middle, np.arange(length - end, length)]))
