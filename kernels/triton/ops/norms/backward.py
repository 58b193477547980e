"""Backward pass of layer norm and RMS norm.

With ŝ = c · rstd (c = s − mean(s) for layer norm, s for RMS norm; s = x + residual) and g = dy · weight:

    dx = dresidual = rstd · (g − ŝ · mean(g · ŝ) − mean(g)) + ds,  without mean(g) for RMS norm
    dweight = Σ_rows dy · ŝ,  dbias = Σ_rows dy

ds is the gradient of s, where s was returned too. Gradients that are not wanted are not computed.

The sums over rows are taken in two stages, without atomics, so that they are the same from run to run: each
of a fixed number of programs sums its rows in float32 registers, and a second kernel sums these partial sums
in the order of the programs.

Bytes: rows of up to 16,384 columns are read once (x, dy) and their dx written once; beyond 8,192, two
programs share a row and each reads all of it, one of them from the L2 cache. A longer row is read twice: by a
kernel that takes the two row sums, and by one whose programs own a block of columns of many rows and can
therefore keep the sums over rows in registers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

import triton
import triton.language as tl
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Architecture, Launch, architecture_of, name_of
from fuseproof.kernels.triton.ops.norms.configs import (
    COLUMN_SUMS,
    ROW_SUMS,
    BackwardConfig,
    backward_candidates,
)
from fuseproof.kernels.triton.ops.norms.forward import load_sum
from fuseproof.kernels.triton.rows import as_rows, bytes_of, load_float32, store_rounded, vector_of


@triton.jit
def norm_row_sums_kernel(
    dy_ptr,  # (rows, columns)
    x_ptr,  # (rows, columns)
    residual_ptr,  # (rows, columns)
    weight_ptr,  # (columns,)
    statistics_ptr,  # (2, rows) float32, mean and rstd; (1, rows) without mean
    row_sums_ptr,  # (2, rows) float32, mean(g · ŝ) and mean(g); (1, rows) without mean(g)
    rows,
    column_vectors,  # columns / VECTOR, as the strides
    dy_row_vectors,
    x_row_vectors,
    residual_row_vectors,
    CENTRED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One row per program: what dx needs to know of the whole row."""
    columns = column_vectors * VECTOR
    row = tl.program_id(0)
    row_64 = row.to(tl.int64)
    dy_ptr += row_64 * (dy_row_vectors * VECTOR)
    x_ptr += row_64 * (x_row_vectors * VECTOR)
    if HAS_RESIDUAL:
        residual_ptr += row_64 * (residual_row_vectors * VECTOR)
    mean = 0.0
    rstd_ptr = statistics_ptr
    if CENTRED:
        mean = tl.load(statistics_ptr + row)
        rstd_ptr = statistics_ptr + rows
    rstd = tl.load(rstd_ptr + row)
    sum_gs = tl.zeros([BLOCK_N], dtype=tl.float32)
    sum_g = tl.zeros([BLOCK_N], dtype=tl.float32)
    for start in tl.range(0, columns, BLOCK_N, num_stages=STAGES):
        column = start + tl.arange(0, BLOCK_N)
        mask = column < columns
        g = load_float32(dy_ptr + column, mask, True, "") * load_float32(
            weight_ptr + column, mask, True, "evict_last"
        )
        s = load_sum(x_ptr, residual_ptr, column, columns, HAS_RESIDUAL, True, "")
        sum_gs += g * ((s - mean) * rstd)
        if CENTRED:
            sum_g += g
    tl.store(row_sums_ptr + row, tl.sum(sum_gs, axis=0) / columns)
    if CENTRED:
        tl.store(row_sums_ptr + rows + row, tl.sum(sum_g, axis=0) / columns)


@triton.jit
def _load_normalised(
    x_ptr,
    residual_ptr,
    x_offsets,
    residual_offsets,
    mask,
    mean,
    rstd,
    CENTRED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    MASKED: tl.constexpr,
):
    s = load_float32(x_ptr + x_offsets, mask, MASKED, "evict_first")
    if HAS_RESIDUAL:
        s += load_float32(residual_ptr + residual_offsets, mask, MASKED, "evict_first")
    if CENTRED:
        s -= mean
    return s * rstd


@triton.jit
def norm_backward_kernel(
    dy_ptr,  # (rows, columns)
    ds_ptr,  # (rows, columns)
    x_ptr,  # (rows, columns)
    residual_ptr,  # (rows, columns)
    weight_ptr,  # (columns,)
    statistics_ptr,  # (2, rows) float32, mean and rstd; (1, rows) without mean
    row_sums_ptr,  # (2, rows) float32, mean(g · ŝ) and mean(g); (1, rows) without mean(g)
    dx_ptr,  # (rows, columns), contiguous
    partial_dweight_ptr,  # (row programs, columns) float32
    partial_dbias_ptr,  # (row programs, columns) float32
    rows,
    column_vectors,  # columns / VECTOR, as the strides
    dy_row_vectors,
    ds_row_vectors,
    x_row_vectors,
    residual_row_vectors,
    CENTRED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_DS: tl.constexpr,
    NEEDS_DX: tl.constexpr,
    NEEDS_DWEIGHT: tl.constexpr,
    NEEDS_DBIAS: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,  # blocks of a row to sum over; 0: the sums are in row_sums_ptr
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    EVEN_N: tl.constexpr,  # columns is a multiple of BLOCK_N
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A block of columns of many rows per program; the sums over rows stay in registers from tile to tile."""
    columns = column_vectors * VECTOR
    MASKED: tl.constexpr = BLOCK_M > 1 or not EVEN_N
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    column_2d = column[None, :]
    in_row = column < columns
    dweight = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    dbias = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    if NEEDS_DX and ROW_BLOCKS < 2:
        weight = load_float32(weight_ptr + column, in_row, not EVEN_N, "evict_last")[None, :]
    for tile in tl.range(tl.program_id(1), tl.cdiv(rows, BLOCK_M), tl.num_programs(1), num_stages=STAGES):
        row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        row_mask = row < rows
        mask = row_mask[:, None]
        if not EVEN_N:
            mask = mask & in_row[None, :]
        row_64 = row.to(tl.int64)[:, None]
        dy_row = row_64 * (dy_row_vectors * VECTOR)
        x_row = row_64 * (x_row_vectors * VECTOR)
        residual_row = row_64 * (residual_row_vectors * VECTOR)
        mean = 0.0
        rstd_ptr = statistics_ptr
        if CENTRED:
            mean = tl.load(statistics_ptr + row, mask=row_mask, other=0.0)[:, None]
            rstd_ptr = statistics_ptr + rows
        rstd = tl.load(rstd_ptr + row, mask=row_mask, other=0.0)[:, None]
        if NEEDS_DX and ROW_BLOCKS > 0:
            # The other blocks first, so that their registers are free again.
            sum_gs = tl.zeros([BLOCK_M], dtype=tl.float32)
            sum_g = tl.zeros([BLOCK_M], dtype=tl.float32)
            for other in tl.static_range(1, ROW_BLOCKS):
                block = (tl.program_id(0) + other) % ROW_BLOCKS
                there = block * BLOCK_N + tl.arange(0, BLOCK_N)
                there_2d = there[None, :]
                there_mask = row_mask[:, None]
                if not EVEN_N:
                    there_mask = there_mask & (there < columns)[None, :]
                there_g = load_float32(dy_ptr + dy_row + there_2d, there_mask, MASKED, "evict_first")
                there_g *= load_float32(weight_ptr + there, there < columns, not EVEN_N, "evict_last")[
                    None, :
                ]
                there_normalised = _load_normalised(
                    x_ptr, residual_ptr, x_row + there_2d, residual_row + there_2d, there_mask,
                    mean, rstd, CENTRED, HAS_RESIDUAL, MASKED,
                )  # fmt: skip
                sum_gs += tl.sum(there_g * there_normalised, axis=1)
                if CENTRED:
                    sum_g += tl.sum(there_g, axis=1)
        # Rows and columns past the edge have dy = 0 and add nothing to any sum.
        dy = load_float32(dy_ptr + dy_row + column_2d, mask, MASKED, "evict_first")
        normalised = _load_normalised(
            x_ptr, residual_ptr, x_row + column_2d, residual_row + column_2d, mask, mean, rstd,
            CENTRED, HAS_RESIDUAL, MASKED,
        )  # fmt: skip
        if NEEDS_DX:
            if ROW_BLOCKS >= 2:  # not kept in registers, of which there are few
                weight = load_float32(weight_ptr + column, in_row, not EVEN_N, "evict_last")[None, :]
            g = dy * weight
            mean_g = 0.0
            if ROW_BLOCKS > 0:
                sum_gs += tl.sum(g * normalised, axis=1)
                if CENTRED:
                    sum_g += tl.sum(g, axis=1)
                mean_gs = (sum_gs / columns)[:, None]
                if CENTRED:
                    mean_g = (sum_g / columns)[:, None]
            else:
                mean_gs = tl.load(row_sums_ptr + row, mask=row_mask, other=0.0)[:, None]
                if CENTRED:
                    mean_g = tl.load(row_sums_ptr + rows + row, mask=row_mask, other=0.0)[:, None]
            dx = g - normalised * mean_gs
            if CENTRED:
                dx -= mean_g
            dx *= rstd
            if HAS_DS:
                ds_ptrs = ds_ptr + row_64 * (ds_row_vectors * VECTOR) + column_2d
                dx += load_float32(ds_ptrs, mask, MASKED, "evict_first")
            store_rounded(dx_ptr + row_64 * columns + column_2d, dx, mask, MASKED)
        if NEEDS_DWEIGHT:
            dweight += dy * normalised
        if NEEDS_DBIAS:
            dbias += dy
    partial = tl.program_id(1).to(tl.int64) * columns + column
    if NEEDS_DWEIGHT:
        tl.store(partial_dweight_ptr + partial, tl.sum(dweight, axis=0), mask=in_row)
    if NEEDS_DBIAS:
        tl.store(partial_dbias_ptr + partial, tl.sum(dbias, axis=0), mask=in_row)


@triton.jit
def _sum_columns(
    partial_ptr,
    out_ptr,
    programs,
    columns,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for first in tl.range(0, programs, BLOCK_M, num_stages=STAGES):
        program = first + tl.arange(0, BLOCK_M)
        mask = (program < programs)[:, None] & (column < columns)[None, :]
        offsets = program.to(tl.int64)[:, None] * columns + column[None, :]
        total += tl.load(partial_ptr + offsets, mask=mask, other=0.0)
    tl.store(out_ptr + column, tl.sum(total, axis=0).to(out_ptr.dtype.element_ty), mask=column < columns)


@triton.jit
def norm_column_sums_kernel(
    partial_dweight_ptr,  # (programs, columns) float32
    partial_dbias_ptr,  # (programs, columns) float32
    dweight_ptr,  # (columns,)
    dbias_ptr,  # (columns,)
    programs,
    columns,
    NEEDS_DWEIGHT: tl.constexpr,
    NEEDS_DBIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The sums over all programs, a block of columns of dweight or of dbias per program."""
    if NEEDS_DWEIGHT and NEEDS_DBIAS:
        if tl.program_id(1) == 0:
            _sum_columns(partial_dweight_ptr, dweight_ptr, programs, columns, BLOCK_M, BLOCK_N, STAGES)
        else:
            _sum_columns(partial_dbias_ptr, dbias_ptr, programs, columns, BLOCK_M, BLOCK_N, STAGES)
    elif NEEDS_DWEIGHT:
        _sum_columns(partial_dweight_ptr, dweight_ptr, programs, columns, BLOCK_M, BLOCK_N, STAGES)
    else:
        _sum_columns(partial_dbias_ptr, dbias_ptr, programs, columns, BLOCK_M, BLOCK_N, STAGES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """The tensors that the backward pass writes; None for a gradient that is not wanted."""

    dx: torch.Tensor | None  # (rows, columns), contiguous
    dweight: torch.Tensor | None  # (columns,)
    dbias: torch.Tensor | None  # (columns,)


def row_programs(rows: int, columns: int, architecture: Architecture, config: BackwardConfig) -> int:
    """The number of programs that each sum a share of the rows."""
    column_blocks: int = triton.cdiv(columns, config.BLOCK_N)
    tiles: int = triton.cdiv(rows, config.BLOCK_M)
    return min(tiles, max(1, architecture.processors * config.programs // column_blocks))


def backward_launches(
    dy: torch.Tensor,
    ds: torch.Tensor | None,
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    statistics: torch.Tensor,
    gradients: Gradients,
    *,
    architecture: Architecture | None = None,
    config: BackwardConfig | None = None,
) -> tuple[Launch, ...]:
    """The launches that write the gradients, in order; partial sums are allocated here.

    dy, ds, x, residual: (rows, columns) with contiguous rows. Tensors may be on the meta device.
    """
    rows, columns = x.shape
    architecture = architecture or architecture_of(x.device)
    read = [tensor for tensor in (dy, ds, x, residual) if tensor is not None]
    config = config or backward_candidates(architecture, columns, bytes_of(*read), bytes_of(weight))[0]
    vector = vector_of(columns, x.element_size(), *(tensor.stride(0) for tensor in read))
    blocks: int = triton.cdiv(columns, config.BLOCK_N)
    programs = row_programs(rows, columns, architecture, config)
    needs = {"NEEDS_DWEIGHT": gradients.dweight is not None, "NEEDS_DBIAS": gradients.dbias is not None}
    partial_dweight, partial_dbias = (
        torch.empty((programs, columns), dtype=torch.float32, device=x.device) if needed else None
        for needed in needs.values()
    )
    row_sums = torch.empty_like(statistics) if config.blocks == 0 and gradients.dx is not None else None
    vectors = {
        f"{name}_row_vectors": 0 if tensor is None else tensor.stride(0) // vector
        for name, tensor in (("dy", dy), ("ds", ds), ("x", x), ("residual", residual))
    }
    flags = {"CENTRED": statistics.shape[0] == 2, "HAS_RESIDUAL": residual is not None}
    launches = []
    if row_sums is not None:
        launches.append(
            Launch(
                kernel=norm_row_sums_kernel,
                grid=(rows,),
                arguments={
                    "dy_ptr": dy,
                    "x_ptr": x,
                    "residual_ptr": residual,
                    "weight_ptr": weight,
                    "statistics_ptr": statistics,
                    "row_sums_ptr": row_sums,
                    "rows": rows,
                    "column_vectors": columns // vector,
                    **{name: value for name, value in vectors.items() if name != "ds_row_vectors"},
                },
                constants={
                    **flags,
                    "VECTOR": vector,
                    # Read element by element, a whole block has more addresses than registers.
                    "BLOCK_N": ROW_SUMS.BLOCK_N if vector > 1 else ROW_SUMS.BLOCK_N // 2,
                    "STAGES": ROW_SUMS.stages,
                },
                num_warps=ROW_SUMS.warps,
                num_stages=1,
            )
        )  # fmt: skip
    launches.append(
        Launch(
            kernel=norm_backward_kernel,
            grid=(blocks, programs),
            arguments={
                "dy_ptr": dy,
                "ds_ptr": ds,
                "x_ptr": x,
                "residual_ptr": residual,
                "weight_ptr": weight,
                "statistics_ptr": statistics,
                "row_sums_ptr": row_sums,
                "dx_ptr": gradients.dx,
                "partial_dweight_ptr": partial_dweight,
                "partial_dbias_ptr": partial_dbias,
                "rows": rows,
                "column_vectors": columns // vector,
                **vectors,
            },
            constants={
                **flags,
                "HAS_DS": ds is not None,
                "NEEDS_DX": gradients.dx is not None,
                **needs,
                "ROW_BLOCKS": blocks if config.blocks else 0,
                "VECTOR": vector,
                "EVEN_N": columns % config.BLOCK_N == 0,
                "BLOCK_M": config.BLOCK_M,
                "BLOCK_N": config.BLOCK_N,
                "STAGES": config.stages,
            },
            num_warps=config.warps,
            num_stages=1,  # the loop itself has a number of stages
        )
    )
    if any(needs.values()):
        sums = next(config for config in COLUMN_SUMS if config.columns >= columns)
        launches.append(
            Launch(
                kernel=norm_column_sums_kernel,
                grid=(triton.cdiv(columns, sums.BLOCK_N), sum(needs.values())),
                arguments={
                    "partial_dweight_ptr": partial_dweight,
                    "partial_dbias_ptr": partial_dbias,
                    "dweight_ptr": gradients.dweight,
                    "dbias_ptr": gradients.dbias,
                    "programs": programs,
                    "columns": columns,
                },
                constants={**needs, "BLOCK_M": sums.BLOCK_M, "BLOCK_N": sums.BLOCK_N, "STAGES": sums.stages},
                num_warps=sums.warps,
                num_stages=1,
            )
        )
    return tuple(launches)


def norm_backward(
    dy: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    statistics: torch.Tensor,
    *,
    wanted: Sequence[bool],
    bias_dtype: torch.dtype | None = None,
    residual: torch.Tensor | None = None,
    ds: torch.Tensor | None = None,
    config: BackwardConfig | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """dx (which is dresidual, too), dweight and dbias; None for those that are not `wanted`.

    Any strides; statistics as `norm_forward` returns them.
    """
    columns = x.shape[-1]
    rows = x.numel() // columns
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device) if wanted[0] else None
    dweight, dbias = (
        torch.empty(columns, dtype=dtype, device=x.device) if needed else None
        for needed, dtype in zip(wanted[1:], (weight.dtype, bias_dtype), strict=True)
    )
    if rows == 0:
        for gradient in (dweight, dbias):
            if gradient is not None:
                gradient.zero_()
        return dx, dweight, dbias
    if not any(wanted):
        return None, None, None
    architecture = architecture_of(x.device)
    dy_rows, x_rows = as_rows(dy), as_rows(x)
    ds_rows, residual_rows = (None if tensor is None else as_rows(tensor) for tensor in (ds, residual))
    weight = weight.contiguous()
    gradients = Gradients(dx=None if dx is None else dx.view(rows, columns), dweight=dweight, dbias=dbias)

    def launches_of(config: BackwardConfig) -> tuple[Launch, ...]:
        return backward_launches(
            dy_rows, ds_rows, x_rows, residual_rows, weight, statistics, gradients,
            architecture=architecture, config=config,
        )  # fmt: skip

    if config is None:
        config = tuning.choose(
            "layer_norm_backward" if statistics.shape[0] == 2 else "rms_norm_backward",
            (
                triton.next_power_of_2(rows), columns, name_of(x.dtype), name_of(weight.dtype),
                tuple(wanted), residual is not None, ds is not None,
            ),
            backward_candidates(architecture, columns, bytes_of(dy, ds, x, residual), bytes_of(weight)),
            launches_of,
            x.device,
        )  # fmt: skip
    for launch in launches_of(config):
        launch.run()
    return dx, dweight, dbias
