"""Cross entropy of rows of logits, both passes.

    loss = log Σ exp(logits) − logits[target],  dlogits = (softmax(logits) − onehot(target)) · dloss

logits, dlogits: (rows, vocabulary) of float16, bfloat16 or float32; losses: (rows,) float32. Everything
between a load and a store is float32. The forward pass saves the maximum of a row and 1 / Σ exp(logits −
maximum), not the logarithm of the sum, whose rounding the exponential in the backward pass would magnify.

Bytes: forward reads the logits once, whatever the vocabulary: maximum and sum go along and are corrected
whenever the maximum grows (Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867). Backward reads them
once more and writes their gradients once; probabilities are never stored.
"""

import triton
import triton.language as tl
from fuseproof.kernels.triton.rows import load_or_minus_infinity, seen, store_rounded


@triton.jit
def cross_entropy_kernel(
    logits_ptr,  # (rows, columns)
    targets_ptr,  # (rows,)
    losses_ptr,  # (rows,) float32
    statistics_ptr,  # (2, rows) float32, maximum and 1 / sum
    rows,
    column_vectors,  # columns / VECTOR, as the stride
    row_vectors,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A few rows per program, in blocks of columns."""
    columns = column_vectors * VECTOR
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_mask = row < rows
    row_ptrs = logits_ptr + row.to(tl.int64) * (row_vectors * VECTOR)
    lane = tl.arange(0, BLOCK_N)
    maximum = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    for start in tl.range(0, columns, BLOCK_N, num_stages=STAGES):
        column = start + lane
        mask = row_mask[:, None] & (column < columns)[None, :]
        # Backward reads them again, too late for any cache.
        x = load_or_minus_infinity(row_ptrs[:, None] + column[None, :], mask, True, "evict_first")
        maximum, total = seen(maximum, total, x)
    target = tl.load(targets_ptr + row, mask=row_mask, other=-1)
    there = (target >= 0) & (target < columns)
    # Not a number where there is no such class: it shows, and no memory outside is read.
    right = tl.load(row_ptrs + target, mask=there, other=float("nan")).to(tl.float32)
    tl.store(losses_ptr + row, tl.log(total) + (maximum - right), mask=row_mask)
    tl.store(statistics_ptr + row, maximum, mask=row_mask)
    tl.store(statistics_ptr + rows + row, 1 / total, mask=row_mask)


@triton.jit
def cross_entropy_backward_kernel(
    logits_ptr,  # (rows, columns)
    targets_ptr,  # (rows,)
    dlosses_ptr,  # (rows,) float32
    statistics_ptr,  # (2, rows) float32, maximum and 1 / sum
    dlogits_ptr,  # (rows, columns), contiguous
    rows,
    column_vectors,  # columns / VECTOR, as the stride
    row_vectors,
    dlosses_stride,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """A block of columns of a few rows per program; blocks of a row are neighbours."""
    columns = column_vectors * VECTOR
    blocks = tl.cdiv(columns, BLOCK_N)
    row = tl.program_id(0) // blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    column = (tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    row_mask = row < rows
    mask = row_mask[:, None] & (column < columns)
    row_64 = row.to(tl.int64)
    x = load_or_minus_infinity(
        logits_ptr + (row_64 * (row_vectors * VECTOR))[:, None] + column, mask, True, "evict_first"
    )
    target = tl.load(targets_ptr + row, mask=row_mask, other=-1)
    maximum = tl.load(statistics_ptr + row, mask=row_mask, other=0.0)
    scale = tl.load(statistics_ptr + rows + row, mask=row_mask, other=0.0)
    dloss = tl.load(dlosses_ptr + row_64 * dlosses_stride, mask=row_mask, other=0.0)
    p = tl.exp(x - maximum[:, None]) * scale[:, None]
    dx = tl.where(column == target[:, None], p - 1, p) * dloss[:, None]
    store_rounded(dlogits_ptr + (row_64 * columns)[:, None] + column, dx, mask, True)
