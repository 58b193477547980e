"""Rotary embedding by halves: (x₁ cos − x₂ sin, x₂ cos + x₁ sin) with x = (x₁, x₂), for queries and keys.

q: (batch, query heads, length, head dim), k: (batch, key heads, length, head dim), of any strides but the
last; cos, sin: (length, head dim / 2). Products are float32 and each result is rounded once. The backward
pass is the same with the sine negated: the transposed matrix.

Bytes: q and k are read once and written once, in one launch; a program keeps its rows of the tables while it
goes through several heads.
"""

import triton
import triton.language as tl


@triton.jit
def _rotate_heads(
    x_ptr,  # (heads, length, head dim), this batch
    y_ptr,
    cos,  # (BLOCK_S, BLOCK_D) float32
    sin,
    first_head,
    heads,
    position,  # (BLOCK_S,)
    column,  # (BLOCK_D,)
    mask,
    x_head_stride,
    x_row_stride,
    y_head_stride,
    y_row_stride,
    HALF: tl.constexpr,
    HEADS: tl.constexpr,
):
    row = position.to(tl.int64)[:, None]
    x_ptrs = x_ptr + row * x_row_stride + column[None, :]
    y_ptrs = y_ptr + row * y_row_stride + column[None, :]
    for number in tl.range(0, HEADS):
        head = tl.cast(first_head + number, tl.int64)
        there = mask & (head < heads)
        x = x_ptrs + head * x_head_stride
        y = y_ptrs + head * y_head_stride
        first = tl.load(x, mask=there, other=0.0).to(tl.float32)
        second = tl.load(x + HALF, mask=there, other=0.0).to(tl.float32)
        tl.store(y, (first * cos - second * sin).to(y_ptr.dtype.element_ty), mask=there)
        tl.store(y + HALF, (second * cos + first * sin).to(y_ptr.dtype.element_ty), mask=there)


@triton.jit
def rotary_kernel(
    q_ptr,  # (batch, query heads, length, head dim)
    k_ptr,  # (batch, key heads, length, head dim)
    cos_ptr,  # (length, head dim / 2), contiguous
    sin_ptr,
    q_out_ptr,  # as q
    k_out_ptr,  # as k
    length,
    query_heads,
    key_heads,
    q_batch_stride,
    q_head_stride,
    q_row_stride,
    k_batch_stride,
    k_head_stride,
    k_row_stride,
    q_out_batch_stride,
    q_out_head_stride,
    q_out_row_stride,
    k_out_batch_stride,
    k_out_head_stride,
    k_out_row_stride,
    BACKWARD: tl.constexpr,
    HALF: tl.constexpr,  # of the head dim
    HEADS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Some positions of some heads per program: first programs of queries, then programs of keys."""
    position = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    column = tl.arange(0, BLOCK_D)
    mask = (position < length)[:, None] & (column < HALF)[None, :]
    table = position.to(tl.int64)[:, None] * HALF + column[None, :]
    cos = tl.load(cos_ptr + table, mask=mask, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + table, mask=mask, other=0.0).to(tl.float32)
    if BACKWARD:
        sin = -sin
    batch = tl.program_id(2).to(tl.int64)
    group = tl.program_id(1)
    query_groups = tl.cdiv(query_heads, HEADS)
    if group < query_groups:
        _rotate_heads(
            q_ptr + batch * q_batch_stride, q_out_ptr + batch * q_out_batch_stride, cos, sin,
            group * HEADS, query_heads, position, column, mask,
            q_head_stride, q_row_stride, q_out_head_stride, q_out_row_stride, HALF, HEADS,
        )  # fmt: skip
    else:
        _rotate_heads(
            k_ptr + batch * k_batch_stride, k_out_ptr + batch * k_out_batch_stride, cos, sin,
            (group - query_groups) * HEADS, key_heads, position, column, mask,
            k_head_stride, k_row_stride, k_out_head_stride, k_out_row_stride, HALF, HEADS,
        )  # fmt: skip
