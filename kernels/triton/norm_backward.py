"""Backward pass of layer norm and RMS norm.

With ŝ = c · rstd (c = s − mean(s) for layer norm, s for RMS norm; s = x + residual) and g = dy · weight:

    dx = dresidual = rstd · (g − ŝ · mean(g · ŝ) − mean(g)) + ds,  without mean(g) for RMS norm
    dweight = Σ_rows dy · ŝ,  dbias = Σ_rows dy

ds is the gradient of s, where s was returned too. Gradients that nobody asks for are not computed.

The sums over rows are taken in two stages, without atomics, so that they are the same from run to run: each
of a fixed number of programs adds up its rows in float32 registers, and a second kernel adds up the programs
in their order.

Bytes: a row that fits a block is read once (x, dy) and its dx written once. A longer row is read twice: by a
kernel that takes the two row sums, and by one whose programs own a block of columns of many rows and can
therefore keep the sums over rows in registers.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch

import triton
import triton.language as tl
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Launch, Target, name_of, target_of
from fuseproof.kernels.triton.norm_rows import as_rows, load_float32, load_sum, vector_of


@dataclass(frozen=True, kw_only=True)
class Config:
    """Tile sizes for rows of up to `columns` elements. BLOCK_N < columns: two kernels over column blocks.

    programs: per processor; each takes tiles of its rows in turn while the next ones are on their way
    (`stages` tiles in shared memory; 1 for none).
    reload: x and dy are read again, from the L1 cache, rather than kept in registers between the row sums and
    dx.
    """

    columns: float
    BLOCK_M: int
    BLOCK_N: int
    warps: int
    programs: int
    stages: int
    reload: bool = False


# All rows of the least sufficient `columns` are candidates, the best guess first. Chosen ahead of time for
# zero spills; not yet measured on a GPU.
CONFIGS = (
    Config(columns=128,   BLOCK_M=16, BLOCK_N=128,   warps=4,  programs=4, stages=2),
    Config(columns=128,   BLOCK_M=16, BLOCK_N=128,   warps=4,  programs=4, stages=1),
    Config(columns=256,   BLOCK_M=8,  BLOCK_N=256,   warps=4,  programs=4, stages=2),
    Config(columns=256,   BLOCK_M=8,  BLOCK_N=256,   warps=4,  programs=4, stages=1),
    Config(columns=512,   BLOCK_M=4,  BLOCK_N=512,   warps=4,  programs=4, stages=2),
    Config(columns=512,   BLOCK_M=4,  BLOCK_N=512,   warps=4,  programs=4, stages=1),
    Config(columns=1024,  BLOCK_M=2,  BLOCK_N=1024,  warps=4,  programs=4, stages=2),
    Config(columns=1024,  BLOCK_M=2,  BLOCK_N=1024,  warps=4,  programs=4, stages=1),
    Config(columns=1024,  BLOCK_M=1,  BLOCK_N=1024,  warps=4,  programs=4, stages=3),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=4,  programs=4, stages=2),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=4,  programs=4, stages=1),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=8,  programs=2, stages=3),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=2, stages=2),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=2, stages=1),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=16, programs=1, stages=3),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=2),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=1),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=1, reload=True),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=16, programs=1, stages=1, reload=True),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=16, programs=1, stages=1),
    Config(columns=16384, BLOCK_M=4,  BLOCK_N=1024,  warps=8,  programs=2, stages=2),
    Config(columns=inf,   BLOCK_M=4,  BLOCK_N=1024,  warps=8,  programs=2, stages=2),
    Config(columns=inf,   BLOCK_M=8,  BLOCK_N=512,   warps=8,  programs=2, stages=2),
    Config(columns=inf,   BLOCK_M=4,  BLOCK_N=1024,  warps=8,  programs=2, stages=1),
)  # fmt: skip

# The row sums of long rows: a program per row, column blocks of this size, loads this many blocks ahead.
ROW_SUMS = Config(columns=inf, BLOCK_M=1, BLOCK_N=4096, warps=8, programs=0, stages=3)

# The sums over programs, of which long rows have few. The first row with enough `columns` is taken.
COLUMN_SUMS = (
    Config(columns=16384, BLOCK_M=32, BLOCK_N=64,  warps=4, programs=0, stages=3),
    Config(columns=inf,   BLOCK_M=4,  BLOCK_N=512, warps=4, programs=0, stages=3),
)  # fmt: skip


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


def shared_memory(config: Config, itemsize: int, tensors: int) -> int:
    """Bytes of shared memory needed at most: a tile of each tensor read per stage, and the reductions."""
    tile = config.BLOCK_M * config.BLOCK_N
    stages = 0 if config.stages == 1 else config.stages
    # At the end, the sums over the rows of a tile go through shared memory.
    return max(itemsize * tile * stages * tensors, 4 * tile if config.BLOCK_M > 1 else 0) + 2048


def is_legal(config: Config, target: Target, itemsize: int, columns: int, tensors: int) -> bool:
    """Whether the kernels are right with this config and fit the target; `tensors` of x's shape are read."""
    return (
        config.columns >= columns
        and (columns <= config.BLOCK_N or not config.reload)
        and shared_memory(config, itemsize, tensors) <= target.shared_memory
    )


@functools.cache
def candidates(target: Target, itemsize: int, columns: int, tensors: int) -> tuple[Config, ...]:
    """The legal rows of the least sufficient `columns`, the best guess first."""
    legal = [row for row in CONFIGS if is_legal(row, target, itemsize, columns, tensors)]
    return tuple(row for row in legal if row.columns == legal[0].columns)


@triton.jit
def _load_normalised(
    x_ptrs,
    residual_ptrs,
    mask,
    mean,
    rstd,
    CENTRED: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    POLICY: tl.constexpr,
):
    s = load_float32(x_ptrs, mask, True, POLICY)
    if HAS_RESIDUAL:
        s += load_float32(residual_ptrs, mask, True, POLICY)
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
    WHOLE_ROWS: tl.constexpr,  # columns <= BLOCK_N: row_sums_ptr is not read
    VECTOR: tl.constexpr,  # elements that every row starts at a multiple of
    EVEN_N: tl.constexpr,  # columns is a multiple of BLOCK_N
    RELOAD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A block of columns of many rows per program; the sums over rows stay in registers from tile to tile."""
    columns = column_vectors * VECTOR
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    column_2d = column[None, :]
    in_row = column < columns
    dweight = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    dbias = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    if NEEDS_DX and not RELOAD:
        weight = load_float32(weight_ptr + column, in_row, not EVEN_N, "evict_last")[None, :]
    for tile in tl.range(tl.program_id(1), tl.cdiv(rows, BLOCK_M), tl.num_programs(1), num_stages=STAGES):
        row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        row_mask = row < rows
        mask = row_mask[:, None]
        if not EVEN_N:
            mask = mask & in_row[None, :]
        row_64 = row.to(tl.int64)[:, None]
        dy_ptrs = dy_ptr + row_64 * (dy_row_vectors * VECTOR) + column_2d
        x_ptrs = x_ptr + row_64 * (x_row_vectors * VECTOR) + column_2d
        residual_ptrs = x_ptrs
        if HAS_RESIDUAL:
            residual_ptrs = residual_ptr + row_64 * (residual_row_vectors * VECTOR) + column_2d
        mean = 0.0
        rstd_ptr = statistics_ptr
        if CENTRED:
            mean = tl.load(statistics_ptr + row, mask=row_mask, other=0.0)[:, None]
            rstd_ptr = statistics_ptr + rows
        rstd = tl.load(rstd_ptr + row, mask=row_mask, other=0.0)[:, None]
        # Rows and columns past the edge have dy = 0 and add nothing to any sum.
        FIRST: tl.constexpr = "evict_last" if RELOAD else "evict_first"
        dy = load_float32(dy_ptrs, mask, True, FIRST)
        normalised = _load_normalised(x_ptrs, residual_ptrs, mask, mean, rstd, CENTRED, HAS_RESIDUAL, FIRST)
        if NEEDS_DX:
            if RELOAD:
                weight = load_float32(weight_ptr + column, in_row, not EVEN_N, "evict_last")[None, :]
            g = dy * weight
            mean_g = 0.0
            if WHOLE_ROWS:
                mean_gs = (tl.sum(g * normalised, axis=1) / columns)[:, None]
                if CENTRED:
                    mean_g = (tl.sum(g, axis=1) / columns)[:, None]
            else:
                mean_gs = tl.load(row_sums_ptr + row, mask=row_mask, other=0.0)[:, None]
                if CENTRED:
                    mean_g = tl.load(row_sums_ptr + rows + row, mask=row_mask, other=0.0)[:, None]
            if RELOAD:
                # Another policy than above, or the compiler would keep the values after all.
                dy = load_float32(dy_ptrs, mask, True, "evict_first")
                normalised = _load_normalised(
                    x_ptrs, residual_ptrs, mask, mean, rstd, CENTRED, HAS_RESIDUAL, "evict_first"
                )
                g = dy * load_float32(weight_ptr + column, in_row, not EVEN_N, "evict_first")[None, :]
            dx = g - normalised * mean_gs
            if CENTRED:
                dx -= mean_g
            dx *= rstd
            if HAS_DS:
                ds_ptrs = ds_ptr + row_64 * (ds_row_vectors * VECTOR) + column_2d
                dx += load_float32(ds_ptrs, mask, True, "evict_first")
            tl.store(dx_ptr + row_64 * columns + column_2d, dx.to(dx_ptr.dtype.element_ty), mask=mask)
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
    """What the backward pass writes; None for what nobody asked for."""

    dx: torch.Tensor | None  # (rows, columns), contiguous
    dweight: torch.Tensor | None  # (columns,)
    dbias: torch.Tensor | None  # (columns,)


def row_programs(rows: int, columns: int, target: Target, config: Config) -> int:
    """How many partial sums over rows there are."""
    column_blocks: int = triton.cdiv(columns, config.BLOCK_N)
    tiles: int = triton.cdiv(rows, config.BLOCK_M)
    return min(tiles, max(1, target.processors * config.programs // column_blocks))


def plan_backward(
    dy: torch.Tensor,
    ds: torch.Tensor | None,
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    statistics: torch.Tensor,
    gradients: Gradients,
    *,
    target: Target | None = None,
    config: Config | None = None,
) -> tuple[Launch, ...]:
    """The launches that write the gradients, in order; partial sums are allocated here.

    dy, ds, x, residual: (rows, columns) with contiguous rows. Tensors may be on the meta device.
    """
    rows, columns = x.shape
    target = target or target_of(x.device)
    read = [tensor for tensor in (dy, ds, x, residual) if tensor is not None]
    config = config or candidates(target, x.element_size(), columns, len(read))[0]
    vector = vector_of(columns, x.element_size(), *(tensor.stride(0) for tensor in read))
    whole = columns <= config.BLOCK_N
    programs = row_programs(rows, columns, target, config)
    needs = {"NEEDS_DWEIGHT": gradients.dweight is not None, "NEEDS_DBIAS": gradients.dbias is not None}
    partial_dweight, partial_dbias = (
        torch.empty((programs, columns), dtype=torch.float32, device=x.device) if needed else None
        for needed in needs.values()
    )
    row_sums = None if whole or gradients.dx is None else torch.empty_like(statistics)
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
                    **flags, "VECTOR": vector, "BLOCK_N": ROW_SUMS.BLOCK_N, "STAGES": ROW_SUMS.stages,
                },
                num_warps=ROW_SUMS.warps,
                num_stages=1,
            )
        )  # fmt: skip
    launches.append(
        Launch(
            kernel=norm_backward_kernel,
            grid=(triton.cdiv(columns, config.BLOCK_N), programs),
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
                "WHOLE_ROWS": whole,
                "VECTOR": vector,
                "EVEN_N": columns % config.BLOCK_N == 0,
                "RELOAD": config.reload,
                "BLOCK_M": config.BLOCK_M,
                "BLOCK_N": config.BLOCK_N,
                "STAGES": config.stages,
            },
            num_warps=config.warps,
            num_stages=1,  # the loop says itself how far it looks ahead
        )
    )
    if any(needs.values()):
        sums = next(row for row in COLUMN_SUMS if row.columns >= columns)
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
    config: Config | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """dx (which is dresidual, too), dweight and dbias, those of them that are `wanted`, else None.

    Any strides; statistics as `norm_forward` returned them.
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
    target = target_of(x.device)
    dy_rows, x_rows = as_rows(dy), as_rows(x)
    ds_rows, residual_rows = (None if tensor is None else as_rows(tensor) for tensor in (ds, residual))
    weight = weight.contiguous()
    gradients = Gradients(dx=None if dx is None else dx.view(rows, columns), dweight=dweight, dbias=dbias)

    def plan(row: Config) -> tuple[Launch, ...]:
        return plan_backward(
            dy_rows, ds_rows, x_rows, residual_rows, weight, statistics, gradients, target=target, config=row
        )

    if config is None:
        config = tuning.choose(
            "layer_norm_backward" if statistics.shape[0] == 2 else "rms_norm_backward",
            (
                triton.next_power_of_2(rows), columns, name_of(x.dtype), name_of(weight.dtype),
                tuple(wanted), residual is not None, ds is not None,
            ),
            candidates(target, x.element_size(), columns, 2 + (ds is not None) + (residual is not None)),
            plan,
            x.device,
        )  # fmt: skip
    for launch in plan(config):
        launch.run()
    return dx, dweight, dbias
