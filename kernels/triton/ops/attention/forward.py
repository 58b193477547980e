"""Attention forward: out = softmax(scale · q kᵀ) v per head, without storing the score matrix.

q: (batch, query_heads, query_length, head_dim); k, v: (batch, key_value_heads, key_length, head_dim); out
like q; lse, the log-sum-exp of the scaled scores that the backward pass needs: (batch, query_heads,
query_length) float32. float16, bfloat16 or float32 (IEEE products, no TF32).

Algorithm: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691). A program owns BLOCK_M rows, walks
over the keys and keeps, per row, the running maximum and sum of the softmax in float32, in units of log2.

Few queries do not fill a tile. Then the query heads that read one key/value head share it: row r is query
r // PACK of head r % PACK, and the keys are read once for all of them. And few tiles leave most processors
idle. Then the keys are split between programs, each writes its share of out and lse in float32, and a second
kernel adds them up in a fixed order (Flash-Decoding, https://pytorch.org/blog/flash-decoding/).
"""

import math

import torch

import triton
import triton.language as tl
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Architecture, Launch, architecture_of, name_of
from fuseproof.kernels.triton.ops.attention.configs import Config, forward_candidates

# Offsets within a tile are 32-bit, for the registers it saves; between tiles, heads and batches they are
# 64-bit.
MAX_ROW_STRIDE = 2**31 // 128


@triton.jit
def load_rows(ptrs, row_mask, dims, MASK_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """A tile (rows, BLOCK_D); what lies outside is zero, because 0 · NaN would spoil a product."""
    if MASK_ROWS:
        if HEAD_DIM < BLOCK_D:
            tile = tl.load(ptrs, mask=row_mask[:, None] & (dims < HEAD_DIM)[None, :], other=0.0)
        else:
            tile = tl.load(ptrs, mask=row_mask[:, None], other=0.0)
    elif HEAD_DIM < BLOCK_D:
        tile = tl.load(ptrs, mask=(dims < HEAD_DIM)[None, :], other=0.0)
    else:
        tile = tl.load(ptrs)
    return tile


@triton.jit
def store_rows(ptrs, tile, row_mask, dims, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Store a tile (rows, BLOCK_D) of float32, rounded to the type of the pointers."""
    rounded = tile.to(ptrs.dtype.element_ty)
    if HEAD_DIM < BLOCK_D:
        tl.store(ptrs, rounded, mask=row_mask[:, None] & (dims < HEAD_DIM)[None, :])
    else:
        tl.store(ptrs, rounded, mask=row_mask[:, None])


@triton.jit
def _attend(
    acc,  # (BLOCK_M, BLOCK_D) float32
    row_max,  # (BLOCK_M,) float32, in units of log2
    row_sum,  # (BLOCK_M,) float32
    q,  # (BLOCK_M, BLOCK_D)
    k_ptr,  # (key_length, HEAD_DIM) of this head
    v_ptr,  # (key_length, HEAD_DIM) of this head
    queries,  # (BLOCK_M,)
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
    """Fold the keys [start, end) into the accumulator. Only the blocks that need it pay for masks."""
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
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if MASKED:
            if CAUSAL:
                scores = tl.where(columns[None, :] <= queries[:, None], scores, float("-inf"))
            if not EVEN_N:
                scores = tl.where((columns < key_length)[None, :], scores, float("-inf"))
        # scale > 0 commutes with the maximum, so that scale and subtraction are one multiply-add per score.
        new_max = tl.maximum(row_max, tl.max(scores, axis=1) * scale_log2)
        # As long as every score is -inf, -inf - -inf would be NaN: they are subtracted from zero, and vanish.
        base = tl.where(new_max == float("-inf"), 0.0, new_max)
        p = tl.exp2(scores * scale_log2 - base[:, None])
        correction = tl.exp2(row_max - base)
        row_sum = row_sum * correction + tl.sum(p, axis=1)
        acc = acc * correction[:, None]
        v = load_rows(v_block + v_offsets, columns < key_length, dims, MASK_ROWS, HEAD_DIM, BLOCK_D)
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
        row_max = new_max
    return acc, row_max, row_sum


@triton.jit
def attention_forward_kernel(
    q_ptr,  # (batch, query_heads, query_length, head_dim)
    k_ptr,  # (batch, key_value_heads, key_length, head_dim)
    v_ptr,  # (batch, key_value_heads, key_length, head_dim)
    out_ptr,  # (batch, query_heads, query_length, head_dim); SPLIT: (splits, …) float32
    lse_ptr,  # (batch, query_heads, query_length) float32, contiguous; SPLIT: (splits, …)
    batch_size,
    query_heads,
    group_size,  # query heads per key/value head
    query_length,
    key_length,
    split_length,  # keys of one split, a multiple of BLOCK_N
    q_batch_stride,
    q_head_stride,
    q_row_stride,
    k_batch_stride,
    k_head_stride,
    k_row_stride,
    v_batch_stride,
    v_head_stride,
    v_row_stride,
    out_batch_stride,
    out_head_stride,
    out_row_stride,
    out_split_stride,
    scale_log2,  # scale · log2(e)
    PACK: tl.constexpr,  # query heads that share a tile: 1 or group_size
    CAUSAL: tl.constexpr,
    EVEN_N: tl.constexpr,  # key_length is a multiple of BLOCK_N
    SPLIT: tl.constexpr,  # the keys are shared between programs; never with CAUSAL
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,  # HEAD_DIM rounded up to a power of two
):
    row_count = query_length * PACK
    row_blocks = tl.cdiv(row_count, BLOCK_M)
    row_block = tl.program_id(0) % row_blocks
    if CAUSAL:
        # The last queries see the most keys: start them first, so that the tail of the grid is short work.
        row_block = row_blocks - 1 - row_block
    batch_head = (tl.program_id(0) // row_blocks).to(tl.int64)
    batch = batch_head * PACK // query_heads
    first_head = batch_head * PACK % query_heads
    key_head = first_head // group_size

    first_row = row_block * BLOCK_M
    rows = first_row + tl.arange(0, BLOCK_M)
    queries = rows // PACK
    heads = first_head + rows % PACK  # (BLOCK_M,) int64
    dims = tl.arange(0, BLOCK_D)
    q_ptrs = q_ptr + batch * q_batch_stride + heads[:, None] * q_head_stride
    q_ptrs += queries.to(tl.int64)[:, None] * q_row_stride + dims[None, :]
    q = load_rows(q_ptrs, rows < row_count, dims, True, HEAD_DIM, BLOCK_D)
    k_ptr += batch * k_batch_stride + key_head * k_head_stride
    v_ptr += batch * v_batch_stride + key_head * v_head_stride
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros([BLOCK_M], dtype=tl.float32)

    # Blocks [start, full_end) are seen whole by every row.
    start = 0
    end = key_length
    if SPLIT:
        start = tl.program_id(1) * split_length
        end = tl.minimum(start + split_length, key_length)
    full_end = end // BLOCK_N * BLOCK_N
    if CAUSAL:
        full_end = tl.minimum((first_row // PACK + 1) // BLOCK_N * BLOCK_N, full_end)
        end = tl.minimum((first_row + BLOCK_M - 1) // PACK + 1, key_length)
    acc, row_max, row_sum = _attend(
        acc, row_max, row_sum, q, k_ptr, v_ptr, queries,
        start, full_end, key_length, k_row_stride, v_row_stride, scale_log2,
        CAUSAL, EVEN_N, False, HEAD_DIM, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    if CAUSAL or not EVEN_N:
        acc, row_max, row_sum = _attend(
            acc, row_max, row_sum, q, k_ptr, v_ptr, queries,
            full_end, end, key_length, k_row_stride, v_row_stride, scale_log2,
            CAUSAL, EVEN_N, True, HEAD_DIM, BLOCK_N, BLOCK_D,
        )  # fmt: skip

    LN_2: tl.constexpr = 0.6931471805599453
    lse_offset = (batch * query_heads + heads) * query_length + queries
    out_ptr += batch * out_batch_stride
    if SPLIT:
        split = tl.program_id(1).to(tl.int64)
        lse_ptr += split * batch_size * query_heads * query_length
        out_ptr += split * out_split_stride
    tl.store(lse_ptr + lse_offset, (row_max + tl.log2(row_sum)) * LN_2, mask=rows < row_count)
    out_ptrs = out_ptr + heads[:, None] * out_head_stride
    out_ptrs += queries.to(tl.int64)[:, None] * out_row_stride + dims[None, :]
    # A row whose scores (in this split) are all -inf has the result 0 and the log-sum-exp -inf.
    divisor = tl.where(row_sum == 0.0, 1.0, row_sum)
    store_rows(out_ptrs, acc / divisor[:, None], rows < row_count, dims, HEAD_DIM, BLOCK_D)


@triton.jit
def attention_combine_kernel(
    partial_ptr,  # (splits, batch, heads, query_length, head_dim) float32, contiguous
    partial_lse_ptr,  # (splits, batch, heads, query_length) float32, contiguous
    out_ptr,  # (batch, heads, query_length, head_dim)
    lse_ptr,  # (batch, heads, query_length) float32, contiguous
    splits,
    row_count,  # batch · heads · query_length
    heads,
    query_length,
    out_batch_stride,
    out_head_stride,
    out_row_stride,
    HEAD_DIM: tl.constexpr,
    BLOCK_S: tl.constexpr,  # splits rounded up to a power of two
    BLOCK_D: tl.constexpr,
):
    """out = Σ exp(lse_s − lse) out_s over the splits s of one row, lse = log Σ exp(lse_s)."""
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, BLOCK_S)
    dims = tl.arange(0, BLOCK_D)
    rows = split.to(tl.int64) * row_count + row
    partial_lse = tl.load(partial_lse_ptr + rows, mask=split < splits, other=float("-inf"))
    largest = tl.max(partial_lse, axis=0)
    share = tl.exp(partial_lse - tl.where(largest == float("-inf"), 0.0, largest))
    total = tl.sum(share, axis=0)
    tl.store(lse_ptr + row, largest + tl.log(total))
    ptrs = partial_ptr + rows[:, None] * HEAD_DIM + dims[None, :]
    partial = load_rows(ptrs, split < splits, dims, True, HEAD_DIM, BLOCK_D)
    out = tl.sum(partial * share[:, None], axis=0) / tl.where(total == 0.0, 1.0, total)
    out_ptr += row // (heads * query_length) * out_batch_stride
    out_ptr += row // query_length % heads * out_head_stride + row % query_length * out_row_stride
    tl.store(out_ptr + dims, out.to(out_ptr.dtype.element_ty), mask=dims < HEAD_DIM)


def strides(**tensors: torch.Tensor) -> dict[str, int]:
    """`q_batch_stride`, `q_head_stride`, `q_row_stride` for each tensor by name."""
    return {
        f"{name}_{axis}_stride": stride
        for name, tensor in tensors.items()
        for axis, stride in zip(("batch", "head", "row"), tensor.stride()[:3], strict=True)
    }


def tile(config: Config, head_dim: int) -> dict[str, object]:
    """The constexpr parameters that say how large a tile is."""
    return {
        "HEAD_DIM": head_dim,
        "BLOCK_M": config.BLOCK_M,
        "BLOCK_N": config.BLOCK_N,
        "BLOCK_D": triton.next_power_of_2(head_dim),
    }


# Rows of the tallest tile that heads share: packing costs registers, and a long query fills tiles by itself.
PACKED_ROWS = 64


def heads_of_a_tile(group: int, query_length: int) -> int:
    """How many query heads share a tile."""
    return group if group * query_length <= PACKED_ROWS else 1


# A split must be long enough to pay for writing and reading its share, and few enough for one combining tile.
_SPLIT_KEYS = 256
_MAX_SPLITS = 32


def split_length(architecture: Architecture, programs: int, key_length: int, block: int) -> int:
    """Keys of one split, a multiple of `block`: so many splits that each processor has two programs."""
    splits = min(2 * architecture.processors // programs, key_length // _SPLIT_KEYS, _MAX_SPLITS)
    return int(triton.cdiv(triton.cdiv(key_length, max(splits, 1)), block) * block)


def forward_launches(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    causal: bool,
    scale: float,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> list[Launch]:
    """The launches that write out and lse (float32, contiguous). Tensors may be on the meta device."""
    batch, query_heads, query_length, head_dim = q.shape
    key_heads, key_length = k.shape[1:3]
    architecture = architecture or architecture_of(q.device)
    group = query_heads // key_heads
    pack = heads_of_a_tile(group, query_length)
    rows = pack * query_length
    config = config or forward_candidates(architecture, q.element_size(), head_dim, rows)[0]
    programs = triton.cdiv(rows, config.BLOCK_M) * batch * query_heads // pack
    # Few causal queries see few keys, the first ones. Queries of more than one tile keep the processors busy.
    decoding = rows <= config.BLOCK_M and not causal
    part = split_length(architecture, programs, key_length, config.BLOCK_N) if decoding else key_length
    splits = triton.cdiv(key_length, part)
    if splits == 1:
        first_out, first_lse, out_split_stride = out, lse, 0
    else:
        first_out = torch.empty(splits, *q.shape, dtype=torch.float32, device=q.device)
        first_lse = torch.empty(splits, *lse.shape, dtype=torch.float32, device=q.device)
        out_split_stride = first_out.stride(0)
    attend = Launch(
        kernel=attention_forward_kernel,
        grid=(programs, splits),
        arguments={
            "q_ptr": q,
            "k_ptr": k,
            "v_ptr": v,
            "out_ptr": first_out,
            "lse_ptr": first_lse,
            "batch_size": batch,
            "query_heads": query_heads,
            "group_size": group,
            "query_length": query_length,
            "key_length": key_length,
            "split_length": part,
            **strides(q=q, k=k, v=v, out=out if splits == 1 else first_out[0]),
            "out_split_stride": out_split_stride,
            "scale_log2": scale * math.log2(math.e),
        },
        constants={
            "PACK": pack,
            "CAUSAL": causal,
            "EVEN_N": key_length % config.BLOCK_N == 0,
            "SPLIT": splits > 1,
            **tile(config, head_dim),
        },
        num_warps=config.warps,
        num_stages=config.stages,
    )
    if splits == 1:
        return [attend]
    combine = Launch(
        kernel=attention_combine_kernel,
        grid=(lse.numel(),),
        arguments={
            "partial_ptr": first_out,
            "partial_lse_ptr": first_lse,
            "out_ptr": out,
            "lse_ptr": lse,
            "splits": splits,
            "row_count": lse.numel(),
            "heads": query_heads,
            "query_length": query_length,
            **strides(out=out),
        },
        constants={
            "HEAD_DIM": head_dim,
            "BLOCK_S": triton.next_power_of_2(splits),
            "BLOCK_D": triton.next_power_of_2(head_dim),
        },
        num_warps=4,
        num_stages=1,
    )
    return [attend, combine]


def empty_as(x: torch.Tensor) -> torch.Tensor:
    """An uninitialised tensor like x with a contiguous last dimension, as the kernels need it to write.

    A dense x keeps its memory order: (batch, length, heads, dim) stays so. Rows that overlap, as those of
    `unfold`, have no such order, and `empty_like` may put their last dimension anywhere.
    """
    made = torch.empty_like(x)
    if made.stride(-1) == 1:
        return made
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def tuning_key(q: torch.Tensor, k: torch.Tensor, causal: bool) -> tuple[object, ...]:
    """What changes the fastest config: lengths, batch and heads by powers of two.

    It counts the rows of tiles, not the queries, so that problems of one key have the same candidates.
    """
    batch, query_heads, query_length, head_dim = q.shape
    key_heads, key_length = k.shape[1:3]
    group = query_heads // key_heads
    rows = heads_of_a_tile(group, query_length) * query_length
    buckets = map(triton.next_power_of_2, (batch * key_heads, rows, key_length))
    return (name_of(q.dtype), head_dim, group, causal, *buckets)


def attention_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """out like q, and the log-sum-exp of the scaled scores: (batch, query_heads, query_length) float32.

    `attention` checks the arguments, this does not. `config` overrides the tuned choice.
    """
    out = empty_as(q)
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    if not out.numel():
        return out, lse
    scale = q.shape[3] ** -0.5 if scale is None else scale

    def launches_of(config: Config) -> list[Launch]:
        return forward_launches(q, k, v, out, lse, causal=causal, scale=scale, config=config)

    if config is None:
        rows = heads_of_a_tile(q.shape[1] // k.shape[1], q.shape[2]) * q.shape[2]
        found = forward_candidates(architecture_of(q.device), q.element_size(), q.shape[3], rows)
        config = tuning.choose("attention", tuning_key(q, k, causal), found, launches_of, q.device)
    for launch in launches_of(config):
        launch.run()
    return out, lse
