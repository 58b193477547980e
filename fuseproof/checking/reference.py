"""What is right for a draw: a function in float64, of NumPy or of the same library; the baseline's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fuseproof.checking.judging import FEW, Expected
from fuseproof.checking.subject import Draw, Subject, name_of
from fuseproof.errors import UserError
from fuseproof.implementations import framework_of
from fuseproof.workloads import trees
from fuseproof.workloads.differences import gradients
from fuseproof.workloads.operators.base import round_to
from fuseproof.workloads.tensor import result_dtype
from fuseproof.workloads.workload import Sampled, whole

Side = Literal["numpy", "own"]
# Draws beside the first by which the baseline's error in few elements is known, and how far from it they are.
_OTHERS, _NEAR = 4, 0.02


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What stands for what is right.

    exact:    the function that is computed in float64.
    baseline: the function that is computed in the case's dtype and sets the limits; None: the project's.
    itself:   whether `exact` is the function that is checked.
    notes:    what a reader must know of that.
    """

    subject: Subject
    exact: Any
    baseline: Any | None
    itself: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, subject: Subject, reference: Any | None, baseline: Any | None) -> Reference:
        """Raises UserError for one that is not callable or of another framework."""
        for name, given in (("reference", reference), ("baseline", baseline)):
            if given is not None and not callable(given):
                raise UserError(f"{name} is {type(given).__name__}, not a function")
        if reference is not None:
            return cls(
                subject=subject, exact=reference, baseline=baseline or reference, itself=False, notes=()
            )
        if baseline is not None:
            note = f"what is right is the baseline, {name_of(baseline)}, in float64"
            return cls(subject=subject, exact=baseline, baseline=baseline, itself=False, notes=(note,))
        function = subject.function
        if (original := subject.library.uncompiled(function)) is not None:
            note = "what is right is the function before it was compiled, in float64"
            return cls(subject=subject, exact=original, baseline=original, itself=False, notes=(note,))
        note = (
            "what is right is the function itself in float64: rounding is checked, and nothing that is wrong "
            "in both; give reference="
        )
        return cls(subject=subject, exact=function, baseline=None, itself=True, notes=(note,))

    def expected(
        self, draw: Draw, started: Sequence[str] | None = None, names: Sequence[str] = ()
    ) -> Expected:
        """What is right for the results of a draw.

        started: the outputs that gradients start from, and `names` the inputs that have one; None: no
            gradients.
        """
        exact, shapes = self._exact(draw, started, names)
        found, dtypes = self._baseline(draw, started, names)
        few = found and any(array.size < FEW for array in found.values())
        others = []
        for other in self._others(draw) if few else ():
            with contextlib.suppress(
                UserError
            ):  # values that a function refuses, such as shares that sum to 1
                more, _ = self._baseline(other, started, names)
                others.append((self._exact(other, started, names)[0], more))
        longest = max((self.subject.longest, *(n for shape in shapes.values() for n in shape)))
        return Expected.of(
            exact, shapes, found, dtype=self.subject.dtype, longest=longest, dtypes=dtypes, others=others
        )

    def _others(self, draw: Draw) -> Iterator[Draw]:
        """Values next to those of a draw, which round differently."""
        library = self.subject.library
        generator = np.random.default_rng(self.subject.seed)
        for _ in range(_OTHERS):
            tensors = dict(draw.tensors)
            for name in draw.real:
                near = draw.arrays[name] * (1 + _NEAR * generator.standard_normal(draw.arrays[name].shape))
                tensor = tensors[name]
                tensors[name] = library.tensor(near, library.dtype_name(tensor), library.device_name(tensor))
            yield Draw(tensors=tensors, nesting=draw.nesting, library=library)

    def _exact(
        self, draw: Draw, started: Sequence[str] | None, names: Sequence[str]
    ) -> tuple[dict[str, Sampled], dict[str, tuple[int, ...]]]:
        if self._side(self.exact) == "numpy":
            return self._exact_in_numpy(draw, started, names)
        library = self.subject.library
        function = library.in_float64(library.uncompiled(self.exact) or self.exact)
        with library.float64():
            tensors = {
                name: library.tensor(
                    draw.arrays[name],
                    "float64" if name in draw.real else library.dtype_name(tensor),
                    library.device_name(tensor),
                )
                for name, tensor in draw.tensors.items()
            }
            results = self._results(function, draw, tensors, started, names)
            arrays = {name: self._array(name, value) for name, value in results.items()}
            for name, value in results.items():
                if arrays[name].dtype.kind == "f" and library.dtype_name(value) != "float64":
                    raise UserError(self._narrow(name, library.dtype_name(value)))
        return {n: whole(a) for n, a in arrays.items()}, {n: a.shape for n, a in arrays.items()}

    def _exact_in_numpy(
        self, draw: Draw, started: Sequence[str] | None, names: Sequence[str]
    ) -> tuple[dict[str, Sampled], dict[str, tuple[int, ...]]]:
        def forward(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
            return trees.results(self.subject.call(self.exact, draw.nesting, arrays))

        results = {
            name: np.asarray(value)
            for name, value in self._said(lambda: forward(_copies(draw.arrays))).items()
        }
        for name, array in results.items():
            if array.dtype.kind == "f" and array.dtype.itemsize < 8:
                raise UserError(self._narrow(name, str(array.dtype)))
            if array.dtype.kind not in "fiub":
                raise UserError(f"the reference gives {array.dtype} for {name}, not real numbers or integers")
        exact = {name: whole(array) for name, array in results.items()}
        shapes = {name: array.shape for name, array in results.items()}
        if started is not None:
            cotangents = {
                name: self.subject.cotangent(name, shapes[name]) for name in started if name in shapes
            }
            generator = np.random.default_rng(self.subject.seed)
            with np.errstate(all="ignore"):
                found = gradients(forward, dict(draw.arrays), list(names), cotangents, generator)
            exact |= {name: _finite(each) for name, each in found.items()}
            shapes |= {f"grad_{name}": draw.arrays[name].shape for name in names}
        return exact, shapes

    def _baseline(
        self, draw: Draw, started: Sequence[str] | None, names: Sequence[str]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Results of the baseline in the case's dtype, and their dtypes; none if it cannot compute them."""
        if self.baseline is None:
            return {}, {}
        if self._side(self.baseline) == "numpy":
            return self._baseline_in_numpy(draw), {}
        library = self.subject.library
        tensors = {name: library.placed(tensor).tensor for name, tensor in draw.tensors.items()}
        results = self._results(self.baseline, draw, tensors, started, names)
        arrays = {name: self._array(name, value) for name, value in results.items()}
        return arrays, {name: library.dtype_name(value) for name, value in results.items()}

    def _baseline_in_numpy(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """In float32, rounded to the case's dtype: NumPy has no narrower arithmetic to compare with."""
        given = {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array.copy()
            for name, array in draw.arrays.items()
        }
        results = trees.results(self._said(lambda: self.subject.call(self.baseline, draw.nesting, given)))
        arrays = {name: np.asarray(value) for name, value in results.items()}
        return {
            name: round_to(array, result_dtype(self.subject.dtype)) if array.dtype.kind == "f" else array
            for name, array in arrays.items()
        }

    def _results(
        self,
        function: Any,
        draw: Draw,
        tensors: Mapping[str, Any],
        started: Sequence[str] | None,
        names: Sequence[str],
    ) -> dict[str, Any]:
        """Outputs, and gradients `grad_<input>`, of a function of the library."""
        library = self.subject.library

        def call(given: Mapping[str, Any]) -> Any:
            return self.subject.call(function, draw.nesting, given)

        if started is None:
            results: dict[str, Any] = trees.results(self._said(lambda: call(tensors)))
            library.finish(results)
            return results

        def chosen(given: Mapping[str, Any]) -> Any:
            return {name: each for name, each in trees.results(call(given)).items() if name in started}

        found = self._said(lambda: library.differentiate(chosen, tensors, names, self.subject.cotangent))
        if found is None:
            raise UserError(
                "the reference has no gradient for what the function has one for; gradients=False"
            )
        outputs, grads, _ = found
        zero = {
            name: library.tensor(np.zeros(draw.arrays[name].shape), library.dtype_name(tensors[name]), "")
            for name, gradient in grads.items()
            if gradient is None
        }
        named = {f"grad_{name}": zero.get(name, each) for name, each in grads.items()}
        return {**outputs, **named}

    def _array(self, name: str, value: Any) -> NDArray[Any]:
        try:
            return self.subject.library.array(value)
        except TypeError as error:
            raise UserError(f"the reference gives {error} for {name}") from None

    def _side(self, function: Any) -> Side:
        """Whether a function takes NumPy's arrays or tensors of the library. Raises UserError for others."""
        return self._sides[id(function)]

    @cached_property
    def _sides(self) -> dict[int, Side]:
        return {id(each): self._find_side(each) for each in (self.exact, self.baseline) if each is not None}

    def _find_side(self, function: Any) -> Side:
        own = self.subject.library.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
        if function is self.subject.function or own == "numpy":
            return "own"
        found = framework_of.function(function)
        if found == own:
            return "own"
        if found:
            raise UserError(
                f"{name_of(function)} is a function of {found}, and the inputs are tensors of {own}; give "
                f"one of {own} or of NumPy"
            )
        if "numpy" in framework_of.packages(function):
            return "numpy"
        # It names no library, as `lambda x: x.softmax(-1)`: whatever takes NumPy's arrays is NumPy's.
        draw = self.subject.first
        try:
            results = trees.results(self.subject.call(function, draw.nesting, _copies(draw.arrays)))
        except Exception:
            return "own"
        return (
            "numpy" if all(isinstance(each, np.ndarray | np.generic) for each in results.values()) else "own"
        )

    def _narrow(self, name: str, dtype: str) -> str:
        if self.itself:
            return (
                f"without reference= the function itself in float64 is what is right, and it gives {dtype} "
                f"for {name}; give reference=, a function of NumPy or {self.subject.library.NAME}"
            )
        return f"the reference gives {dtype} for {name} where its inputs are float64"

    def _said(self, call: Callable[[], Any]) -> Any:
        """What the call gives. Raises UserError for what it raises: the fault is not the function's."""
        try:
            with np.errstate(all="ignore"):
                return call()
        except UserError:
            raise
        except Exception as error:
            what = (
                "the function itself in float64, which is the reference," if self.itself else "the reference"
            )
            hint = "; give reference=" if self.itself else ""
            raise UserError(
                f"{what} raised {type(error).__name__}: {' '.join(str(error).split())[:200]}{hint}"
            ) from error


def _finite(sampled: Sampled) -> Sampled:
    """The elements that differences are known of: next to NaN or infinity there are none."""
    known = np.isfinite(sampled.values)
    if known.all():
        return sampled
    index = tuple(axis[known] for axis in sampled.index if not isinstance(axis, slice))
    return replace(sampled, index=index, values=sampled.values[known])


def _copies(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """So that a reference that works in place changes nothing."""
    return {name: array.copy() for name, array in arrays.items()}
