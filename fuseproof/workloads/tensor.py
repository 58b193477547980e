"""What a tensor of a workload is: its shape and how its values are stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

# How the tensors of a case are stored. `tf32`: float32 tensors whose products may be TF32. The inputs are not
# rounded to it: how each implementation treats the other 13 bits is part of its error.
DTYPES: Mapping[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "tf32": np.dtype(np.float32),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
}
PASSES = ("forward", "forward_backward")  # of an operator
MODULE_PASSES = ("inference", "training_step")
ALL_PASSES = (*PASSES, *MODULE_PASSES)
# Those that start from values of the outputs' shapes: cotangents of an operator, targets of a module.
STARTED_PASSES = ("forward_backward", "training_step")

# Integers as wide as a framework's own indices.
INDEX = "index"
# What a tensor may be whatever the dtype of the case.
FIXED = ("float32", "float16", "bfloat16", "int32", "int64", "int16", "int8", "uint8", "bool", INDEX)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a workload, by its shape.

    dtype: one of FIXED, or empty for the dtype of the case.
    """

    shape: tuple[int, ...]
    dtype: str = ""

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        """Whether its elements are real numbers, which may have gradients."""
        return not self.dtype or "float" in self.dtype

    def bytes(self, dtype: str) -> int:
        """Its size in a case in `dtype`; indices of 4 bytes, the least that a framework has."""
        return self.size * numpy_dtype(self.dtype or dtype, index=np.dtype(np.int32)).itemsize


def numpy_dtype(name: str, *, index: np.dtype | None = None) -> np.dtype:
    """How NumPy stores a dtype of a case or one of FIXED; `index` stands for INDEX, by default int64."""
    if name == INDEX:
        return np.dtype(np.int64) if index is None else index
    return DTYPES[name] if name in DTYPES else np.dtype(name)


def tensor_dtype(dtype: str) -> str:
    """The dtype of the tensors of a case, as every framework names it: `float32` for `tf32`."""
    return DTYPES[dtype].name


def result_dtype(dtype: str) -> str:
    """The dtype of a case's output: that of its inputs, but bfloat16 for 8-bit floats."""
    return "bfloat16" if dtype == "float8_e4m3" else tensor_dtype(dtype)
