"""The jit kernels of `matmul`.

    matmul_kernel             operands of any strides, read through pointers; one tile per program
    matmul_descriptor_kernel  operands with 16-byte aligned rows, read by the tensor memory accelerator (TMA);
                              persistent: each program takes tiles until none is left
    matmul_reduce_kernel      sums the parts of a product whose K was split, then does the epilogue
    matmul_cotangent_kernel   dc · activation'(pre-activation), and sums of its columns for dbias

Products accumulate in float32, the epilogue is computed in float32, results are rounded once, at the store.
Nothing is added atomically: the order of every sum depends on shapes and config alone.
"""

import triton
import triton.language as tl


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(-1.4426950408889634 * x))  # by log₂ e, in exp2: one instruction on a GPU


@triton.jit
def _activate(x, ACTIVATION: tl.constexpr):
    """x: float32. GELU's tanh form by σ, since (1 + tanh u)/2 = σ(2u): the interpreter has no tanh."""
    if ACTIVATION == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        y = x * _sigmoid(2.0 * 0.7978845608028654 * (x + 0.044715 * x * x * x))
    elif ACTIVATION == "silu":
        y = x * _sigmoid(x)
    elif ACTIVATION == "relu":
        y = tl.where(x < 0.0, 0.0, x)  # not a maximum: NaN must stay NaN
    else:
        y = x
    return y


@triton.jit
def _activation_slope(x, ACTIVATION: tl.constexpr):
    """The derivative of a smooth activation at x: float32."""
    if ACTIVATION == "gelu":
        density = 0.3989422804014327 * tl.exp2(-0.7213475204444817 * x * x)  # log₂ e / 2
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * density
    elif ACTIVATION == "gelu_tanh":
        s = _sigmoid(2.0 * 0.7978845608028654 * (x + 0.044715 * x * x * x))
        bend = 2.0 * x * s * (1.0 - s) * 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * x * x)
        # Beyond 10 the bend is under 1e-36, and x² may be infinite where s (1 - s) is 0.
        slope = s + tl.where(tl.abs(x) < 10.0, bend, 0.0)
    else:
        tl.static_assert(ACTIVATION == "silu")
        s = _sigmoid(x)
        slope = s * (1.0 + x * (1.0 - s))
    return slope


@triton.jit
def _finish(
    acc,  # (BLOCK_M, BLOCK_N), float32
    rows,  # (BLOCK_M,)
    columns,  # (BLOCK_N,)
    M,
    N,
    bias_ptr,
    residual_ptr,
    scale_a_ptr,
    scale_b_ptr,
    pre_ptr,
    bias_stride,
    residual_row_stride,
    residual_column_stride,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_SCALE_A: tl.constexpr,
    HAS_SCALE_B: tl.constexpr,
    SAVE_PRE: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """activation(acc · scales + bias) + residual; the activation's argument is stored with SAVE_PRE."""
    if HAS_SCALE_A:
        acc *= tl.load(scale_a_ptr)
    if HAS_SCALE_B:
        acc *= tl.load(scale_b_ptr)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + columns.to(tl.int64) * bias_stride, mask=columns < N, other=0.0)
        acc += bias.to(tl.float32)[None, :]
    mask = (rows < M)[:, None] & (columns < N)[None, :]
    wide_rows = rows.to(tl.int64)[:, None]
    wide_columns = columns.to(tl.int64)[None, :]
    if SAVE_PRE:
        tl.store(pre_ptr + wide_rows * N + wide_columns, acc.to(pre_ptr.dtype.element_ty), mask=mask)
    acc = _activate(acc, ACTIVATION)
    if HAS_RESIDUAL:
        residual_ptrs = residual_ptr + wide_rows * residual_row_stride + wide_columns * residual_column_stride
        acc += tl.load(residual_ptrs, mask=mask, other=0.0).to(tl.float32)
    return acc


@triton.jit
def _place_of(tile, M, N, GROUP_M: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """First row and column of a tile: GROUP_M rows of tiles are walked column by column, then the next."""
    tile_rows = tl.cdiv(M, BLOCK_M)
    group_tiles = GROUP_M * tl.cdiv(N, BLOCK_N)
    first_tile_row = tile // group_tiles * GROUP_M
    group_rows = tl.minimum(tile_rows - first_tile_row, GROUP_M)
    in_group = tile % group_tiles
    return (first_tile_row + in_group % group_rows) * BLOCK_M, in_group // group_rows * BLOCK_N


@triton.jit
def matmul_kernel(
    a_ptr,  # (M, K)
    b_ptr,  # (K, N)
    bias_ptr,  # (N,)
    residual_ptr,  # (M, N)
    scale_a_ptr,  # (1,), float32
    scale_b_ptr,  # (1,), float32
    c_ptr,  # (M, N), contiguous; with SPLIT (splits, M, N) in float32, products only
    pre_ptr,  # (M, N), contiguous
    M,
    N,
    K,
    a_row_stride,
    a_column_stride,
    b_row_stride,
    b_column_stride,
    bias_stride,
    residual_row_stride,
    residual_column_stride,
    split_blocks,  # blocks of K per split
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_SCALE_A: tl.constexpr,
    HAS_SCALE_B: tl.constexpr,
    SAVE_PRE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    IMPRECISE: tl.constexpr,  # float8: terms that may be added in the tensor cores' short accumulator
    SPLIT: tl.constexpr,
    EVEN_K: tl.constexpr,  # K is a multiple of BLOCK_K
    GROUP_M: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    first_row, first_column = _place_of(tl.program_id(0), M, N, GROUP_M, BLOCK_M, BLOCK_N)

    # Rows and columns past the edge wrap around to real ones: their products are never stored, and the loop
    # over K needs no mask for them.
    rows = first_row + tl.arange(0, BLOCK_M)
    columns = first_column + tl.arange(0, BLOCK_N)
    ks = tl.arange(0, BLOCK_K).to(tl.int64)
    a_ptrs = a_ptr + (rows % M).to(tl.int64)[:, None] * a_row_stride + ks[None, :] * a_column_stride
    b_ptrs = b_ptr + ks[:, None] * b_row_stride + (columns % N).to(tl.int64)[None, :] * b_column_stride
    a_step = tl.cast(a_column_stride, tl.int64) * BLOCK_K
    b_step = tl.cast(b_row_stride, tl.int64) * BLOCK_K

    full_blocks = K // BLOCK_K
    if SPLIT:
        first_block = tl.program_id(1) * split_blocks
        a_ptrs += first_block * a_step
        b_ptrs += first_block * b_step
        blocks = tl.minimum(split_blocks, full_blocks - first_block)
        # Only the last split has the ragged end of K.
        rest = tl.where(first_block + split_blocks > full_blocks, K - full_blocks * BLOCK_K, 0)
    else:
        blocks = full_blocks
        rest = K - full_blocks * BLOCK_K

    acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for _ in tl.range(0, blocks):
        a, b = tl.load(a_ptrs), tl.load(b_ptrs)
        acc = tl.dot(a, b, acc, input_precision=PRECISION, max_num_imprecise_acc=IMPRECISE)
        a_ptrs += a_step
        b_ptrs += b_step
    if not EVEN_K:
        in_k = ks < rest
        a = tl.load(a_ptrs, mask=in_k[None, :], other=0.0)
        b = tl.load(b_ptrs, mask=in_k[:, None], other=0.0)
        acc = tl.dot(a, b, acc, input_precision=PRECISION, max_num_imprecise_acc=IMPRECISE)

    c_row = rows.to(tl.int64)
    if SPLIT:
        c_row += tl.program_id(1).to(tl.int64) * M
    else:
        acc = _finish(
            acc,
            rows,
            columns,
            M,
            N,
            bias_ptr,
            residual_ptr,
            scale_a_ptr,
            scale_b_ptr,
            pre_ptr,
            bias_stride,
            residual_row_stride,
            residual_column_stride,
            HAS_BIAS,
            HAS_RESIDUAL,
            HAS_SCALE_A,
            HAS_SCALE_B,
            SAVE_PRE,
            ACTIVATION,
        )
    mask = (rows < M)[:, None] & (columns < N)[None, :]
    c_ptrs = c_ptr + c_row[:, None] * N + columns.to(tl.int64)[None, :]
    tl.store(c_ptrs, acc.to(c_ptr.dtype.element_ty), mask=mask)


@triton.jit
def matmul_descriptor_kernel(
    a_ptr,  # (M, K); with A_TRANSPOSED (K, M)
    b_ptr,  # (K, N); with B_TRANSPOSED (N, K)
    bias_ptr,  # (N,)
    residual_ptr,  # (M, N)
    scale_a_ptr,  # (1,), float32
    scale_b_ptr,  # (1,), float32
    c_ptr,  # (M, N), contiguous; with SPLIT (splits, M, N) in float32, products only
    pre_ptr,  # (M, N), contiguous
    M,
    N,
    K,
    a_stride,  # between rows as they lie in memory; elements of a row are neighbours
    b_stride,
    bias_stride,
    residual_row_stride,
    residual_column_stride,
    splits,
    split_blocks,  # blocks of K per split
    A_TRANSPOSED: tl.constexpr,
    B_TRANSPOSED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_SCALE_A: tl.constexpr,
    HAS_SCALE_B: tl.constexpr,
    SAVE_PRE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    IMPRECISE: tl.constexpr,
    SPLIT: tl.constexpr,
    SPECIALIZE: tl.constexpr,
    PARTS: tl.constexpr,  # 2: halves of a tile's columns are finished one after the other, in fewer registers
    GROUP_M: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # Made here and not on the host: with warp specialization on Hopper, two groups of warps each take half
    # of a tile's rows, and the compiler can halve the boxes only of descriptors that it sees being made.
    # Elements outside of a tensor read as 0 and are not written, so no edge needs a mask.
    if A_TRANSPOSED:
        a_tiles = tl.make_tensor_descriptor(a_ptr, [K, M], [a_stride, 1], [BLOCK_K, BLOCK_M])
    else:
        a_tiles = tl.make_tensor_descriptor(a_ptr, [M, K], [a_stride, 1], [BLOCK_M, BLOCK_K])
    if B_TRANSPOSED:
        b_tiles = tl.make_tensor_descriptor(b_ptr, [N, K], [b_stride, 1], [BLOCK_N, BLOCK_K])
    else:
        b_tiles = tl.make_tensor_descriptor(b_ptr, [K, N], [b_stride, 1], [BLOCK_K, BLOCK_N])
    if not SPLIT:
        c_tiles = tl.make_tensor_descriptor(c_ptr, [M, N], [N, 1], [BLOCK_M, BLOCK_N // PARTS])

    tiles = tl.cdiv(M, BLOCK_M) * tl.cdiv(N, BLOCK_N)
    blocks = tl.cdiv(K, BLOCK_K)
    # Flattened, the loads of the next tile start while this one is finished; a group of warps that only
    # loads does so anyway, and triton 3.7.1 does not specialize a flattened loop.
    for item in tl.range(
        tl.program_id(0),
        tiles * splits if SPLIT else tiles,
        tl.num_programs(0),
        flatten=not SPECIALIZE,
        warp_specialize=SPECIALIZE,
    ):
        first_row, first_column = _place_of(item % tiles if SPLIT else item, M, N, GROUP_M, BLOCK_M, BLOCK_N)
        first_block = item // tiles * split_blocks if SPLIT else 0
        end_block = tl.minimum(first_block + split_blocks, blocks) if SPLIT else blocks
        acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
        for block in tl.range(first_block, end_block):
            first_k = block * BLOCK_K
            a = a_tiles.load([first_k, first_row] if A_TRANSPOSED else [first_row, first_k])
            b = b_tiles.load([first_column, first_k] if B_TRANSPOSED else [first_k, first_column])
            a = a.T if A_TRANSPOSED else a
            b = b.T if B_TRANSPOSED else b
            acc = tl.dot(a, b, acc, input_precision=PRECISION, max_num_imprecise_acc=IMPRECISE)

        rows = first_row + tl.arange(0, BLOCK_M)
        if SPLIT:
            columns = first_column + tl.arange(0, BLOCK_N)
            part_row = rows.to(tl.int64) + (item // tiles).to(tl.int64) * M
            part_ptrs = c_ptr + part_row[:, None] * N + columns.to(tl.int64)[None, :]
            tl.store(part_ptrs, acc, mask=(rows < M)[:, None] & (columns < N)[None, :])
        else:
            if PARTS == 2:
                halves = tl.split(tl.permute(tl.reshape(acc, [BLOCK_M, 2, BLOCK_N // 2]), [0, 2, 1]))
            else:
                halves = (acc,)
            for part in tl.static_range(PARTS):
                part_column = first_column + part * (BLOCK_N // PARTS)
                y = _finish(
                    halves[part],
                    rows,
                    part_column + tl.arange(0, BLOCK_N // PARTS),
                    M,
                    N,
                    bias_ptr,
                    residual_ptr,
                    scale_a_ptr,
                    scale_b_ptr,
                    pre_ptr,
                    bias_stride,
                    residual_row_stride,
                    residual_column_stride,
                    HAS_BIAS,
                    HAS_RESIDUAL,
                    HAS_SCALE_A,
                    HAS_SCALE_B,
                    SAVE_PRE,
                    ACTIVATION,
                )
                c_tiles.store([first_row, part_column], y.to(c_ptr.dtype.element_ty))


@triton.jit
def matmul_reduce_kernel(
    part_ptr,  # (splits, M, N), contiguous, float32
    bias_ptr,  # (N,)
    residual_ptr,  # (M, N)
    scale_a_ptr,  # (1,), float32
    scale_b_ptr,  # (1,), float32
    c_ptr,  # (M, N), contiguous
    pre_ptr,  # (M, N), contiguous
    M,
    N,
    splits,
    bias_stride,
    residual_row_stride,
    residual_column_stride,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_SCALE_A: tl.constexpr,
    HAS_SCALE_B: tl.constexpr,
    SAVE_PRE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_S: tl.constexpr,  # splits added at a time: so many loads are in flight together
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    at = row.to(tl.int64) * N + columns.to(tl.int64)
    step = tl.cast(M, tl.int64) * N
    acc = tl.zeros([BLOCK_N], dtype=tl.float32)
    for first in tl.range(0, splits, BLOCK_S):
        which = first + tl.arange(0, BLOCK_S)
        mask = (which < splits)[:, None] & (columns < N)[None, :]
        acc += tl.sum(tl.load(part_ptr + which[:, None] * step + at[None, :], mask=mask, other=0.0), axis=0)
    y = _finish(
        acc[None, :],
        row + tl.arange(0, 1),
        columns,
        M,
        N,
        bias_ptr,
        residual_ptr,
        scale_a_ptr,
        scale_b_ptr,
        pre_ptr,
        bias_stride,
        residual_row_stride,
        residual_column_stride,
        HAS_BIAS,
        HAS_RESIDUAL,
        HAS_SCALE_A,
        HAS_SCALE_B,
        SAVE_PRE,
        ACTIVATION,
    )
    tl.store(c_ptr + at[None, :], y.to(c_ptr.dtype.element_ty), mask=(columns < N)[None, :])


@triton.jit
def matmul_cotangent_kernel(
    dc_ptr,  # (M, N)
    pre_ptr,  # (M, N), contiguous
    dpre_ptr,  # (M, N), contiguous: dc · activation'(pre)
    sums_ptr,  # (programs of axis 1, N), contiguous, float32: sums of dpre's columns
    M,
    N,
    dc_row_stride,
    dc_column_stride,
    rows_per_program,  # a multiple of BLOCK_M
    ACTIVATION: tl.constexpr,  # None: dpre is dc, and is not written again
    HAS_SUMS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    in_row = (columns < N)[None, :]
    wide_columns = columns.to(tl.int64)[None, :]
    first_row = tl.program_id(1) * rows_per_program
    sums = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for row in tl.range(first_row, tl.minimum(first_row + rows_per_program, M), BLOCK_M):
        rows = (row + tl.arange(0, BLOCK_M))[:, None]
        mask = (rows < M) & in_row
        wide_rows = rows.to(tl.int64)
        dc_ptrs = dc_ptr + wide_rows * dc_row_stride + wide_columns * dc_column_stride
        d = tl.load(dc_ptrs, mask=mask, other=0.0).to(tl.float32)
        if ACTIVATION is not None:
            at = wide_rows * N + wide_columns
            pre = tl.load(pre_ptr + at, mask=mask, other=0.0).to(tl.float32)
            if ACTIVATION == "relu":
                d = tl.where(pre <= 0.0, 0.0, d)  # not a product: 0 · inf is NaN
            else:
                d *= _activation_slope(pre, ACTIVATION)
            tl.store(dpre_ptr + at, d.to(dpre_ptr.dtype.element_ty), mask=mask)
        if HAS_SUMS:
            sums += d
    if HAS_SUMS:
        sums_ptrs = sums_ptr + tl.program_id(1).to(tl.int64) * N + columns
        tl.store(sums_ptrs, tl.sum(sums, axis=0), mask=columns < N)
