"""Is a result right? Errors against the float64 reference, and the limit they must keep.

The rule is that of PyTorch's dynamo benchmarks: at most twice the error of the baseline in the same dtype,
plus rounding. Errors are relative RMS: absolute tolerances would let all zeros pass where outputs are small.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fuseproof.workloads.described import PARAMETERS
from fuseproof.workloads.operators import DTYPES, Sampled, result_dtype
from fuseproof.workloads.operators.base import rms

# Largest error that a baseline itself may have, so that a broken library call sets no limit: a few hundred
# roundings in float32, some dozen in the others. Seen on CPUs: float32 8e-8 to 5e-7; bfloat16 2e-3, but 0.03
# for the weight gradient of PyTorch's layer norm. tf32: operands rounded to 10 bits give 3e-4, truncated ones
# 8e-4 (computed with NumPy, K from 64 to 14336). float8_e4m3: the result is bfloat16, and products of two
# operands are exact in float32.
CEILINGS: Mapping[str, float] = {
    "float32": 3e-5,
    "float16": 1e-2,
    "bfloat16": 6e-2,
    "tf32": 5e-3,
    "float8_e4m3": 6e-2,
}

# The error of so few elements is luck, that of the baseline too: a loss may be right to the last bit.
_FEW_ELEMENTS = 16

# Half the distance from 1 to the next number of TF32's 10 bits.
_TF32_ROUNDOFF = 2.0**-11


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The worst tensor of a result: its relative RMS error and the limit it had to keep."""

    tensor: str
    relative_rms: float
    limit: float
    random: bool = False

    @property
    def passed(self) -> bool:
        return self.relative_rms <= self.limit  # False for NaN

    @property
    def message(self) -> str:
        if math.isfinite(self.relative_rms) and self.random:
            return (
                f"{self.tensor} is drawn from another distribution than the reference's: "
                f"{self.relative_rms:.2g} times as far from it as a draw may be"
            )
        if math.isfinite(self.relative_rms):
            return (
                f"{self.tensor} is wrong: relative RMS error {self.relative_rms:.2g}, limit {self.limit:.2g}"
            )
        return f"{self.tensor} is wrong: it holds NaN or infinity"


def relative_rms(result: NDArray[np.float32], reference: Sampled) -> float:
    """RMS of the difference over RMS of the reference on the sampled part; NaN if any value is not finite.

    Of a random tensor how far it is from the distribution of the reference, 1 at the limit.
    """
    if reference.drawn is not None:
        return reference.drawn.distance(result)
    if not np.isfinite(result).all():
        return math.nan
    difference = rms(result[reference.index] - reference.values)
    scale = rms(reference.values) if reference.scale is None else reference.scale
    return difference / scale if scale > 0 else difference


def unit_roundoff(dtype: str) -> float:
    """Half the distance from 1 to the next number: 2⁻²⁴ for float32, 2⁻¹¹ for float16, 2⁻⁸ for bfloat16."""
    one = np.ones((), DTYPES[dtype])
    above = np.nextafter(one, np.array(2, DTYPES[dtype]), dtype=DTYPES[dtype])
    return float(above - one) / 2


def rounding(dtype: str, longest: int) -> float:
    """The error of correct arithmetic: one store in `dtype`, and sums over up to `longest` float32 terms.

    For tf32 one rounding of an operand takes the store's place: tensor cores truncate the lower bits, which
    errs more than the rounding of others.

    Rounding errors of a sum in sequence grow like a random walk, √n units (Higham, Accuracy and Stability of
    Numerical Algorithms, 4.2). Without this term a baseline that sums pairwise would fail correct kernels.
    """
    store = _TF32_ROUNDOFF if dtype == "tf32" else unit_roundoff(result_dtype(dtype))
    return store + math.sqrt(longest) * unit_roundoff("float32")


def judge(
    errors: Mapping[str, float],
    baseline: Mapping[str, float] | None,
    *,
    dtype: str,
    longest: int,
    random: bool = False,
    stored: str = "",
    sizes: Mapping[str, int] | None = None,
) -> Verdict:
    """The verdict on a result whose tensors have these errors; `longest` is the longest axis of the case.

    With the baseline's errors the limit is 2 × its error + rounding, never above the ceiling. Without them
    (this is the baseline, or the baseline cannot run here) the limit is the ceiling. Of random tensors it is
    the distance 1 from the reference's distribution. stored: the dtype of parameters, if not that of results.
    sizes: elements of each tensor; of few the limit is at least the median of the others' limits.
    """
    found = limits(errors, baseline, dtype=dtype, longest=longest, random=random, stored=stored, sizes=sizes)
    return worst(errors, found, random=random)


def limits(
    tensors: Iterable[str],
    baseline: Mapping[str, float] | None,
    *,
    dtype: str,
    longest: int,
    random: bool = False,
    stored: str = "",
    sizes: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """The limit of each tensor's error, as `judge` has it."""
    if random:
        return dict.fromkeys(tensors, 1.0)
    found = {}
    for tensor in tensors:
        # A step of the optimizer is small beside the parameter: what is stored says whether it was taken.
        own = stored if stored and tensor.startswith(PARAMETERS) else dtype
        found[tensor] = CEILINGS[own]
        if baseline is not None and math.isfinite(baseline.get(tensor, math.nan)):
            found[tensor] = min(found[tensor], 2 * baseline[tensor] + rounding(own, longest))
    few = [each for each in found if sizes and sizes.get(each, _FEW_ELEMENTS) < _FEW_ELEMENTS]
    others = [
        each for tensor, each in found.items() if tensor not in few and not tensor.startswith(PARAMETERS)
    ]
    for tensor in few:
        if others and not tensor.startswith(PARAMETERS):
            found[tensor] = max(found[tensor], statistics.median(others))
    return found


def worst(errors: Mapping[str, float], limit_of: Mapping[str, float], *, random: bool = False) -> Verdict:
    """The verdict on the tensor that is furthest over its limit, or nearest to it."""
    verdicts = [
        Verdict(tensor=tensor, relative_rms=error, limit=limit_of[tensor], random=random)
        for tensor, error in errors.items()
    ]
    return max(verdicts, key=lambda v: math.inf if math.isnan(v.relative_rms) else v.relative_rms / v.limit)
