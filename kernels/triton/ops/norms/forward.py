"""Forward pass of layer norm and RMS norm: y = c / √(mean(c²) + eps) · weight + bias, row by row.

c = s − mean(s) for layer norm, c = s for RMS norm; s = x + residual. x, residual, y: (rows, columns) of
float16, bfloat16 or float32; weight, bias: (columns,) of x's dtype or float32. The sum and the statistics are
float32, a variance is taken about the mean (never E[s²] − E[s]², which cancels), and each result is rounded
once, at the store. The statistics, mean (layer norm) and 1/√(mean(c²) + eps), are saved in float32 for the
backward pass, and s on request.

Bytes: a row that fits a block is read once and written once. A longer row is walked over twice: forwards for
the statistics, backwards for y, because the L2 cache still holds what was read last. Its variance is
accumulated by Welford's update (1962, https://doi.org/10.1080/00401706.1962.10490022) per lane, and lanes are
merged as in Chan et al. (1983, https://doi.org/10.1080/00031305.1983.10483115).
"""

import torch

import triton
import triton.language as tl
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Architecture, Launch, architecture_of, name_of
from fuseproof.kernels.triton.ops.norms.configs import forward_candidates
from fuseproof.kernels.triton.row_tiles import Config
from fuseproof.kernels.triton.rows import as_rows, bytes_of, load_float32, store_rounded, vector_of


@triton.jit
def _normalise_tile(
    tile,
    weight,  # (1, BLOCK_N) float32 if PRELOADED
    bias,
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    sum_ptr,
    statistics_ptr,
    rows,
    columns,
    x_row_stride,
    residual_row_stride,
    eps,
    CENTRED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    STORE_SUM: tl.constexpr,
    EVEN_N: tl.constexpr,
    PRELOADED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_N)
    row_mask = row < rows
    mask = row_mask[:, None]
    MASKED: tl.constexpr = BLOCK_M > 1 or not EVEN_N
    if not EVEN_N:
        mask = mask & (column < columns)[None, :]
    row_64 = row.to(tl.int64)[:, None]
    column_2d = column[None, :]
    s = load_float32(x_ptr + row_64 * x_row_stride + column_2d, mask, MASKED, "evict_first")
    if HAS_RESIDUAL:
        s += load_float32(
            residual_ptr + row_64 * residual_row_stride + column_2d, mask, MASKED, "evict_first"
        )
    out = row_64 * columns + column_2d
    if STORE_SUM:
        store_rounded(sum_ptr + out, s, mask, MASKED)

    if CENTRED:
        mean = tl.sum(s, axis=1) / columns
        tl.store(statistics_ptr + row, mean, mask=row_mask)
        statistics_ptr += rows
        s = s - mean[:, None]
        if not EVEN_N:
            s = tl.where(mask, s, 0.0)
    rstd = tl.rsqrt(tl.sum(s * s, axis=1) / columns + eps)
    tl.store(statistics_ptr + row, rstd, mask=row_mask)

    if not PRELOADED:  # loaded only now, which saves registers
        weight = load_float32(weight_ptr + column, column < columns, not EVEN_N, "evict_last")[None, :]
        if HAS_BIAS:
            bias = load_float32(bias_ptr + column, column < columns, not EVEN_N, "evict_last")[None, :]
    y = s * rstd[:, None] * weight
    if HAS_BIAS:
        y += bias
    store_rounded(y_ptr + out, y, mask, MASKED)


@triton.jit
def norm_rows_kernel(
    x_ptr,  # (rows, columns)
    residual_ptr,  # (rows, columns)
    weight_ptr,  # (columns,)
    bias_ptr,  # (columns,)
    y_ptr,  # (rows, columns), contiguous
    sum_ptr,  # (rows, columns), contiguous
    statistics_ptr,  # (2, rows) float32, mean and rstd; (1, rows) without mean
    rows,
    column_vectors,  # columns / VECTOR, as the strides
    x_row_vectors,
    residual_row_vectors,
    eps,
    CENTRED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    STORE_SUM: tl.constexpr,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    EVEN_N: tl.constexpr,  # columns == BLOCK_N
    PERSISTENT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Whole rows at once: read once, written once."""
    columns = column_vectors * VECTOR
    x_row_stride = x_row_vectors * VECTOR
    residual_row_stride = residual_row_vectors * VECTOR
    if PERSISTENT:
        column = tl.arange(0, BLOCK_N)
        weight = load_float32(weight_ptr + column, column < columns, not EVEN_N, "evict_last")[None, :]
        bias = weight
        if HAS_BIAS:
            bias = load_float32(bias_ptr + column, column < columns, not EVEN_N, "evict_last")[None, :]
        for tile in tl.range(tl.program_id(0), tl.cdiv(rows, BLOCK_M), tl.num_programs(0), num_stages=STAGES):
            _normalise_tile(
                tile, weight, bias, x_ptr, residual_ptr, weight_ptr, bias_ptr, y_ptr, sum_ptr, statistics_ptr,
                rows, columns, x_row_stride, residual_row_stride, eps,
                CENTRED, HAS_RESIDUAL, HAS_BIAS, STORE_SUM, EVEN_N, True, BLOCK_M, BLOCK_N,
            )  # fmt: skip
    else:
        _normalise_tile(
            tl.program_id(0), 0.0, 0.0, x_ptr, residual_ptr, weight_ptr, bias_ptr, y_ptr, sum_ptr,
            statistics_ptr, rows, columns, x_row_stride, residual_row_stride, eps,
            CENTRED, HAS_RESIDUAL, HAS_BIAS, STORE_SUM, EVEN_N, False, BLOCK_M, BLOCK_N,
        )  # fmt: skip


@triton.jit
def load_sum(
    x_ptr,  # (columns,), this row
    residual_ptr,
    column,
    columns,
    HAS_RESIDUAL: tl.constexpr,
    MASKED: tl.constexpr,
    POLICY: tl.constexpr,
):
    s = load_float32(x_ptr + column, column < columns, MASKED, POLICY)
    if HAS_RESIDUAL:
        s += load_float32(residual_ptr + column, column < columns, MASKED, POLICY)
    return s


@triton.jit
def norm_loop_kernel(
    x_ptr,  # (rows, columns)
    residual_ptr,  # (rows, columns)
    weight_ptr,  # (columns,)
    bias_ptr,  # (columns,)
    y_ptr,  # (rows, columns), contiguous
    sum_ptr,  # (rows, columns), contiguous
    statistics_ptr,  # (2, rows) float32, mean and rstd; (1, rows) without mean
    rows,
    column_vectors,  # columns / VECTOR, as the strides
    x_row_vectors,
    residual_row_vectors,
    eps,
    CENTRED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    STORE_SUM: tl.constexpr,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One row at a time in column blocks: forwards for the statistics, then backwards for y.

    Few programs, so that as many as possible of the rows in progress stay in the L2 cache.
    """
    columns = column_vectors * VECTOR
    lane = tl.arange(0, BLOCK_N)
    full_blocks = columns // BLOCK_N
    tail = full_blocks * BLOCK_N + lane
    in_row = tail < columns
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0)):
        row_64 = tl.cast(row, tl.int64)
        x_row_ptr = x_ptr + row_64 * (x_row_vectors * VECTOR)
        residual_row_ptr = residual_ptr
        if HAS_RESIDUAL:
            residual_row_ptr = residual_ptr + row_64 * (residual_row_vectors * VECTOR)
        out = row_64 * columns

        # Each lane keeps the mean of what it has seen and the sum of squares about it; lanes meet at the end.
        lane_mean = tl.zeros([BLOCK_N], dtype=tl.float32)
        lane_squares = tl.zeros([BLOCK_N], dtype=tl.float32)
        for block in tl.range(0, full_blocks, num_stages=STAGES):
            s = load_sum(
                x_row_ptr,
                residual_row_ptr,
                block * BLOCK_N + lane,
                columns,
                HAS_RESIDUAL,
                False,
                "evict_last",
            )
            if CENTRED:
                delta = s - lane_mean
                lane_mean += delta * (1.0 / (block + 1))
                lane_squares += delta * (s - lane_mean)
            else:
                lane_squares += s * s
        s = load_sum(x_row_ptr, residual_row_ptr, tail, columns, HAS_RESIDUAL, True, "evict_last")
        if CENTRED:
            delta = s - lane_mean
            lane_mean += tl.where(in_row, delta / (full_blocks + 1), 0.0)
            lane_squares += tl.where(in_row, delta * (s - lane_mean), 0.0)
            count = full_blocks + in_row.to(tl.float32)
            mean = tl.sum(lane_mean * count, axis=0) / columns
            offset = lane_mean - mean
            lane_squares += count * offset * offset
            tl.store(statistics_ptr + row, mean)
            rstd_ptr = statistics_ptr + rows
        else:
            lane_squares += s * s
            mean = 0.0
            rstd_ptr = statistics_ptr
        rstd = tl.rsqrt(tl.sum(lane_squares, axis=0) / columns + eps)
        tl.store(rstd_ptr + row, rstd)

        blocks = tl.cdiv(columns, BLOCK_N)
        for step in tl.range(0, blocks, num_stages=STAGES):
            column = (blocks - 1 - step) * BLOCK_N + lane
            mask = column < columns
            s = load_sum(x_row_ptr, residual_row_ptr, column, columns, HAS_RESIDUAL, True, "evict_first")
            if STORE_SUM:
                store_rounded(sum_ptr + out + column, s, mask, True)
            y = (s - mean) * rstd * load_float32(weight_ptr + column, mask, True, "evict_last")
            if HAS_BIAS:
                y += load_float32(bias_ptr + column, mask, True, "evict_last")
            store_rounded(y_ptr + out + column, y, mask, True, "evict_first")


def forward_launch(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    s: torch.Tensor | None,
    statistics: torch.Tensor,
    *,
    eps: float,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes y, the statistics and, unless it is None, s. Tensors may be on the meta device.

    x, residual: (rows, columns) with contiguous rows; y, s: contiguous; statistics: (2, rows) float32 for
    layer norm, (1, rows) for RMS norm.
    """
    rows, columns = x.shape
    architecture = architecture or architecture_of(x.device)
    if config is None:
        element_bytes = bytes_of(x, residual), bytes_of(weight, bias)
        config = forward_candidates(architecture, columns, *element_bytes)[0]
    residual_stride = 0 if residual is None else residual.stride(0)
    vector = vector_of(columns, x.element_size(), x.stride(0), residual_stride)
    tiles = triton.cdiv(rows, config.BLOCK_M)
    constants = {
        "CENTRED": statistics.shape[0] == 2,
        "HAS_RESIDUAL": residual is not None,
        "HAS_BIAS": bias is not None,
        "STORE_SUM": s is not None,
        "VECTOR": vector,
    }
    kernel = norm_loop_kernel
    if columns <= config.BLOCK_N:
        kernel = norm_rows_kernel
        constants |= {
            "EVEN_N": columns == config.BLOCK_N,
            "PERSISTENT": config.programs > 0,
            "BLOCK_M": config.BLOCK_M,
        }
    constants |= {"BLOCK_N": config.BLOCK_N, "STAGES": config.stages}
    return Launch(
        kernel=kernel,
        grid=(min(tiles, config.programs * architecture.processors) if config.programs else tiles,),
        arguments={
            "x_ptr": x,
            "residual_ptr": residual,
            "weight_ptr": weight,
            "bias_ptr": bias,
            "y_ptr": y,
            "sum_ptr": s,
            "statistics_ptr": statistics,
            "rows": rows,
            "column_vectors": columns // vector,
            "x_row_vectors": x.stride(0) // vector,
            "residual_row_vectors": residual_stride // vector,
            "eps": eps,
        },
        constants=constants,
        num_warps=config.warps,
        num_stages=1,  # the loops themselves have a number of stages
    )


def norm_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    *,
    eps: float,
    centred: bool,
    return_sum: bool = False,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y and s like x, s empty without `return_sum`; the statistics as `forward_launch` writes them.

    Layer norm if `centred`, else RMS norm. Any strides; weight and bias of x's dtype or float32.
    """
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    s = torch.empty(x.shape if return_sum else (0,), dtype=x.dtype, device=x.device)
    columns = x.shape[-1]
    rows = x.numel() // columns
    statistics = torch.empty((2 if centred else 1, rows), dtype=torch.float32, device=x.device)
    if rows == 0:
        return y, s, statistics
    x_rows, residual_rows = as_rows(x), None if residual is None else as_rows(residual)
    weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
    y_rows, s_rows = y.view(rows, columns), s.view(rows, columns) if return_sum else None
    architecture = architecture_of(x.device)

    def launches_of(config: Config) -> tuple[Launch]:
        launch = forward_launch(
            x_rows, residual_rows, weight, bias, y_rows, s_rows, statistics,
            eps=eps, architecture=architecture, config=config,
        )  # fmt: skip
        return (launch,)

    if config is None:
        config = tuning.choose(
            "layer_norm" if centred else "rms_norm",
            (
                triton.next_power_of_2(rows), columns, name_of(x.dtype), name_of(weight.dtype),
                bias is not None, residual is not None, return_sum,
            ),
            forward_candidates(architecture, columns, bytes_of(x, residual), bytes_of(weight, bias)),
            launches_of,
            x.device,
        )  # fmt: skip
    launches_of(config)[0].run()
    return y, s, statistics
