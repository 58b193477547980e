"""Hypothesis strategies for kernels: shapes at the edges of blocks, tensors in every layout.

What breaks a kernel is seldom drawn by chance: an extent one more than a block, a prime, a one; strides that
are not those of a fresh tensor. These strategies draw little else, and shrink to the smallest such shape that
still fails, in a contiguous tensor if that fails too.

Hypothesis is imported when a strategy is made: pip install 'fuseproof[hypothesis]'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.errors import UserError, require_known
from fuseproof.workloads.tensor import DTYPES, numpy_dtype, tensor_dtype

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

# Where the elements of a tensor lie, the simplest first; those that need two axes are drawn for no vector.
LAYOUTS = (
    "contiguous",
    "offset",  # begins one element after an aligned address
    "padded",  # rows further apart than they are long
    "strided",  # every second element of the last axis
    "transposed",  # axes in reverse order in memory
    "expanded",  # the first axis has stride 0: all of it is one row
    "overlapping",  # windows that move by one element: rows share all but one
)
_OF_TWO_AXES = ("padded", "transposed", "overlapping")
# Blocks from the first whose edges are drawn, beside the last that fits.
_BLOCKS = 3
_MARGIN = 3  # elements between rows of a padded tensor


def extents(*blocks: int, largest: int = 1024) -> SearchStrategy[int]:
    """Extents of an axis: multiples of the block sizes, one more, one less; ones, primes, powers of two.

    largest: of all. Shrinks to the smallest of them that fails.
    """
    st = _strategies()
    candidates = candidate_extents(blocks, largest)

    def chosen(place: int, numbers: bytes) -> int:
        # A shrinker tries a few smaller places, and which extents fail is not a matter of order. Numbers it
        # sets to 0 one after the other, and so tries every smaller extent; a byte is seldom drawn as 0.
        return candidates[next((n for n in range(place) if numbers[n] == 0), place)]

    last = len(candidates) - 1
    numbers = st.binary(min_size=last, max_size=last)
    found: SearchStrategy[int] = st.builds(chosen, st.integers(0, last), numbers)
    return found


def shapes(
    *axes: int | Sequence[int], largest: int = 1024, elements: int = 1 << 18
) -> SearchStrategy[tuple[int, ...]]:
    """Shapes with one axis for each argument: a block size, several, or `()` for none.

    largest: extent of an axis. elements: the most of a shape; extents beyond it are cut off.
    """
    st = _strategies()
    if not axes:
        raise UserError("shapes needs an argument for each axis: its block size, such as shapes(64, 128)")
    each = [extents(*([blocks] if isinstance(blocks, int) else blocks), largest=largest) for blocks in axes]

    def cut(shape: tuple[int, ...]) -> tuple[int, ...]:
        left, found = elements, []
        for extent in shape:
            found.append(max(1, min(extent, left)))
            left //= found[-1]
        return tuple(found)

    found: SearchStrategy[tuple[int, ...]] = st.tuples(*each).map(cut)
    return found


def arrays(
    shapes: SearchStrategy[tuple[int, ...]] | tuple[int, ...],
    *,
    dtype: str | Sequence[str] = "float32",
    layouts: Sequence[str] = LAYOUTS,
) -> SearchStrategy[NDArray[Any]]:
    """NumPy arrays of standard normal values, in the layouts of `LAYOUTS`; NaN lies in their gaps.

    shapes: a strategy or one shape. dtype: `float32`, `float16`, `bfloat16`, or several of them.
    """

    def made(memory: NDArray[Any], shape: tuple[int, ...], strides: list[int], start: int) -> NDArray[Any]:
        own = [stride * memory.itemsize for stride in strides]
        return np.ndarray(
            shape,
            memory.dtype,
            buffer=memory.view(np.uint8).data,
            offset=start * memory.itemsize,
            strides=own,
        )

    def in_numpy(flat: NDArray[np.float32], dtype: str) -> NDArray[Any]:
        return flat.astype(numpy_dtype(tensor_dtype(dtype)))

    found: SearchStrategy[NDArray[Any]] = _laid_out(shapes, dtype, layouts, in_numpy, made)
    return found


def tensors(
    shapes: SearchStrategy[tuple[int, ...]] | tuple[int, ...],
    *,
    dtype: str | Sequence[str] = "float32",
    layouts: Sequence[str] = LAYOUTS,
    device: str = "cpu",
) -> SearchStrategy[torch.Tensor]:
    """The same as PyTorch's tensors on a device."""
    import torch

    def in_torch(flat: NDArray[np.float32], dtype: str) -> torch.Tensor:
        return torch.from_numpy(flat).to(device=device, dtype=getattr(torch, tensor_dtype(dtype)))

    found: SearchStrategy[torch.Tensor] = _laid_out(
        shapes, dtype, layouts, in_torch, lambda memory, *laid: memory.as_strided(*laid)
    )
    return found


def candidate_extents(blocks: Sequence[int], largest: int) -> list[int]:
    """What `extents` draws, in ascending order."""
    for block in blocks:
        if not isinstance(block, int) or block < 1:
            raise UserError(f"a block size is a whole number from 1, not {block!r}")
    if largest < 1:
        raise UserError(f"largest is {largest}; an extent is at least 1")
    powers = [1 << n for n in range(largest.bit_length())]
    found = {1, 2, 3, *powers, *(prime for power in powers if (prime := _prime_below(power)))}
    for block in blocks:
        last = largest // block
        for multiple in {*range(1, _BLOCKS + 1), last}:
            found |= {multiple * block + edge for edge in (-1, 0, 1)}
    return sorted(extent for extent in found if 1 <= extent <= largest)


def _prime_below(number: int) -> int | None:
    """The largest prime below a number."""
    return next(
        (n for n in range(number - 1, 1, -1) if all(n % d for d in range(2, math.isqrt(n) + 1))), None
    )


def _laid_out(shapes: Any, dtype: str | Sequence[str], layouts: Sequence[str], own: Any, made: Any) -> Any:
    """A strategy of tensors.

    own: memory as the library has it, from float32 values and a dtype. made: a tensor in it, by shape,
    strides and start in elements.
    """
    st = _strategies()
    dtypes = [dtype] if isinstance(dtype, str) else list(dtype)
    require_known("dtype", dtypes, DTYPES)
    require_known("layout", layouts, LAYOUTS)
    if not layouts:
        raise UserError(f"layouts is empty; there are {', '.join(LAYOUTS)}")
    ordered = [layout for layout in LAYOUTS if layout in layouts]

    def drawn(shape: tuple[int, ...], layout: str, chosen: str, seed: int) -> Any:
        generator = np.random.default_rng(seed)
        if len(shape) < 2 and layout in _OF_TWO_AXES:
            layout = "contiguous"
        flat, strides, start = laid_out(shape, layout, generator)
        return made(own(flat, chosen), shape, strides, start)

    shape = st.just(shapes) if isinstance(shapes, tuple) else shapes
    seed = st.integers(0, 1 << 16)
    return st.builds(drawn, shape, st.sampled_from(ordered), st.sampled_from(dtypes), seed)


def laid_out(
    shape: tuple[int, ...], layout: str, generator: np.random.Generator
) -> tuple[NDArray[np.float32], list[int], int]:
    """Memory with the values of a tensor, its strides and its start in elements."""
    strides = _contiguous(shape)
    start = 0
    if 0 in shape:  # a tensor without elements has one layout
        return generator.standard_normal(1, np.float32), strides, start
    if layout == "offset":
        start = 1
    elif layout == "padded":
        strides = [*_contiguous((*shape[:-1], shape[-1] + _MARGIN))[:-1], 1]
    elif layout == "strided" and shape:
        strides = [2 * stride for stride in strides]
    elif layout == "transposed":
        strides = _contiguous(shape[::-1])[::-1]
    elif layout == "expanded" and shape:
        strides = [0, *strides[1:]]
    elif layout == "overlapping":
        strides = [*([1] * len(shape))]
    extent = start + 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    memory = generator.standard_normal(extent, np.float32)
    if layout in ("offset", "padded", "strided"):
        gaps = np.ones(extent, bool)
        np.ndarray(shape, bool, buffer=gaps.data, offset=start, strides=strides)[...] = False
        memory[gaps] = np.nan
    return memory, strides, start


def _contiguous(shape: Sequence[int]) -> list[int]:
    """Strides of C order, in elements."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _strategies() -> Any:
    try:
        import hypothesis.strategies
    except ImportError:
        raise UserError(
            "fuseproof.strategies needs Hypothesis: pip install 'fuseproof[hypothesis]'"
        ) from None
    return hypothesis.strategies
