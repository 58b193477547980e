"""Attention forward: out = softmax(scale · q kᵀ) v per head, without storing the score matrix.

q: (batch, query_heads, query_length, head_dim); k, v: (batch, key_value_heads, key_length, head_dim); out
like q. Query head h reads key/value head h // (query_heads / key_value_heads). float16, bfloat16 or float32
(IEEE products, no TF32), any strides with a contiguous last dimension. Causal masking is aligned at the
start, as PyTorch's `scaled_dot_product_attention(is_causal=True)`: query i sees the keys j ≤ i, whatever the
two lengths.

Algorithm: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691), forward pass. A program owns BLOCK_M
queries of one head, walks over the keys and keeps, per query, the running maximum and sum of the softmax in
float32. The log-sum-exp of the scaled scores is saved in float32 for the backward pass.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import torch

import triton
import triton.language as tl
from fuseproof.kernels.triton.launch import (
    TARGETS,
    Launch,
    Target,
    check_no_gradient,
    check_same_dtype,
    check_tensors,
    name_of,
    target_of,
)

HEAD_DIMS = (64, 96, 128, 256)

# Offsets within a tile are 32-bit, for the registers it saves; between tiles, heads and batches they are
# 64-bit.
_MAX_ROW_STRIDE = 2**31 // 128


@dataclass(frozen=True, kw_only=True)
class Config:
    """Tile sizes, for capabilities from `sm` on, elements of up to `bytes` bytes and head dims up to
    `head_dim`.

    `queries` is the longest query the row is meant for: a short query does not fill a tall tile.
    """

    sm: int
    bytes: int
    head_dim: int
    queries: float
    BLOCK_M: int
    BLOCK_N: int
    warps: int
    stages: int


# The first row that fits is taken. Chosen ahead of time for zero spills; not yet measured on a GPU.
CONFIGS = (
    Config(sm=90,  bytes=2, head_dim=64,  queries=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,  queries=inf, BLOCK_M=128, BLOCK_N=128, warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=128, queries=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=128, queries=inf, BLOCK_M=128, BLOCK_N=128, warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=256, queries=64,  BLOCK_M=64,  BLOCK_N=32,  warps=4, stages=2),
    Config(sm=100, bytes=2, head_dim=256, queries=inf, BLOCK_M=128, BLOCK_N=32,  warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=256, queries=inf, BLOCK_M=128, BLOCK_N=64,  warps=8, stages=2),
    Config(sm=0,   bytes=2, head_dim=64,  queries=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=0,   bytes=2, head_dim=64,  queries=inf, BLOCK_M=128, BLOCK_N=64,  warps=4, stages=3),
    Config(sm=0,   bytes=2, head_dim=128, queries=inf, BLOCK_M=128, BLOCK_N=64,  warps=8, stages=3),
    Config(sm=0,   bytes=2, head_dim=256, queries=inf, BLOCK_M=64,  BLOCK_N=32,  warps=8, stages=2),
    Config(sm=0,   bytes=4, head_dim=64,  queries=inf, BLOCK_M=32,  BLOCK_N=32,  warps=4, stages=2),
    Config(sm=0,   bytes=4, head_dim=128, queries=inf, BLOCK_M=64,  BLOCK_N=16,  warps=8, stages=2),
    Config(sm=0,   bytes=4, head_dim=256, queries=inf, BLOCK_M=64,  BLOCK_N=16,  warps=8, stages=2),
    # Small enough for any GPU, whatever its shared memory.
    Config(sm=0,   bytes=4, head_dim=256, queries=inf, BLOCK_M=16,  BLOCK_N=16,  warps=4, stages=1),
)  # fmt: skip


def shared_memory(config: Config, itemsize: int, head_dim: int) -> int:
    """Bytes of shared memory needed: the queries once, keys and values per stage."""
    padded: int = triton.next_power_of_2(head_dim)
    return itemsize * padded * (config.BLOCK_M + 2 * config.BLOCK_N * config.stages)


def is_legal(config: Config, target: Target, itemsize: int, head_dim: int) -> bool:
    """Whether the kernel computes correctly with this config and fits the target."""
    return (
        config.sm <= target.capability
        and config.bytes >= itemsize
        and config.head_dim >= head_dim
        and shared_memory(config, itemsize, head_dim) <= target.shared_memory
    )


@functools.cache
def choose_config(target: Target, itemsize: int, head_dim: int, query_length: int) -> Config:
    """The first legal row whose tile is not too tall for the query."""
    return next(
        row for row in CONFIGS if row.queries >= query_length and is_legal(row, target, itemsize, head_dim)
    )


@triton.jit
def _load_rows(ptrs, row_mask, dims, MASK_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    # Rows past the end must be zero, not garbage: 0 · NaN would spoil the product with the probabilities.
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
def _attend(
    acc,  # (BLOCK_M, BLOCK_D) float32
    row_max,  # (BLOCK_M,) float32, in units of log2
    row_sum,  # (BLOCK_M,) float32
    q,  # (BLOCK_M, BLOCK_D)
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
        k = _load_rows(k_block + k_offsets, columns < key_length, dims, MASK_ROWS, HEAD_DIM, BLOCK_D)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if MASKED:
            if CAUSAL:
                scores = tl.where(columns[None, :] <= rows[:, None], scores, float("-inf"))
            if not EVEN_N:
                scores = tl.where((columns < key_length)[None, :], scores, float("-inf"))
        # scale > 0 commutes with the maximum, so that scale and subtraction are one multiply-add per score.
        new_max = tl.maximum(row_max, tl.max(scores, axis=1) * scale_log2)
        p = tl.exp2(scores * scale_log2 - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(p, axis=1)
        acc = acc * correction[:, None]
        v = _load_rows(v_block + v_offsets, columns < key_length, dims, MASK_ROWS, HEAD_DIM, BLOCK_D)
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
        row_max = new_max
    return acc, row_max, row_sum


@triton.jit
def attention_forward_kernel(
    q_ptr,  # (batch, query_heads, query_length, head_dim)
    k_ptr,  # (batch, key_value_heads, key_length, head_dim)
    v_ptr,  # (batch, key_value_heads, key_length, head_dim)
    out_ptr,  # (batch, query_heads, query_length, head_dim)
    lse_ptr,  # (batch, query_heads, query_length) float32, contiguous
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
    out_batch_stride,
    out_head_stride,
    out_row_stride,
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
    dims = tl.arange(0, BLOCK_D)
    q_ptr += batch * q_batch_stride + head * q_head_stride
    k_ptr += batch * k_batch_stride + key_head * k_head_stride
    v_ptr += batch * v_batch_stride + key_head * v_head_stride
    out_ptr += batch * out_batch_stride + head * out_head_stride
    q_ptrs = q_ptr + rows.to(tl.int64)[:, None] * q_row_stride + dims[None, :]
    q = _load_rows(q_ptrs, rows < query_length, dims, True, HEAD_DIM, BLOCK_D)
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros([BLOCK_M], dtype=tl.float32)

    # Blocks [0, full_end) are seen whole by every row. Key 0 is seen by every row and comes first, so row_max
    # is finite from the first block on and -inf - -inf never arises.
    full_end = key_length // BLOCK_N * BLOCK_N
    end = key_length
    if CAUSAL:
        full_end = tl.minimum((first_row + 1) // BLOCK_N * BLOCK_N, full_end)
        end = tl.minimum(first_row + BLOCK_M, key_length)
    acc, row_max, row_sum = _attend(
        acc, row_max, row_sum, q, k_ptr, v_ptr, rows,
        0, full_end, key_length, k_row_stride, v_row_stride, scale_log2,
        CAUSAL, EVEN_N, False, HEAD_DIM, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    if CAUSAL or not EVEN_N:
        acc, row_max, row_sum = _attend(
            acc, row_max, row_sum, q, k_ptr, v_ptr, rows,
            full_end, end, key_length, k_row_stride, v_row_stride, scale_log2,
            CAUSAL, EVEN_N, True, HEAD_DIM, BLOCK_N, BLOCK_D,
        )  # fmt: skip

    row_mask = rows < query_length
    LN_2: tl.constexpr = 0.6931471805599453
    tl.store(lse_ptr + batch_head * query_length + rows, (row_max + tl.log2(row_sum)) * LN_2, mask=row_mask)
    out = (acc / row_sum[:, None]).to(out_ptr.dtype.element_ty)
    out_ptrs = out_ptr + rows.to(tl.int64)[:, None] * out_row_stride + dims[None, :]
    if HEAD_DIM < BLOCK_D:
        tl.store(out_ptrs, out, mask=row_mask[:, None] & (dims < HEAD_DIM)[None, :])
    else:
        tl.store(out_ptrs, out, mask=row_mask[:, None])


def plan_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    causal: bool,
    scale: float,
    target: Target | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes out and lse (float32, contiguous). Tensors may be on the meta device."""
    batch, query_heads, query_length, head_dim = q.shape
    key_heads, key_length = k.shape[1:3]
    target = target or target_of(q.device)
    config = config or choose_config(target, q.element_size(), head_dim, query_length)
    return Launch(
        kernel=attention_forward_kernel,
        grid=(triton.cdiv(query_length, config.BLOCK_M) * batch * query_heads,),
        arguments={
            "q_ptr": q,
            "k_ptr": k,
            "v_ptr": v,
            "out_ptr": out,
            "lse_ptr": lse,
            "query_heads": query_heads,
            "group_size": query_heads // key_heads,
            "query_length": query_length,
            "key_length": key_length,
            **{
                f"{name}_{axis}_stride": stride
                for name, tensor in (("q", q), ("k", k), ("v", v), ("out", out))
                for axis, stride in zip(("batch", "head", "row"), tensor.stride(), strict=False)
            },
            "scale_log2": scale * math.log2(math.e),
        },
        constants={
            "CAUSAL": causal,
            "EVEN_N": key_length % config.BLOCK_N == 0,
            "HEAD_DIM": head_dim,
            "BLOCK_M": config.BLOCK_M,
            "BLOCK_N": config.BLOCK_N,
            "BLOCK_D": triton.next_power_of_2(head_dim),
        },
        num_warps=config.warps,
        num_stages=config.stages,
    )


def attention_forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """out like q, and the log-sum-exp of the scaled scores: (batch, query_heads, query_length) float32."""
    _check(q, k, v, scale)
    out = torch.empty_like(q)  # a dense q keeps its memory order: (batch, length, heads, dim) stays so
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    if out.numel():
        scale = q.shape[3] ** -0.5 if scale is None else scale
        plan_forward(q, k, v, out, lse, causal=causal, scale=scale, config=config).run()
    return out, lse


def variants(dtype: torch.dtype, target: Target = TARGETS[90]) -> Iterator[Launch]:
    """Launches on meta tensors that use every tile of `dtype` on `target` and every branch of the kernel."""
    cases = (
        # head_dim, length, causal
        (64, 1, False),
        (64, 4099, True),
        (96, 4099, True),
        (128, 1, False),
        (128, 4096, False),
        (128, 4096, True),
        (128, 4099, True),
        (256, 1, False),
        (256, 4099, True),
    )
    for head_dim, length, causal in cases:
        q = torch.empty(2, length, 16, head_dim, dtype=dtype, device="meta").transpose(1, 2)
        k = torch.empty(2, max(length, 2049), 4, head_dim, dtype=dtype, device="meta").transpose(1, 2)
        lse = torch.empty(q.shape[:3], device="meta")
        launch = plan_forward(q, k, k, q, lse, causal=causal, scale=head_dim**-0.5, target=target)
        yield launch.labelled(f"attention[s{length}-d{head_dim}{'-causal' * causal}-{name_of(dtype)}]")


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> None:
    tensors = {"q": q, "k": k, "v": v}
    check_tensors("attention", tensors, {})
    check_same_dtype("attention", tensors)
    for name, tensor in tensors.items():
        if tensor.dim() != 4:
            raise ValueError(
                f"attention: {name} must be (batch, heads, length, head_dim), "
                f"not of shape {tuple(tensor.shape)}"
            )
        if tensor.stride(3) != 1:
            raise ValueError(
                f"attention: the last dimension of {name} must be contiguous, "
                f"but its strides are {tensor.stride()}; call {name}.contiguous()"
            )
        if tensor.stride(2) >= _MAX_ROW_STRIDE:
            raise ValueError(
                f"attention: rows of {name} are {tensor.stride(2)} elements apart, "
                f"more than the {_MAX_ROW_STRIDE - 1} supported; call {name}.contiguous()"
            )
    batch, query_heads, _, head_dim = q.shape
    if k.shape != v.shape:
        raise ValueError(f"attention: k {tuple(k.shape)} and v {tuple(v.shape)} must have one shape")
    if k.shape[0] != batch or k.shape[3] != head_dim:
        raise ValueError(
            f"attention: q {tuple(q.shape)} and k {tuple(k.shape)} must agree in batch and head dimension"
        )
    if head_dim not in HEAD_DIMS:
        raise ValueError(
            f"attention: head dimension {head_dim} is not one of {HEAD_DIMS}; pad q, k and v with zeros"
        )
    if k.shape[1] == 0 or query_heads % k.shape[1]:
        raise ValueError(
            f"attention: {query_heads} query heads are not a multiple of {k.shape[1]} key/value heads; "
            "repeat k and v"
        )
    if k.shape[2] == 0:
        raise ValueError("attention: there must be at least one key; softmax over none is undefined")
    if scale is not None and not 0 < scale < inf:
        raise ValueError(f"attention: scale must be positive and finite, not {scale}; fold a sign into q")
    check_no_gradient("attention", q, k, v)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(scale · q kᵀ) v per head.

    Args:
        q: (batch, query_heads, query_length, head_dim), float16, bfloat16 or float32, head_dim 64, 96, 128 or
            256.
        k, v: (batch, key_value_heads, key_length, head_dim), dtype and device of q. key_value_heads divides
            query_heads.
        causal: query i sees only the keys j ≤ i (aligned at the start, PyTorch's `is_causal`).
        scale: positive; head_dim ** -0.5 if None.

    Any strides with a contiguous last dimension, nothing is copied. Products of float32 are IEEE, not TF32.
    Returns the shape, dtype and, where q is dense, memory order of q.

    Raises ValueError or TypeError for what the kernel cannot take, NotImplementedError for tensors that are
    not on a GPU (outside Triton's interpreter) and for inputs that require a gradient.

    Source: FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691), forward pass.
    """
    return attention_forward(q, k, v, causal=causal, scale=scale)[0]
