"""Arrays of a case as a framework's tensors, in the layout an implementation takes, and its result back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.cases import Case
from fuseproof.child_process import PlainError
from fuseproof.frameworks import Framework, Result
from fuseproof.workloads.operators import result_dtype, tensor_dtype
from fuseproof.workloads.operators.base import Arrays

_LAYOUT_AXES = {"bhsd": (0, 1, 2, 3), "bshd": (0, 2, 1, 3)}  # each is its own inverse


class WrongResultError(PlainError):
    """The implementation broke a rule that no tolerance covers; the message says which."""


def to_device(
    framework: Framework, case: Case, arrays: Arrays, cotangent: NDArray[np.float32] | None, layout: str
) -> tuple[dict[str, Any], Any]:
    """The inputs and the cotangent, None of a forward pass, as new tensors on the device."""

    def convert(array: NDArray[np.float32], dtype: str) -> Any:
        return framework.from_numpy(_to_layout(array, layout), dtype)

    inputs = {name: convert(array, tensor_dtype(case.dtype)) for name, array in arrays.items()}
    if cotangent is None:
        return inputs, None
    return framework.differentiable(inputs), convert(cotangent, result_dtype(case.dtype))


def to_arrays(
    framework: Framework, case: Case, result: Result, layout: str
) -> dict[str, NDArray[np.float32]]:
    """The output and every gradient (`grad_x`) as float32 in the operator's own layout.

    Raises WrongResultError for one that is not a tensor, or has another dtype or shape than the case says.
    """
    output, gradients = result
    expected = {"output": (output, case.operator.output_shape)}
    for name, gradient in gradients.items():
        expected[f"grad_{name}"] = (gradient, case.operator.input_shapes[name])
    found, dtype = {}, result_dtype(case.dtype)
    for name, (tensor, shape) in expected.items():
        if tensor is None or not hasattr(tensor, "dtype"):
            raise WrongResultError(f"{name} is {type(tensor).__name__}, not a tensor")
        if framework.dtype_name(tensor) != dtype:
            raise WrongResultError(f"{name} is {framework.dtype_name(tensor)} instead of {dtype}")
        array = _to_layout(framework.to_numpy(tensor), layout)
        if array.shape != shape:
            raise WrongResultError(f"{name} has shape {array.shape} instead of {shape}")
        found[name] = array
    return found


def _to_layout(array: NDArray[np.float32], layout: str) -> NDArray[np.float32]:
    if array.ndim != 4:
        return array
    return np.ascontiguousarray(array.transpose(_LAYOUT_AXES[layout]))
