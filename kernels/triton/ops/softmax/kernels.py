"""Softmax over rows, both passes: y = exp(x − max) / Σ exp(x − max), dx = y · (dy − Σ dy · y).

x, y, dy, dx: (rows, columns) of float16, bfloat16 or float32; everything between a load and a store is
float32, and each result is rounded once.

Bytes: a row that fits a block is read once and written once. A longer row is walked over twice: forwards for
its maximum and sum, which are corrected whenever the maximum grows (Milakov & Gimelshein 2018,
https://arxiv.org/abs/1805.02867), backwards for y, because the L2 cache still holds what was read last.
"""

import triton
import triton.language as tl
from fuseproof.kernels.triton.rows import load_float32, load_or_minus_infinity, seen, store_rounded


@triton.jit
def softmax_rows_kernel(
    x_ptr,  # (rows, columns)
    y_ptr,  # (rows, columns), contiguous
    rows,
    column_vectors,  # columns / VECTOR, as the stride
    x_row_vectors,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    EVEN_N: tl.constexpr,  # columns == BLOCK_N
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Whole rows at once: read once, written once."""
    columns = column_vectors * VECTOR
    MASKED: tl.constexpr = BLOCK_M > 1 or not EVEN_N
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_N)
    in_row = (column < columns)[None, :]
    mask = (row < rows)[:, None]
    if not EVEN_N:
        mask = mask & in_row
    row_64 = row.to(tl.int64)[:, None]
    # Rows past the last read as zeros, whose softmax is a number.
    x = load_float32(x_ptr + row_64 * (x_row_vectors * VECTOR) + column[None, :], mask, MASKED, "evict_first")
    if not EVEN_N:
        x = tl.where(in_row, x, float("-inf"))
    x = tl.exp(x - tl.max(x, axis=1)[:, None])
    y = x / tl.sum(x, axis=1)[:, None]
    store_rounded(y_ptr + row_64 * columns + column[None, :], y, mask, MASKED)


@triton.jit
def softmax_loop_kernel(
    x_ptr,  # (rows, columns)
    y_ptr,  # (rows, columns), contiguous
    rows,
    column_vectors,  # columns / VECTOR, as the stride
    x_row_vectors,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One row at a time in column blocks: forwards for its maximum and sum, then backwards for y."""
    columns = column_vectors * VECTOR
    lane = tl.arange(0, BLOCK_N)[None, :]
    blocks = tl.cdiv(columns, BLOCK_N)
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0)):
        row_64 = tl.cast(row, tl.int64)
        x_row_ptr = x_ptr + row_64 * (x_row_vectors * VECTOR)
        y_row_ptr = y_ptr + row_64 * columns
        maximum = tl.full([1], float("-inf"), dtype=tl.float32)
        total = tl.zeros([1], dtype=tl.float32)
        for block in tl.range(0, blocks, num_stages=STAGES):
            column = block * BLOCK_N + lane
            x = load_or_minus_infinity(x_row_ptr + column, column < columns, True, "evict_last")
            maximum, total = seen(maximum, total, x)
        for step in tl.range(0, blocks, num_stages=STAGES):
            column = (blocks - 1 - step) * BLOCK_N + lane
            mask = column < columns
            x = load_or_minus_infinity(x_row_ptr + column, mask, True, "evict_first")
            y = tl.exp(x - maximum[:, None]) / total[:, None]
            store_rounded(y_row_ptr + column, y, mask, True, "evict_first")


@triton.jit
def softmax_backward_rows_kernel(
    y_ptr,  # (rows, columns)
    dy_ptr,  # (rows, columns)
    dx_ptr,  # (rows, columns), contiguous
    rows,
    column_vectors,  # columns / VECTOR, as the strides
    y_row_vectors,
    dy_row_vectors,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    EVEN_N: tl.constexpr,  # columns == BLOCK_N
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Whole rows at once: y and dy read once, dx written once."""
    columns = column_vectors * VECTOR
    MASKED: tl.constexpr = BLOCK_M > 1 or not EVEN_N
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_N)[None, :]
    mask = (row < rows)[:, None]
    if not EVEN_N:
        mask = mask & (column < columns)
    row_64 = row.to(tl.int64)[:, None]
    y = load_float32(y_ptr + row_64 * (y_row_vectors * VECTOR) + column, mask, MASKED, "evict_first")
    dy = load_float32(dy_ptr + row_64 * (dy_row_vectors * VECTOR) + column, mask, MASKED, "evict_first")
    dx = y * (dy - tl.sum(y * dy, axis=1)[:, None])
    store_rounded(dx_ptr + row_64 * columns + column, dx, mask, MASKED)


@triton.jit
def softmax_backward_loop_kernel(
    y_ptr,  # (rows, columns)
    dy_ptr,  # (rows, columns)
    dx_ptr,  # (rows, columns), contiguous
    rows,
    column_vectors,  # columns / VECTOR, as the strides
    y_row_vectors,
    dy_row_vectors,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One row at a time in column blocks: forwards for Σ dy · y, then backwards for dx."""
    columns = column_vectors * VECTOR
    lane = tl.arange(0, BLOCK_N)
    blocks = tl.cdiv(columns, BLOCK_N)
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0)):
        row_64 = tl.cast(row, tl.int64)
        y_row_ptr = y_ptr + row_64 * (y_row_vectors * VECTOR)
        dy_row_ptr = dy_ptr + row_64 * (dy_row_vectors * VECTOR)
        dx_row_ptr = dx_ptr + row_64 * columns
        sums = tl.zeros([BLOCK_N], dtype=tl.float32)
        for block in tl.range(0, blocks, num_stages=STAGES):
            column = block * BLOCK_N + lane
            mask = column < columns
            sums += load_float32(y_row_ptr + column, mask, True, "evict_last") * load_float32(
                dy_row_ptr + column, mask, True, "evict_last"
            )
        total = tl.sum(sums, axis=0)
        for step in tl.range(0, blocks, num_stages=STAGES):
            column = (blocks - 1 - step) * BLOCK_N + lane
            mask = column < columns
            y = load_float32(y_row_ptr + column, mask, True, "evict_first")
            dy = load_float32(dy_row_ptr + column, mask, True, "evict_first")
            store_rounded(dx_row_ptr + column, y * (dy - total), mask, True, "evict_first")
