"""What kernels over rows share: loads and stores in float32, and tensors as (rows, columns)."""

import math
from collections.abc import Mapping

import torch

import triton
import triton.language as tl


def bytes_of(*tensors: torch.Tensor | None) -> int:
    """Total element size of the tensors that are not None."""
    return sum(tensor.element_size() for tensor in tensors if tensor is not None)


@triton.jit
def load_float32(ptrs, mask, MASKED: tl.constexpr, POLICY: tl.constexpr):
    """Elements past the edge read as zero."""
    if MASKED:
        values = tl.load(ptrs, mask=mask, other=0.0, eviction_policy=POLICY)
    else:
        values = tl.load(ptrs, eviction_policy=POLICY)
    return values.to(tl.float32)


@triton.jit
def load_or_minus_infinity(ptrs, mask, MASKED: tl.constexpr, POLICY: tl.constexpr):
    """Elements past the edge read as −∞: they are no maximum, and their exponential is zero."""
    if MASKED:
        values = tl.load(ptrs, mask=mask, other=float("-inf"), eviction_policy=POLICY)
    else:
        values = tl.load(ptrs, eviction_policy=POLICY)
    return values.to(tl.float32)


@triton.jit
def seen(maximum, total, x):
    """Maximum and sum of exponentials of rows after another block of them, (BLOCK_M, BLOCK_N)."""
    greater = tl.maximum(maximum, tl.max(x, axis=1))
    # Of a row of −∞ so far the difference to its maximum is not a number.
    reference = tl.where(greater == float("-inf"), 0.0, greater)
    total = total * tl.exp(maximum - reference) + tl.sum(tl.exp(x - reference[:, None]), axis=1)
    return greater, total


@triton.jit
def store_rounded(ptrs, values, mask, MASKED: tl.constexpr, POLICY: tl.constexpr = ""):
    values = values.to(ptrs.dtype.element_ty)
    if MASKED:
        tl.store(ptrs, values, mask=mask, eviction_policy=POLICY)
    else:
        tl.store(ptrs, values, eviction_policy=POLICY)


def vector_of(columns: int, itemsize: int, *strides: int) -> int:
    """The largest vector, in elements and up to 16 bytes, that every row starts at a multiple of."""
    return math.gcd(16 // itemsize, columns, *strides)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """x as (rows, columns) with contiguous, evenly spaced rows; copied only where its strides need it."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def evenly_spaced(x: torch.Tensor) -> bool:
    """Whether a kernel can read x as (rows, columns) without a copy."""
    step: int | None = None  # distance of rows over the dimensions visited so far
    for size, stride in zip(reversed(x.shape[:-1]), reversed(x.stride()[:-1]), strict=True):
        if size == 1:
            continue
        if step is not None and stride != step:
            return False
        step = stride * size
    return True


def check_rows(operator: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError unless each tensor is rows of at least one column, contiguous and evenly spaced."""
    for name, tensor in tensors.items():
        if tensor.dim() == 0 or tensor.shape[-1] == 0:
            raise ValueError(
                f"{operator}: {name} must have a last dimension of at least one, "
                f"not shape {tuple(tensor.shape)}"
            )
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            raise ValueError(
                f"{operator}: the last dimension of {name} must be contiguous, "
                f"but its strides are {tensor.stride()}; call {name}.contiguous()"
            )
        if not evenly_spaced(tensor):
            raise ValueError(
                f"{operator}: the rows of {name} must be evenly spaced, but its shape is "
                f"{tuple(tensor.shape)} and its strides are {tensor.stride()}; call {name}.contiguous()"
            )
