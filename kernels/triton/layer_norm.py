"""Layer normalisation over the last dimension: y = (s − mean(s)) / √(var(s) + eps) · weight + bias, s = x +
residual.

x, residual, y: (..., columns); weight, bias: (columns,). x and residual: float16, bfloat16 or float32; weight
and bias of x's dtype or float32. The sum and the statistics are float32, the variance is taken about the mean
(never E[s²] − E[s]², which cancels), and y is rounded once, at the store. Mean and 1/√(var + eps) are saved
in float32 for the backward pass.

Layer normalisation: Ba et al. 2016, https://arxiv.org/abs/1607.06450. Rows too long for one block are read
twice; their variance is accumulated by Welford's update (1962,
https://doi.org/10.1080/00401706.1962.10490022) per lane, and lanes are merged as in Chan et al. (1983,
https://doi.org/10.1080/00031305.1983.10483115).
"""

import functools
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
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Tile sizes for rows of up to `columns` elements. BLOCK_N < columns means a loop over column blocks."""

    columns: float
    BLOCK_M: int
    BLOCK_N: int
    warps: int


# The first row that fits is taken: 16 to 32 elements per thread, enough loads in flight without spills. Not
# yet measured.
CONFIGS = (
    Config(columns=128,   BLOCK_M=16, BLOCK_N=128,   warps=4),
    Config(columns=256,   BLOCK_M=8,  BLOCK_N=256,   warps=4),
    Config(columns=512,   BLOCK_M=4,  BLOCK_N=512,   warps=4),
    Config(columns=1024,  BLOCK_M=2,  BLOCK_N=1024,  warps=4),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=4),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=8),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=8),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=16),
    Config(columns=32768, BLOCK_M=1,  BLOCK_N=32768, warps=32),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=8192,  warps=16),
)  # fmt: skip


def is_legal(config: Config, columns: int) -> bool:
    """Whether the kernel computes correctly with this config; only one row per program can be looped over."""
    return config.columns >= columns and (columns <= config.BLOCK_N or config.BLOCK_M == 1)


@functools.cache
def choose_config(columns: int) -> Config:
    """The first legal row."""
    return next(row for row in CONFIGS if is_legal(row, columns))


@triton.jit
def layer_norm_rows_kernel(
    x_ptr,  # (rows, columns)
    residual_ptr,  # (rows, columns)
    weight_ptr,  # (columns,)
    bias_ptr,  # (columns,)
    y_ptr,  # (rows, columns), contiguous
    mean_ptr,  # (rows,) float32
    rstd_ptr,  # (rows,) float32
    rows,
    columns,
    x_row_stride,
    residual_row_stride,
    eps,
    HAS_RESIDUAL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Whole rows at once: read once, written once."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_N)
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    row_64 = row.to(tl.int64)[:, None]
    s = tl.load(x_ptr + row_64 * x_row_stride + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        residual_ptrs = residual_ptr + row_64 * residual_row_stride + column[None, :]
        s += tl.load(residual_ptrs, mask=mask, other=0.0).to(tl.float32)

    mean = tl.sum(s, axis=1) / columns
    centred = tl.where(mask, s - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, axis=1) / columns + eps)
    tl.store(mean_ptr + row, mean, mask=row < rows)
    tl.store(rstd_ptr + row, rstd, mask=row < rows)

    weight = tl.load(weight_ptr + column, mask=column < columns, other=0.0).to(tl.float32)
    y = centred * rstd[:, None] * weight[None, :]
    if HAS_BIAS:
        y += tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    tl.store(y_ptr + row_64 * columns + column[None, :], y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _load_sum(x_ptr, residual_ptr, column, columns, HAS_RESIDUAL: tl.constexpr, MASKED: tl.constexpr):
    mask = column < columns if MASKED else None
    s = tl.load(x_ptr + column, mask=mask).to(tl.float32)
    if HAS_RESIDUAL:
        s += tl.load(residual_ptr + column, mask=mask).to(tl.float32)
    return s


@triton.jit
def layer_norm_loop_kernel(
    x_ptr,  # (rows, columns)
    residual_ptr,  # (rows, columns)
    weight_ptr,  # (columns,)
    bias_ptr,  # (columns,)
    y_ptr,  # (rows, columns), contiguous
    mean_ptr,  # (rows,) float32
    rstd_ptr,  # (rows,) float32
    columns,
    x_row_stride,
    residual_row_stride,
    eps,
    HAS_RESIDUAL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One row in column blocks: once for the statistics, once, mostly from the L2 cache, for y."""
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * x_row_stride
    y_ptr += row * columns
    if HAS_RESIDUAL:
        residual_ptr += row * residual_row_stride
    lane = tl.arange(0, BLOCK_N)

    # Each lane keeps the mean and the sum of squares of what it has seen; lanes meet once, at the end.
    lane_mean = tl.zeros([BLOCK_N], dtype=tl.float32)
    lane_squares = tl.zeros([BLOCK_N], dtype=tl.float32)
    full_blocks = columns // BLOCK_N
    for block in tl.range(0, full_blocks):
        s = _load_sum(x_ptr, residual_ptr, block * BLOCK_N + lane, columns, HAS_RESIDUAL, False)
        delta = s - lane_mean
        lane_mean += delta / (block + 1)
        lane_squares += delta * (s - lane_mean)
    tail = full_blocks * BLOCK_N + lane
    in_row = tail < columns
    s = _load_sum(x_ptr, residual_ptr, tail, columns, HAS_RESIDUAL, True)
    delta = s - lane_mean
    lane_mean += tl.where(in_row, delta / (full_blocks + 1), 0.0)
    lane_squares += tl.where(in_row, delta * (s - lane_mean), 0.0)

    count = full_blocks + in_row.to(tl.float32)
    mean = tl.sum(lane_mean * count, axis=0) / columns
    offset = lane_mean - mean
    rstd = tl.rsqrt(tl.sum(lane_squares + count * offset * offset, axis=0) / columns + eps)
    tl.store(mean_ptr + row, mean)
    tl.store(rstd_ptr + row, rstd)

    for start in tl.range(0, columns, BLOCK_N):
        column = start + lane
        mask = column < columns
        s = _load_sum(x_ptr, residual_ptr, column, columns, HAS_RESIDUAL, True)
        weight = tl.load(weight_ptr + column, mask=mask, other=0.0).to(tl.float32)
        y = (s - mean) * rstd * weight
        if HAS_BIAS:
            y += tl.load(bias_ptr + column, mask=mask, other=0.0).to(tl.float32)
        tl.store(y_ptr + column, y.to(y_ptr.dtype.element_ty), mask=mask)


def plan_forward(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    *,
    eps: float,
    config: Config | None = None,
) -> Launch:
    """The launch that writes y, mean and rstd for x of (rows, columns). Tensors may be on the meta device."""
    rows, columns = x.shape
    config = config or choose_config(columns)
    arguments = {
        "x_ptr": x,
        "residual_ptr": residual,
        "weight_ptr": weight,
        "bias_ptr": bias,
        "y_ptr": y,
        "mean_ptr": mean,
        "rstd_ptr": rstd,
        "rows": rows,
        "columns": columns,
        "x_row_stride": x.stride(0),
        "residual_row_stride": 0 if residual is None else residual.stride(0),
        "eps": eps,
    }
    constants = {
        "HAS_RESIDUAL": residual is not None,
        "HAS_BIAS": bias is not None,
        "BLOCK_M": config.BLOCK_M,
        "BLOCK_N": config.BLOCK_N,
    }
    kernel = layer_norm_rows_kernel
    if columns > config.BLOCK_N:
        kernel = layer_norm_loop_kernel
        del arguments["rows"], constants["BLOCK_M"]
    return Launch(
        kernel=kernel,
        grid=(triton.cdiv(rows, config.BLOCK_M),),
        arguments=arguments,
        constants=constants,
        num_warps=config.warps,
        num_stages=1,  # nothing to pipeline through shared memory
    )


def layer_norm_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: torch.Tensor | None = None,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y like x, and the mean and 1/√(var + eps) of each row: (rows,) float32."""
    _check(x, weight, bias, eps, residual)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows = y.numel() // x.shape[-1]
    mean, rstd = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
    if rows:
        s = _as_rows("x", x)
        r = None if residual is None else _as_rows("residual", residual)
        weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
        plan_forward(s, r, weight, bias, _as_rows("y", y), mean, rstd, eps=eps, config=config).run()
    return y, mean, rstd


def variants(dtype: torch.dtype, target: Target = TARGETS[90]) -> Iterator[Launch]:
    """Launches on meta tensors that use every tile of `dtype` on `target` and every branch of the kernels."""
    del target  # every target takes the same rows
    for columns in (128, 256, 512, 768, 2048, 4096, 8192, 16384, 32768, 262144, 50257):
        x = torch.empty(4096, columns, dtype=dtype, device="meta")
        statistics = torch.empty(4096, device="meta")
        residual = None if columns == 8192 else x
        bias = None if columns == 4096 else x[0]
        launch = plan_forward(x, residual, x[0], bias, x, statistics, statistics, eps=1e-5)
        flags = f"{'-residual' * (residual is not None)}{'-bias' * (bias is not None)}"
        yield launch.labelled(f"layer_norm[4096x{columns}{flags}-{name_of(dtype)}]")


def _as_rows(name: str, x: torch.Tensor) -> torch.Tensor:
    """x as (rows, columns) without a copy."""
    try:
        return x.view(-1, x.shape[-1])
    except RuntimeError as error:
        raise ValueError(
            f"layer_norm: the rows of {name} must be evenly spaced, but its shape is {tuple(x.shape)} "
            f"and its strides are {x.stride()}; call {name}.contiguous()"
        ) from error


def _check(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    residual: torch.Tensor | None,
) -> None:
    check_tensors("layer_norm", {"x": x, "weight": weight}, {"bias": bias, "residual": residual})
    check_same_dtype("layer_norm", {"x": x, "residual": residual})
    if x.dim() == 0 or x.shape[-1] == 0:
        raise ValueError(
            f"layer_norm: x must have a last dimension of at least one, not shape {tuple(x.shape)}"
        )
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is None:
            continue
        if parameter.shape != x.shape[-1:]:
            raise ValueError(
                f"layer_norm: {name} must be of shape ({x.shape[-1]},), the last dimension of x, "
                f"not {tuple(parameter.shape)}"
            )
        if parameter.dtype not in (x.dtype, torch.float32):
            raise TypeError(
                f"layer_norm: {name} is {name_of(parameter.dtype)}; "
                f"cast it to {name_of(x.dtype)} like x, or float32"
            )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"layer_norm: residual must be of the shape of x {tuple(x.shape)}, not {tuple(residual.shape)}; "
            "use .expand()"
        )
    for name, tensor in (("x", x), ("residual", residual)):
        if tensor is not None and tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            raise ValueError(
                f"layer_norm: the last dimension of {name} must be contiguous, "
                f"but its strides are {tensor.stride()}; call {name}.contiguous()"
            )
    if not 0 <= eps < inf:
        raise ValueError(f"layer_norm: eps must be finite and not negative, not {eps}")
    check_no_gradient("layer_norm", x, weight, bias, residual)


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """(s − mean(s)) / √(var(s) + eps) · weight + bias over the last dimension, with s = x + residual.

    Args:
        x: (..., columns), float16, bfloat16 or float32; last dimension contiguous and rows evenly spaced, not
            copied.
        weight: (columns,), of x's dtype or float32.
        bias: (columns,), likewise; zero if None.
        eps: added to the variance, not negative.
        residual: shape and dtype of x, added in float32 before the statistics are taken.

    Rows of up to 32,768 columns are read once, longer ones twice (tested to 262,144). Returns shape and dtype
    of x, contiguous.

    Raises ValueError or TypeError for what the kernel cannot take, NotImplementedError for tensors that are
    not on a GPU (outside Triton's interpreter) and for inputs that require a gradient.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450.
    """
    return layer_norm_forward(x, weight, bias, eps, residual=residual)[0]
