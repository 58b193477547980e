"""Is a tensor right, and if not, where? The project's rule, and one for single elements.

The rule is that of `fuseproof.measure.checks`: relative RMS error against float64 of at most twice the
baseline's. In half precision it passes a whole tensor in which one element of thousands is wrong, as at the
edge of a block; so no single element may be far outside either.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.measure import checks
from fuseproof.workloads.operators.base import rms
from fuseproof.workloads.tensor import result_dtype
from fuseproof.workloads.workload import Reals, Sampled

# How far a single element may be outside, in limits of the RMS of all, on the scale of the tensor or its own.
# Rounding errors are spread like the values: of a million normal ones one is 5 RMS away.
_ELEMENT = 16.0
# The largest error of a correct result over the largest of the baseline: which one rounds worst is chance.
_OF_BASELINE = 4.0
# A tensor of fewer elements has an error that is chance: the baseline's is then that of several draws.
FEW = 64
# A baseline that errs more than this computes something else, and sets no limit. Below it one may err more
# than the project's ceiling, as in a gradient of one element that is a sum of a few which nearly cancel.
_BROKEN = 0.95
# The limit of such a baseline; the error of all zeros is 1.
_ZEROS = 0.5
# A gradient cancels below so many roundings of the usual one, as in measure/reference.py, or below this
# share of it. Its terms may be larger than the usual one: those of a norm have the inverse of a deviation.
_NOISE, _CANCELS, _TERMS = 64.0, 0.01, 10.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with one tensor, as part of a sentence that begins with its name.

    kind:  `nan`, `value` or `shape`.
    index: of the element that shows it best; None for a shape.
    bad:   where elements are wrong, in the sampled part; None for a shape.
    """

    tensor: str
    kind: str
    text: str
    index: tuple[int, ...] | None = None
    got: float | None = None
    expected: float | None = None
    bad: NDArray[np.bool_] | None = None

    @property
    def message(self) -> str:
        return f"{self.tensor} {self.text}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What is right for one draw of inputs.

    shapes: of every tensor.
    exact:  float64 values, all of them or at drawn elements.
    limits: of the relative RMS error.
    element_limits: of a single element's error, relative to the RMS or to the element itself.
    forgiven: where the baseline is NaN or infinite too.
    dtypes: of the baseline's results, where it is of the function's library.
    notes:  where the baseline errs more than a baseline should.
    """

    shapes: Mapping[str, tuple[int, ...]]
    exact: Mapping[str, Sampled]
    limits: Mapping[str, float]
    element_limits: Mapping[str, float]
    forgiven: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        exact: Mapping[str, Sampled],
        shapes: Mapping[str, tuple[int, ...]],
        baseline: Mapping[str, NDArray[Any]],
        *,
        dtype: str,
        longest: int,
        dtypes: Mapping[str, str],
        others: Sequence[tuple[Mapping[str, Sampled], Mapping[str, NDArray[Any]]]] = (),
    ) -> Expected:
        """With the limits that the baseline's results set; where it has none, those of the project.

        others: what is right and the baseline's results for other values, for tensors of `FEW` elements.
        """
        exact = {name: _on_its_scale(name, each, exact, dtype) for name, each in exact.items()}
        usable = {name: array for name, array in baseline.items() if array.shape == shapes.get(name)}
        errors, spreads, forgiven = {}, {}, {}
        for name, array in usable.items():
            part = np.asarray(array, np.float64)[exact[name].index].reshape(exact[name].values.shape)
            forgiven[name] = ~np.isfinite(part)
            errors[name], spreads[name] = _errors(part, exact[name])
            if array.size < FEW:
                found = [
                    _errors(np.asarray(had[name], np.float64), of[name]) for of, had in others if name in had
                ]
                pooled = [errors[name], *(error for error, _ in found if math.isfinite(error))]
                # Of an error that is rounding alone, the RMS is no less than this.
                least = checks.unit_roundoff(result_dtype(dtype)) / 2
                errors[name] = max(least, rms(np.array(pooled)))
                spreads[name] = max(spreads[name], *(spread for _, spread in found), 0.0)
        limits = checks.limits(exact, errors, dtype=dtype, longest=longest)
        notes = []
        for name, error in errors.items():
            if checks.CEILINGS[dtype] < error < _BROKEN:
                limits[name] = min(2 * error, _ZEROS)
                notes.append(
                    f"the baseline's own error of {name} is {error:.2g}; the limit is {limits[name]:.2g}"
                )
        return cls(
            shapes=shapes,
            exact=exact,
            limits=limits,
            element_limits={
                name: max(_ELEMENT * limit, _OF_BASELINE * spreads.get(name, 0.0))
                for name, limit in limits.items()
            },
            forgiven=forgiven,
            dtypes=dtypes,
            notes=tuple(notes),
        )

    def without(self, names: Collection[str]) -> Expected:
        """Of all tensors but these."""
        return replace(self, shapes={name: each for name, each in self.shapes.items() if name not in names})

    def error(self, name: str, got: NDArray[Any]) -> float:
        """Relative RMS error of a result of the right shape."""
        exact = self.exact[name]
        return _errors(np.asarray(got, np.float64)[exact.index].reshape(exact.values.shape), exact)[0]

    def judge(self, name: str, array: NDArray[Any]) -> Fault | None:
        """What is wrong with a result; None if it is right."""
        if array.shape != self.shapes[name]:
            return Fault(
                tensor=name, kind="shape", text=f"has shape {array.shape} instead of {self.shapes[name]}"
            )
        exact = self.exact[name]
        want = exact.values
        if want.size == 0:
            return None
        part = np.asarray(array, np.float64)[exact.index].reshape(want.shape)
        special = ~np.isfinite(want)
        same = (np.isnan(part) & np.isnan(want)) | (part == want)
        bad = np.where(special, ~same, ~np.isfinite(part) & ~self.forgiven.get(name, np.False_))
        if bad.any():
            return self._fault(name, "nan", part, bad, np.argmax(bad), f"is not finite in {_count(bad)}")
        with np.errstate(invalid="ignore"):
            spread = np.where(np.isfinite(part) & ~special, np.abs(part - want), 0.0) / _scale(exact)
        bad = spread > self.element_limits[name]
        verdict = checks.Verdict(tensor=name, relative_rms=_errors(part, exact)[0], limit=self.limits[name])
        if verdict.passed and not bad.any():
            return None
        text = f"is wrong in {_count(bad)}" if verdict.passed else verdict.message.removeprefix(f"{name} ")
        if name not in self.forgiven:
            text += " (no baseline)"
        return self._fault(name, "value", part, bad, np.argmax(spread), text)

    def _fault(
        self, name: str, kind: str, part: Reals, bad: NDArray[np.bool_], flat: np.intp, text: str
    ) -> Fault:
        """A fault that the element `flat` of the sampled part shows."""
        exact = self.exact[name]
        got, expected, index = float(part.flat[flat]), float(exact.values.flat[flat]), place(exact, int(flat))
        text = f"{text}; at {shown_index(index)} it is {got:.6g} instead of {expected:.6g}"
        return Fault(tensor=name, kind=kind, text=text, index=index, got=got, expected=expected, bad=bad)


def place(exact: Sampled, flat: int) -> tuple[int, ...]:
    """The index into the whole tensor of an element of the sampled part, counted in C order."""
    if any(not isinstance(axis, slice) for axis in exact.index):
        return tuple(int(axis[flat]) for axis in exact.index if not isinstance(axis, slice))
    return tuple(int(n) for n in np.unravel_index(flat, exact.values.shape))


def shown_index(index: tuple[int, ...]) -> str:
    """`[0, 128]`; of a scalar nothing but its brackets."""
    return f"[{', '.join(map(str, index))}]"


def _count(bad: NDArray[np.bool_]) -> str:
    return f"{int(bad.sum()):,} of {bad.size:,} elements"


def _errors(part: Reals, exact: Sampled) -> tuple[float, float]:
    """Relative RMS error, and the largest of a single element, over what is finite in both."""
    finite = np.isfinite(part) & np.isfinite(exact.values)
    if not finite.any():
        return 0.0, 0.0
    kept = Sampled(index=(slice(None),), values=exact.values[finite], scale=exact.scale)
    difference = np.abs(part[finite] - kept.values)
    return (
        checks.relative_rms(part[finite], kept),  # type: ignore[arg-type]
        float((difference / _scale(exact)[finite]).max()),
    )


def _scale(exact: Sampled) -> Reals:
    """What the error of an element is relative to: the RMS of the tensor, or the element if it is larger."""
    finite = np.isfinite(exact.values)
    usual = exact.scale
    if usual is None:
        usual = rms(exact.values[finite]) if finite.any() else 0.0
    values = np.where(finite, np.abs(exact.values), 1.0)
    return np.asarray(np.maximum(values, usual if usual > 0 else 1.0))


def _on_its_scale(name: str, each: Sampled, among: Mapping[str, Sampled], dtype: str) -> Sampled:
    """A gradient that all but cancels, as of a bias before a norm or of a norm of two columns.

    It is compared on the scale of the terms that cancel: of the other gradients, or of the losses' gradients
    with respect to outputs, whose RMS is 1.
    """
    if not name.startswith("grad_") or each.scale is not None or each.values.size == 0:
        return each
    gradients = [other.values for key, other in among.items() if key.startswith("grad_")]
    count = sum(values.size for values in gradients)
    usual = max(1.0, math.sqrt(sum(float(np.nansum(values**2)) for values in gradients) / count))
    share = max(_CANCELS, _NOISE * checks.unit_roundoff(result_dtype(dtype)))
    return each if rms(each.values) >= share * usual else replace(each, scale=_TERMS * usual)
