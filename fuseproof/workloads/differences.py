"""Gradients of a NumPy function by central differences, at elements that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.workload import Sampled

# Elements of each input whose gradient is computed; each takes four calls of the function.
_ELEMENTS = 24
# Relative to the RMS of the input. With differences of fourth order the error of the formula, step⁴, and that
# of float64's rounding, 1e-16 / step, are both about 1e-12.
_STEP = 1e-3

Forward = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, Any]]


def gradients(
    forward: Forward,
    inputs: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    cotangents: Mapping[str, NDArray[Any]],
    generator: np.random.Generator,
) -> dict[str, Sampled]:
    """`grad_<name>` of the sum of outputs times cotangents, in float64.

    inputs: float64 and integers. The error of each gradient is about 1e-11 of the size of its terms, which
    is far below float32's rounding; a function with a kink (ReLU) at a drawn element is not differentiable.
    """
    found = {}
    for name in names:
        values = inputs[name]
        chosen = generator.choice(values.size, size=min(_ELEMENTS, values.size), replace=False)
        places = np.unravel_index(np.sort(chosen), values.shape) if values.ndim else ()
        step = _STEP * (float(np.sqrt(np.mean(values**2))) or 1.0)
        found[f"grad_{name}"] = Sampled(
            index=tuple(places),
            values=np.array(
                [
                    _derivative(forward, inputs, name, place, step, cotangents)
                    for place in (zip(*places, strict=True) if values.ndim else [()])
                ]
            ),
            # Relative to the gradient's usual size: of few elements all may be small.
            scale=None,
        )
    return found


def _derivative(
    forward: Forward,
    inputs: Mapping[str, NDArray[Any]],
    name: str,
    place: tuple[int, ...],
    step: float,
    cotangents: Mapping[str, NDArray[Any]],
) -> float:
    """By the five-point formula; outputs are subtracted before they are summed, so that little cancels."""

    def at(shift: float) -> Mapping[str, Any]:
        moved = inputs[name].copy()
        moved[place] += shift
        return forward({**inputs, name: moved})

    def difference(shift: float) -> float:
        after, before = at(shift), at(-shift)
        return sum(
            float(np.sum((np.asarray(after[output]) - np.asarray(before[output])) * cotangent))
            for output, cotangent in cotangents.items()
        )

    return (8 * difference(step) - difference(2 * step)) / (12 * step)
