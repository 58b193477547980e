"""Attention backward: dq, dk and dv of out = softmax(scale · q kᵀ) v, from out and its log-sum-exp.

With p = exp(scale · q kᵀ − lse), dp = do vᵀ, delta = rowsum(do · out) and ds = p · (dp − delta):

    dv = pᵀ do        dk = scale · dsᵀ q        dq = scale · ds k

Shapes as in `attention_forward`; dk and dv are sums over the query heads that read their key/value head.

Algorithm: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691), with two kernels where its own has
one: dq by programs that own queries and walk over the keys, dk and dv by programs that own keys and walk over
the queries of all heads of their group. So one program computes each sum, in a fixed order: no atomics, and
the same bits from run to run. The price is that q kᵀ and do vᵀ are computed twice, 7 products where 5 are
needed; 8 where a config computes dk and dv in two launches.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

import triton
import triton.language as tl
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Architecture, Launch, architecture_of
from fuseproof.kernels.triton.ops.attention.configs import Config, key_candidates, query_candidates
from fuseproof.kernels.triton.ops.attention.forward import (
    MAX_ROW_STRIDE,
    empty_as,
    load_rows,
    store_rows,
    strides,
    tile,
    tuning_key,
)


@triton.jit
def attention_delta_kernel(
    do_ptr,  # (batch, heads, query_length, head_dim)
    out_ptr,  # (batch, heads, query_length, head_dim)
    delta_ptr,  # (batch, heads, query_length) float32, contiguous
    heads,
    query_length,
    do_batch_stride,
    do_head_stride,
    do_row_stride,
    out_batch_stride,
    out_head_stride,
    out_row_stride,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,  # HEAD_DIM rounded up to a power of two
):
    """delta = rowsum(do · out)."""
    row_blocks = tl.cdiv(query_length, BLOCK_M)
    batch_head = (tl.program_id(0) // row_blocks).to(tl.int64)
    batch = batch_head // heads
    head = batch_head % heads
    rows = tl.program_id(0) % row_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    rows_64 = rows.to(tl.int64)[:, None]
    row_mask = rows < query_length
    dims = tl.arange(0, BLOCK_D)
    do_ptr += batch * do_batch_stride + head * do_head_stride
    out_ptr += batch * out_batch_stride + head * out_head_stride
    do = load_rows(do_ptr + rows_64 * do_row_stride + dims[None, :], row_mask, dims, True, HEAD_DIM, BLOCK_D)
    out = load_rows(
        out_ptr + rows_64 * out_row_stride + dims[None, :], row_mask, dims, True, HEAD_DIM, BLOCK_D
    )
    delta = tl.sum(do.to(tl.float32) * out.to(tl.float32), axis=1)
    tl.store(delta_ptr + batch_head * query_length + rows, delta, mask=row_mask)


@triton.jit
def _add_keys(
    dq,  # (BLOCK_M, BLOCK_D) float32
    q,  # (BLOCK_M, BLOCK_D)
    do,  # (BLOCK_M, BLOCK_D)
    lse_log2,  # (BLOCK_M,)
    delta,  # (BLOCK_M,)
    k_ptr,  # (key_length, HEAD_DIM) of this head
    v_ptr,  # (key_length, HEAD_DIM) of this head
    rows,  # (BLOCK_M,)
    start,
    end,
    key_length,
    k_row_stride,
    v_row_stride,
    scale_log2,
    CAUSAL: tl.constexpr,
    EVEN_N: tl.constexpr,
    MASKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Add ds k over the keys [start, end). Only the blocks that need it pay for masks."""
    MASK_ROWS: tl.constexpr = MASKED and not EVEN_N
    dims = tl.arange(0, BLOCK_D)
    # Only a scalar moves from block to block: pointer tiles carried through the loop cost 64 registers each.
    k_offsets = tl.arange(0, BLOCK_N)[:, None] * k_row_stride + dims[None, :]
    v_offsets = tl.arange(0, BLOCK_N)[:, None] * v_row_stride + dims[None, :]
    for first in tl.range(start, end, BLOCK_N):
        columns = first + tl.arange(0, BLOCK_N)
        k_block = k_ptr + tl.cast(first, tl.int64) * k_row_stride
        v_block = v_ptr + tl.cast(first, tl.int64) * v_row_stride
        k = load_rows(k_block + k_offsets, columns < key_length, dims, MASK_ROWS, HEAD_DIM, BLOCK_D)
        v = load_rows(v_block + v_offsets, columns < key_length, dims, MASK_ROWS, HEAD_DIM, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if MASKED:
            if CAUSAL:
                scores = tl.where(columns[None, :] <= rows[:, None], scores, float("-inf"))
            if not EVEN_N:
                scores = tl.where((columns < key_length)[None, :], scores, float("-inf"))
        p = tl.exp2(scores * scale_log2 - lse_log2[:, None])
        dp = tl.dot(do, tl.trans(v), input_precision="ieee")
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    return dq


@triton.jit
def attention_query_gradient_kernel(
    q_ptr,  # (batch, query_heads, query_length, head_dim)
    k_ptr,  # (batch, key_value_heads, key_length, head_dim)
    v_ptr,  # (batch, key_value_heads, key_length, head_dim)
    do_ptr,  # (batch, query_heads, query_length, head_dim)
    lse_ptr,  # (batch, query_heads, query_length) float32, contiguous
    delta_ptr,  # (batch, query_heads, query_length) float32, contiguous
    dq_ptr,  # (batch, query_heads, query_length, head_dim)
    query_heads,
    group_size,  # query heads per key/value head
    query_length,
    key_length,
    q_batch_stride,
    q_head_stride,
    q_row_stride,
    k_batch_stride,
    k_head_stride,
    k_row_stride,
    v_batch_stride,
    v_head_stride,
    v_row_stride,
    do_batch_stride,
    do_head_stride,
    do_row_stride,
    dq_batch_stride,
    dq_head_stride,
    dq_row_stride,
    scale,
    scale_log2,  # scale · log2(e)
    CAUSAL: tl.constexpr,
    EVEN_N: tl.constexpr,  # key_length is a multiple of BLOCK_N
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,  # HEAD_DIM rounded up to a power of two
):
    row_blocks = tl.cdiv(query_length, BLOCK_M)
    row_block = tl.program_id(0) % row_blocks
    if CAUSAL:
        # The last queries see the most keys: start them first, so that the tail of the grid is short work.
        row_block = row_blocks - 1 - row_block
    batch_head = (tl.program_id(0) // row_blocks).to(tl.int64)
    batch = batch_head // query_heads
    head = batch_head % query_heads
    key_head = head // group_size

    first_row = row_block * BLOCK_M
    rows = first_row + tl.arange(0, BLOCK_M)
    rows_64 = rows.to(tl.int64)[:, None]
    row_mask = rows < query_length
    dims = tl.arange(0, BLOCK_D)
    q_ptr += batch * q_batch_stride + head * q_head_stride
    k_ptr += batch * k_batch_stride + key_head * k_head_stride
    v_ptr += batch * v_batch_stride + key_head * v_head_stride
    do_ptr += batch * do_batch_stride + head * do_head_stride
    dq_ptr += batch * dq_batch_stride + head * dq_head_stride
    q = load_rows(q_ptr + rows_64 * q_row_stride + dims[None, :], row_mask, dims, True, HEAD_DIM, BLOCK_D)
    do = load_rows(do_ptr + rows_64 * do_row_stride + dims[None, :], row_mask, dims, True, HEAD_DIM, BLOCK_D)
    LOG2_E: tl.constexpr = 1.4426950408889634
    lse_log2 = tl.load(lse_ptr + batch_head * query_length + rows, mask=row_mask, other=0.0) * LOG2_E
    # A row whose scores are all -inf: its probabilities are to vanish, as its result did.
    lse_log2 = tl.where(lse_log2 == float("-inf"), float("inf"), lse_log2)
    delta = tl.load(delta_ptr + batch_head * query_length + rows, mask=row_mask, other=0.0)
    dq = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)

    # Blocks [0, full_end) are seen whole by every row.
    full_end = key_length // BLOCK_N * BLOCK_N
    end = key_length
    if CAUSAL:
        full_end = tl.minimum((first_row + 1) // BLOCK_N * BLOCK_N, full_end)
        end = tl.minimum(first_row + BLOCK_M, key_length)
    dq = _add_keys(
        dq, q, do, lse_log2, delta, k_ptr, v_ptr, rows,
        0, full_end, key_length, k_row_stride, v_row_stride, scale_log2,
        CAUSAL, EVEN_N, False, HEAD_DIM, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    if CAUSAL or not EVEN_N:
        dq = _add_keys(
            dq, q, do, lse_log2, delta, k_ptr, v_ptr, rows,
            full_end, end, key_length, k_row_stride, v_row_stride, scale_log2,
            CAUSAL, EVEN_N, True, HEAD_DIM, BLOCK_N, BLOCK_D,
        )  # fmt: skip
    store_rows(
        dq_ptr + rows_64 * dq_row_stride + dims[None, :], dq * scale, row_mask, dims, HEAD_DIM, BLOCK_D
    )


@triton.jit
def _add_queries(
    dk,  # (BLOCK_N, BLOCK_D) float32
    dv,  # (BLOCK_N, BLOCK_D) float32
    k,  # (BLOCK_N, BLOCK_D)
    v,  # (BLOCK_N, BLOCK_D)
    q_ptr,  # (GROUP, query_length, HEAD_DIM)
    do_ptr,  # (GROUP, query_length, HEAD_DIM)
    lse_ptr,  # (GROUP, query_length)
    delta_ptr,  # (GROUP, query_length)
    columns,  # (BLOCK_N,)
    first_block,
    count,
    skip_from,
    skipped,
    query_length,
    q_head_stride,
    q_row_stride,
    do_head_stride,
    do_row_stride,
    scale_log2,
    GROUP: tl.constexpr,
    CAUSAL: tl.constexpr,
    EVEN_M: tl.constexpr,
    MASKED: tl.constexpr,
    NEEDS_DK: tl.constexpr,
    NEEDS_DV: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Add dsᵀ q and pᵀ do over `count` blocks of queries of each head of the group.

    They begin at first_block; `skipped` blocks are left out at skip_from. Only the blocks that need it pay
    for masks.
    """
    MASK_ROWS: tl.constexpr = MASKED and not EVEN_M
    LOG2_E: tl.constexpr = 1.4426950408889634
    dims = tl.arange(0, BLOCK_D)
    q_offsets = tl.arange(0, BLOCK_M)[:, None] * q_row_stride + dims[None, :]
    do_offsets = tl.arange(0, BLOCK_M)[:, None] * do_row_stride + dims[None, :]
    # One loop over heads and blocks: nested, the pipeline of loads would drain at the end of each head.
    for index in tl.range(0, GROUP * count):
        head = 0
        block = first_block + index
        if GROUP > 1:
            head = index // count
            block -= head * count
        if MASKED:
            block += tl.where(block >= skip_from, skipped, 0)
        first = block * BLOCK_M
        rows = first + tl.arange(0, BLOCK_M)
        row_mask = rows < query_length
        q_block = q_ptr + (tl.cast(head, tl.int64) * q_head_stride + tl.cast(first, tl.int64) * q_row_stride)
        do_block = do_ptr + (
            tl.cast(head, tl.int64) * do_head_stride + tl.cast(first, tl.int64) * do_row_stride
        )
        q = load_rows(q_block + q_offsets, row_mask, dims, MASK_ROWS, HEAD_DIM, BLOCK_D)
        do = load_rows(do_block + do_offsets, row_mask, dims, MASK_ROWS, HEAD_DIM, BLOCK_D)
        statistics = tl.cast(head, tl.int64) * query_length
        if MASK_ROWS:
            lse = tl.load(lse_ptr + statistics + rows, mask=row_mask, other=float("inf"))
        else:
            lse = tl.load(lse_ptr + statistics + rows)
        # A row whose scores are all -inf: its probabilities are to vanish, as its result did.
        lse = tl.where(lse == float("-inf"), float("inf"), lse)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee")  # (BLOCK_N, BLOCK_M)
        p = tl.exp2(scores * scale_log2 - (lse * LOG2_E)[None, :])
        if MASKED and CAUSAL:
            p = tl.where(columns[:, None] <= rows[None, :], p, 0.0)
        if MASK_ROWS:
            p = tl.where(row_mask[None, :], p, 0.0)  # past the end 0 · -inf is NaN where a key is -inf
        if NEEDS_DV:
            dv = tl.dot(p.to(do.dtype), do, dv, input_precision="ieee")
        if NEEDS_DK:
            if MASK_ROWS:
                delta = tl.load(delta_ptr + statistics + rows, mask=row_mask, other=0.0)
            else:
                delta = tl.load(delta_ptr + statistics + rows)
            dp = tl.dot(v, tl.trans(do), input_precision="ieee")
            ds = p * (dp - delta[None, :])
            dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv


@triton.jit
def attention_key_gradients_kernel(
    q_ptr,  # (batch, query_heads, query_length, head_dim)
    k_ptr,  # (batch, key_value_heads, key_length, head_dim)
    v_ptr,  # (batch, key_value_heads, key_length, head_dim)
    do_ptr,  # (batch, query_heads, query_length, head_dim)
    lse_ptr,  # (batch, query_heads, query_length) float32, contiguous
    delta_ptr,  # (batch, query_heads, query_length) float32, contiguous; unused without NEEDS_DK
    dk_ptr,  # (batch, key_value_heads, key_length, head_dim); None without NEEDS_DK
    dv_ptr,  # (batch, key_value_heads, key_length, head_dim); None without NEEDS_DV
    key_value_heads,
    query_length,
    key_length,
    q_batch_stride,
    q_head_stride,
    q_row_stride,
    k_batch_stride,
    k_head_stride,
    k_row_stride,
    v_batch_stride,
    v_head_stride,
    v_row_stride,
    do_batch_stride,
    do_head_stride,
    do_row_stride,
    dk_batch_stride,
    dk_head_stride,
    dk_row_stride,
    dv_batch_stride,
    dv_head_stride,
    dv_row_stride,
    scale,
    scale_log2,  # scale · log2(e)
    GROUP: tl.constexpr,  # query heads per key/value head
    CAUSAL: tl.constexpr,
    EVEN_M: tl.constexpr,  # query_length is a multiple of BLOCK_M
    NEEDS_DK: tl.constexpr,
    NEEDS_DV: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,  # HEAD_DIM rounded up to a power of two
):
    # The first keys are seen by the most causal queries, and they come first already.
    column_blocks = tl.cdiv(key_length, BLOCK_N)
    first_column = tl.program_id(0) % column_blocks * BLOCK_N
    batch_head = (tl.program_id(0) // column_blocks).to(tl.int64)
    batch = batch_head // key_value_heads
    key_head = batch_head % key_value_heads

    lane = tl.arange(0, BLOCK_N)
    columns = first_column + lane
    column_mask = columns < key_length
    dims = tl.arange(0, BLOCK_D)
    k_ptr += batch * k_batch_stride + key_head * k_head_stride + first_column.to(tl.int64) * k_row_stride
    v_ptr += batch * v_batch_stride + key_head * v_head_stride + first_column.to(tl.int64) * v_row_stride
    k_ptrs = k_ptr + (lane[:, None] * k_row_stride + dims[None, :])
    v_ptrs = v_ptr + (lane[:, None] * v_row_stride + dims[None, :])
    k = load_rows(k_ptrs, column_mask, dims, True, HEAD_DIM, BLOCK_D)
    v = load_rows(v_ptrs, column_mask, dims, True, HEAD_DIM, BLOCK_D)
    dk = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)

    # Blocks of queries: [0, seen) see none of the keys, [seen, full) some, [full, even) all; the last may be
    # cut off by the end. One masked loop takes those before `full` and the last, skipping what lies between.
    blocks = tl.cdiv(query_length, BLOCK_M)
    even = query_length // BLOCK_M
    seen = 0
    full = 0
    if CAUSAL:
        seen = tl.minimum(first_column // BLOCK_M, blocks)
        full = tl.minimum(tl.cdiv(first_column + BLOCK_N - 1, BLOCK_M), blocks)
    first_head = key_head * GROUP
    q_ptr += batch * q_batch_stride + first_head * q_head_stride
    do_ptr += batch * do_batch_stride + first_head * do_head_stride
    lse_ptr += (batch * key_value_heads * GROUP + first_head) * query_length
    delta_ptr += (batch * key_value_heads * GROUP + first_head) * query_length
    between = tl.maximum(even - full, 0)
    if CAUSAL or not EVEN_M:
        dk, dv = _add_queries(
            dk, dv, k, v, q_ptr, do_ptr, lse_ptr, delta_ptr, columns,
            seen, blocks - between - seen, full, between, query_length,
            q_head_stride, q_row_stride, do_head_stride, do_row_stride, scale_log2,
            GROUP, CAUSAL, EVEN_M, True, NEEDS_DK, NEEDS_DV, HEAD_DIM, BLOCK_M, BLOCK_D,
        )  # fmt: skip
    dk, dv = _add_queries(
        dk, dv, k, v, q_ptr, do_ptr, lse_ptr, delta_ptr, columns,
        full, between, 0, 0, query_length,
        q_head_stride, q_row_stride, do_head_stride, do_row_stride, scale_log2,
        GROUP, CAUSAL, EVEN_M, False, NEEDS_DK, NEEDS_DV, HEAD_DIM, BLOCK_M, BLOCK_D,
    )  # fmt: skip
    if NEEDS_DK:
        dk_ptr += (
            batch * dk_batch_stride + key_head * dk_head_stride + first_column.to(tl.int64) * dk_row_stride
        )
        dk_ptrs = dk_ptr + (lane[:, None] * dk_row_stride + dims[None, :])
        store_rows(dk_ptrs, dk * scale, column_mask, dims, HEAD_DIM, BLOCK_D)
    if NEEDS_DV:
        dv_ptr += (
            batch * dv_batch_stride + key_head * dv_head_stride + first_column.to(tl.int64) * dv_row_stride
        )
        dv_ptrs = dv_ptr + (lane[:, None] * dv_row_stride + dims[None, :])
        store_rows(dv_ptrs, dv, column_mask, dims, HEAD_DIM, BLOCK_D)


def delta_launch(do: torch.Tensor, out: torch.Tensor, delta: torch.Tensor) -> Launch:
    """The launch that writes delta = rowsum(do · out), float32."""
    batch, heads, query_length, head_dim = out.shape
    block = 32 if head_dim <= 128 else 16
    return Launch(
        kernel=attention_delta_kernel,
        grid=(triton.cdiv(query_length, block) * batch * heads,),
        arguments={
            "do_ptr": do,
            "out_ptr": out,
            "delta_ptr": delta,
            "heads": heads,
            "query_length": query_length,
            **strides(do=do, out=out),
        },
        constants={"HEAD_DIM": head_dim, "BLOCK_M": block, "BLOCK_D": triton.next_power_of_2(head_dim)},
        num_warps=4,
        num_stages=1,
    )


def query_gradient_launch(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    do: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor,
    dq: torch.Tensor,
    *,
    causal: bool,
    scale: float,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes dq. lse and delta are float32 and contiguous."""
    batch, query_heads, query_length, head_dim = q.shape
    key_heads, key_length = k.shape[1:3]
    config = (
        config or query_candidates(architecture or architecture_of(q.device), q.element_size(), head_dim)[0]
    )
    return Launch(
        kernel=attention_query_gradient_kernel,
        grid=(triton.cdiv(query_length, config.BLOCK_M) * batch * query_heads,),
        arguments={
            "q_ptr": q,
            "k_ptr": k,
            "v_ptr": v,
            "do_ptr": do,
            "lse_ptr": lse,
            "delta_ptr": delta,
            "dq_ptr": dq,
            "query_heads": query_heads,
            "group_size": query_heads // key_heads,
            "query_length": query_length,
            "key_length": key_length,
            **strides(q=q, k=k, v=v, do=do, dq=dq),
            "scale": scale,
            "scale_log2": scale * math.log2(math.e),
        },
        constants={
            "CAUSAL": causal,
            "EVEN_N": key_length % config.BLOCK_N == 0,
            **tile(config, head_dim),
        },
        num_warps=config.warps,
        num_stages=config.stages,
    )


def key_gradient_launches(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    do: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor | None,
    dk: torch.Tensor | None,
    dv: torch.Tensor | None,
    *,
    causal: bool,
    scale: float,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> list[Launch]:
    """The launches that write dk and dv, or the one of them that is given; dv alone needs no delta."""
    batch, query_heads, query_length, head_dim = q.shape
    key_heads, key_length = k.shape[1:3]
    config = (
        config or key_candidates(architecture or architecture_of(q.device), q.element_size(), head_dim)[0]
    )
    if config.apart and dk is not None and dv is not None:
        options: dict[str, Any] = {
            "causal": causal,
            "scale": scale,
            "architecture": architecture,
            "config": config,
        }
        return [
            *key_gradient_launches(q, k, v, do, lse, delta, dk, None, **options),
            *key_gradient_launches(q, k, v, do, lse, None, None, dv, **options),
        ]
    launch = Launch(
        kernel=attention_key_gradients_kernel,
        grid=(triton.cdiv(key_length, config.BLOCK_N) * batch * key_heads,),
        arguments={
            "q_ptr": q,
            "k_ptr": k,
            "v_ptr": v,
            "do_ptr": do,
            "lse_ptr": lse,
            "delta_ptr": lse if delta is None else delta,
            "dk_ptr": dk,
            "dv_ptr": dv,
            "key_value_heads": key_heads,
            "query_length": query_length,
            "key_length": key_length,
            **strides(q=q, k=k, v=v, do=do, dk=k if dk is None else dk, dv=v if dv is None else dv),
            "scale": scale,
            "scale_log2": scale * math.log2(math.e),
        },
        constants={
            "GROUP": query_heads // key_heads,
            "CAUSAL": causal,
            "EVEN_M": query_length % config.BLOCK_M == 0,
            "NEEDS_DK": dk is not None,
            "NEEDS_DV": dv is not None,
            **tile(config, head_dim),
        },
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return [launch]


def attention_backward(
    do: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    causal: bool,
    scale: float,
    wanted: Sequence[bool] = (True, True, True),
    query_config: Config | None = None,
    key_config: Config | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """dq, dk, dv in the shape, dtype and, where dense, memory order of q, k, v; None if not wanted.

    do is the gradient of out, with any strides: it is copied unless its last dimension is contiguous. The
    configs override the tuned choice.
    """
    dq, dk, dv = (
        empty_as(tensor) if needed else None for tensor, needed in zip((q, k, v), wanted, strict=True)
    )
    if not out.numel():  # no query: nothing reaches the keys
        for gradient in (dk, dv):
            if gradient is not None:
                gradient.zero_()
        return dq, dk, dv
    if do.stride(3) != 1 or do.stride(2) >= MAX_ROW_STRIDE:
        do = do.contiguous()
    delta = None
    if dq is not None or dk is not None:
        delta = torch.empty_like(lse)
        delta_launch(do, out, delta).run()
    options: dict[str, Any] = {"causal": causal, "scale": scale}
    problem = architecture_of(q.device), q.element_size(), q.shape[3]
    key = tuning_key(q, k, causal)
    if dq is not None:

        def dq_launches(config: Config) -> list[Launch]:
            return [query_gradient_launch(q, k, v, do, lse, delta, dq, **options, config=config)]

        query_config = query_config or tuning.choose(
            "attention-dq", key, query_candidates(*problem), dq_launches, q.device
        )
        for launch in dq_launches(query_config):
            launch.run()
    if dk is not None or dv is not None:

        def dk_dv_launches(config: Config) -> list[Launch]:
            return key_gradient_launches(q, k, v, do, lse, delta, dk, dv, **options, config=config)

        part = "attention" + "-dk" * (dk is not None) + "-dv" * (dv is not None)
        key_config = key_config or tuning.choose(
            part, key, key_candidates(*problem), dk_dv_launches, q.device
        )
        for launch in dk_dv_launches(key_config):
            launch.run()
    return dq, dk, dv
