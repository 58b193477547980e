"""Arrays of a case as a framework's tensors, in the layout an implementation takes, and its result back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.cases import Case
from fuseproof.frameworks import Framework, Result, WrongResultError
from fuseproof.measure.values import Values, cotangent_of
from fuseproof.workloads.described import PARAMETERS
from fuseproof.workloads.tensor import INDEX, STARTED_PASSES, numpy_dtype, result_dtype, tensor_dtype
from fuseproof.workloads.workload import Arrays

# The order of axes, each its own inverse.
_LAYOUT_AXES = {"bhsd": (0, 1, 2, 3), "bshd": (0, 2, 1, 3), "channels_last": (0, 1, 2, 3)}


def to_device(
    framework: Framework, case: Case, arrays: Arrays, cotangents: Arrays, layout: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs and the cotangents, by output, as new tensors on the device."""
    workload = case.workload

    def convert(array: NDArray[Any], dtype: str) -> Any:
        return framework.from_numpy(to_layout(array, layout), framework.INDEX if dtype == INDEX else dtype)

    own, result = tensor_dtype(case.dtype), result_dtype(case.dtype)
    ordered = workload.in_order(arrays, case.dtype)
    inputs = {
        name: convert(ordered[name], each.dtype or own) for name, each in workload.inputs_by_name.items()
    }
    if case.pass_ not in STARTED_PASSES:
        return inputs, {}
    started = {
        name: convert(array, workload.cotangents[name].dtype or result) for name, array in cotangents.items()
    }
    return framework.differentiable(inputs, workload.differentiable), started


class Pools:
    """The pools of `Values` on a framework's device, and windows of them in tensors."""

    def __init__(self, framework: Framework, case: Case, values: Values) -> None:
        self._framework = framework
        self._values = values
        index = np.dtype(framework.INDEX)
        self._dtypes = {
            name: numpy_dtype(each.dtype or case.dtype, index=index)
            for name, each in case.workload.inputs_by_name.items()
        }
        self._dtypes |= {
            cotangent_of(name): numpy_dtype(each.dtype or result_dtype(case.dtype))
            for name, each in case.workload.cotangents.items()
        }
        self._pools = {name: self._pool(name, pool) for name, pool in values.pools.items()}

    def refill(
        self, inputs: dict[str, Any], cotangents: dict[str, Any], draw: int, layout: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tensors with the values of `draw`; the same tensors wherever the framework allows that."""
        names = {cotangent_of(name): name for name in cotangents}
        tensors = {**inputs, **{name: cotangents[output] for name, output in names.items()}}
        for name, window in self._values.windows(draw).items():
            pool = self._pools[name] if name in self._pools else self._pool(name, window.pool)
            axes = _axes(window.shape, layout)
            tensors[name] = self._framework.refill(tensors[name], pool, window.offset, window.shape, axes)
        return {name: tensors[name] for name in inputs}, {names[name]: tensors[name] for name in names}

    def changed(self, tensors: dict[str, Any], draw: int, layout: str) -> list[str]:
        """Names of the tensors, of `Values.tensors`, that do not have the values of `draw`."""
        windows = self._values.windows(draw)
        found = []
        for name, tensor in tensors.items():
            window = windows[name]
            pool = self._pools[name] if name in self._pools else self._pool(name, window.pool)
            if not self._framework.holds(
                tensor, pool, window.offset, window.shape, _axes(window.shape, layout)
            ):
                found.append(name)
        return found

    def _pool(self, name: str, values: NDArray[Any]) -> Any:
        return self._framework.pool(values.astype(self._dtypes[name], copy=False))


def to_arrays(
    framework: Framework, case: Case, result: Result, layout: str
) -> dict[str, NDArray[np.float32]]:
    """The outputs and every gradient (`grad_x`) as float32 in the workload's own layout.

    Raises WrongResultError as `refuse_other` does.
    """
    refuse_other(framework, case, result, layout)
    return {name: to_layout(framework.to_numpy(tensor), layout) for name, tensor in result.items()}


def refuse_other(framework: Framework, case: Case, result: Result, layout: str) -> None:
    """Raise WrongResultError for a result that lacks a tensor or has one more, is no plain tensor, or has
    another dtype or shape than the case says.
    """
    expected = case.workload.results(case.pass_)
    if result.keys() != expected.keys():
        raise WrongResultError(other_names(list(result), list(expected)))
    for name, tensor in result.items():
        if tensor is None or not hasattr(tensor, "dtype"):
            raise WrongResultError(f"{name} is {type(tensor).__name__}, not a tensor")
        if not framework.is_plain(tensor):
            raise WrongResultError(
                f"{name} is {type(tensor).__name__}, not a plain tensor of the framework on the device: its "
                "values may not be there yet"
            )
        wanted = expected[name]
        dtype = wanted.dtype or result_dtype(case.dtype)
        allowed = [framework.INDEX, "int64", "int32"] if dtype == INDEX else [dtype]
        stored = name.startswith(("grad_", PARAMETERS, "buffers."))  # in the dtype of the case
        if not wanted.dtype and not stored:  # under autocast the last operation says which of the two it is
            allowed.append(result_dtype(case.workload.computed_in(case.dtype)))
        if framework.dtype_name(tensor) not in allowed:
            raise WrongResultError(f"{name} is {framework.dtype_name(tensor)} instead of {allowed[0]}")
        found, shape = tuple(tensor.shape), wanted.shape
        if len(found) == 4:
            found = tuple(found[axis] for axis in _LAYOUT_AXES[layout])
        if found != shape:
            raise WrongResultError(f"{name} has shape {found} instead of {shape}")


def other_names(found: list[str], expected: list[str]) -> str:
    """In what the names of results differ from the expected ones, as a sentence."""
    absent = [name for name in expected if name not in found]
    more = [name for name in found if name not in expected]
    parts = [f"{', '.join(absent)} is missing"] if absent else []
    if more:
        parts.append(f"{', '.join(more)} is one too many")
    return f"of the results {' and '.join(parts)}"


def write_results(path: Path, arrays: Mapping[str, NDArray[np.float32]], case: Case) -> None:
    """Write outputs and gradients one after the other. Raises WrongResultError if one is missing."""
    expected = case.workload.results(case.pass_)
    if arrays.keys() != expected.keys():
        raise WrongResultError(other_names(list(arrays), list(expected)))
    with path.open("wb") as file:
        for name in expected:
            file.write(np.ascontiguousarray(arrays[name]).data)


def _axes(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    return _LAYOUT_AXES[layout] if len(shape) == 4 else tuple(range(len(shape)))


def to_layout(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """An array of four axes in an implementation's order of axes, or back from it."""
    if array.ndim != 4:
        return array
    if layout == "channels_last":  # the same axes, in another order in memory
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array.transpose(_LAYOUT_AXES[layout]))
