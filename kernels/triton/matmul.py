"""Matrix product with a fused epilogue: c = activation(a b + bias) + residual.

a: (M, K); b: (K, N); bias: (N,); residual, c: (M, N); one dtype, float16, bfloat16 or float32 (IEEE products,
no TF32). Operands may have any strides: a transposed operand is read where it lies. Products accumulate in
float32, the epilogue is computed in float32, and the result is rounded once, at the store.

Tiles of c are assigned in groups of rows, so that the programs that run at the same time share operands in
the L2 cache (Tillet et al. 2019, Triton, https://doi.org/10.1145/3315508.3329973). GELU: Hendrycks & Gimpel
2016, https://arxiv.org/abs/1606.08415.
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
    target_of,
)

ACTIVATIONS = (None, "gelu", "gelu_tanh", "relu", "silu")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Tile sizes, for elements of up to `bytes` bytes.

    `m` is the largest M the row is meant for. `waves` is how often its tiles must at least fill the GPU: a
    tile too large leaves processors without work. `aligned` rows need operands that can be read 16 bytes at
    a time: element by element, a large tile has more pointers than registers.
    """

    bytes: int
    m: float
    waves: float
    aligned: bool
    BLOCK_M: int
    BLOCK_N: int
    BLOCK_K: int
    warps: int
    stages: int


# The first row that fits is taken. Chosen ahead of time for zero spills; not yet measured on a GPU.
# fmt: off
CONFIGS = (
    Config(bytes=2, m=16,  waves=0,   aligned=True,  BLOCK_M=16,  BLOCK_N=64,  BLOCK_K=64, warps=4, stages=6),
    Config(bytes=2, m=64,  waves=0,   aligned=True,  BLOCK_M=64,  BLOCK_N=64,  BLOCK_K=64, warps=4, stages=4),
    Config(bytes=2, m=inf, waves=1,   aligned=True,  BLOCK_M=128, BLOCK_N=256, BLOCK_K=64, warps=8, stages=3),
    Config(bytes=2, m=inf, waves=0.5, aligned=True,  BLOCK_M=128, BLOCK_N=128, BLOCK_K=64, warps=8, stages=4),
    Config(bytes=2, m=inf, waves=0.5, aligned=True,  BLOCK_M=128, BLOCK_N=128, BLOCK_K=32, warps=8, stages=4),
    Config(bytes=2, m=inf, waves=0,   aligned=True,  BLOCK_M=64,  BLOCK_N=64,  BLOCK_K=64, warps=4, stages=4),
    Config(bytes=2, m=16,  waves=0,   aligned=False, BLOCK_M=16,  BLOCK_N=64,  BLOCK_K=32, warps=4, stages=3),
    Config(bytes=2, m=inf, waves=0,   aligned=False, BLOCK_M=64,  BLOCK_N=64,  BLOCK_K=32, warps=4, stages=3),
    Config(bytes=4, m=16,  waves=0,   aligned=False, BLOCK_M=16,  BLOCK_N=64,  BLOCK_K=32, warps=4, stages=3),
    Config(bytes=4, m=inf, waves=1,   aligned=True,  BLOCK_M=128, BLOCK_N=64,  BLOCK_K=16, warps=8, stages=3),
    Config(bytes=4, m=inf, waves=0,   aligned=False, BLOCK_M=64,  BLOCK_N=64,  BLOCK_K=16, warps=4, stages=3),
)
# fmt: on

# Rows of tiles per group: the group's operands, 8 tiles of a and one of b at a time, stay well inside any L2
# cache.
GROUP_M = 8


def shared_memory(config: Config, itemsize: int) -> int:
    """Bytes of shared memory needed: one tile of a and of b per stage."""
    return itemsize * (config.BLOCK_M + config.BLOCK_N) * config.BLOCK_K * config.stages


def is_legal(config: Config, target: Target, itemsize: int, aligned: bool) -> bool:
    """Whether the config is made for such operands and fits the target; the kernel is correct with any."""
    return (
        config.bytes >= itemsize
        and config.aligned <= aligned
        and shared_memory(config, itemsize) <= target.shared_memory
    )


@functools.cache
def choose_config(target: Target, itemsize: int, aligned: bool, m: int, n: int) -> Config:
    """The first legal row whose tile is not too tall for M and not too large to fill the GPU."""
    return next(
        row
        for row in CONFIGS
        if row.m >= m
        and triton.cdiv(m, row.BLOCK_M) * triton.cdiv(n, row.BLOCK_N) >= row.waves * target.processors
        and is_legal(row, target, itemsize, aligned)
    )


def is_aligned(operand: torch.Tensor) -> bool:
    """Whether Triton can prove that rows or columns of an operand can be read 16 bytes at a time."""
    for inner, outer in ((1, 0), (0, 1)):
        if operand.stride(inner) == 1:
            # The size matters too: rows past the edge wrap around, and the wrap must not split a vector.
            even = operand.stride(outer) % 16 == 0 and operand.shape[inner] % 16 == 0
            return even and bool(operand.storage_offset() * operand.element_size() % 16 == 0)
    return False


@triton.jit
def _activate(x, ACTIVATION: tl.constexpr):
    """x: float32. GELU by σ, since (1 + tanh u)/2 = σ(2u): the interpreter has no tanh."""
    LOG2_E: tl.constexpr = 1.4426950408889634
    if ACTIVATION == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        y = x / (1.0 + tl.exp2(-2.0 * LOG2_E * u))
    elif ACTIVATION == "silu":
        y = x / (1.0 + tl.exp2(-LOG2_E * x))
    elif ACTIVATION == "relu":
        y = tl.where(x < 0.0, 0.0, x)  # not a maximum: NaN must stay NaN
    else:
        y = x
    return y


@triton.jit
def matmul_kernel(
    a_ptr,  # (M, K)
    b_ptr,  # (K, N)
    bias_ptr,  # (N,)
    residual_ptr,  # (M, N)
    c_ptr,  # (M, N)
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
    c_row_stride,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EVEN_K: tl.constexpr,  # K is a multiple of BLOCK_K
    GROUP_M: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    tile_rows = tl.cdiv(M, BLOCK_M)
    tile_columns = tl.cdiv(N, BLOCK_N)
    group_tiles = GROUP_M * tile_columns
    first_tile_row = tl.program_id(0) // group_tiles * GROUP_M
    group_rows = tl.minimum(tile_rows - first_tile_row, GROUP_M)
    in_group = tl.program_id(0) % group_tiles
    first_row = (first_tile_row + in_group % group_rows) * BLOCK_M
    first_column = in_group // group_rows * BLOCK_N

    # Rows and columns past the edge wrap around to real ones: their products are never stored, and the loop
    # over K needs no mask for them.
    rows = first_row + tl.arange(0, BLOCK_M)
    columns = first_column + tl.arange(0, BLOCK_N)
    ks = tl.arange(0, BLOCK_K).to(tl.int64)
    a_ptrs = a_ptr + (rows % M).to(tl.int64)[:, None] * a_row_stride + ks[None, :] * a_column_stride
    b_ptrs = b_ptr + ks[:, None] * b_row_stride + (columns % N).to(tl.int64)[None, :] * b_column_stride
    a_step = tl.cast(a_column_stride, tl.int64) * BLOCK_K
    b_step = tl.cast(b_row_stride, tl.int64) * BLOCK_K

    acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for _ in tl.range(0, K // BLOCK_K):
        acc = tl.dot(tl.load(a_ptrs), tl.load(b_ptrs), acc, input_precision="ieee")
        a_ptrs += a_step
        b_ptrs += b_step
    if not EVEN_K:
        in_k = ks < K % BLOCK_K
        a = tl.load(a_ptrs, mask=in_k[None, :], other=0.0)
        b = tl.load(b_ptrs, mask=in_k[:, None], other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee")

    if HAS_BIAS:
        acc += tl.load(bias_ptr + columns.to(tl.int64) * bias_stride, mask=columns < N, other=0.0).to(
            tl.float32
        )[None, :]
    acc = _activate(acc, ACTIVATION)
    mask = (rows < M)[:, None] & (columns < N)[None, :]
    rows = rows.to(tl.int64)[:, None]
    columns = columns.to(tl.int64)[None, :]
    if HAS_RESIDUAL:
        residual_ptrs = residual_ptr + rows * residual_row_stride + columns * residual_column_stride
        acc += tl.load(residual_ptrs, mask=mask, other=0.0).to(tl.float32)
    tl.store(c_ptr + rows * c_row_stride + columns, acc.to(c_ptr.dtype.element_ty), mask=mask)


def plan_forward(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    c: torch.Tensor,
    *,
    activation: str | None,
    target: Target | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes c, whose rows are contiguous. Tensors may be on the meta device."""
    (m, k), n = a.shape, b.shape[1]
    target = target or target_of(a.device)
    aligned = is_aligned(a) and is_aligned(b)
    config = config or choose_config(target, a.element_size(), aligned, m, n)
    return Launch(
        kernel=matmul_kernel,
        grid=(triton.cdiv(m, config.BLOCK_M) * triton.cdiv(n, config.BLOCK_N),),
        arguments={
            "a_ptr": a,
            "b_ptr": b,
            "bias_ptr": bias,
            "residual_ptr": residual,
            "c_ptr": c,
            "M": m,
            "N": n,
            "K": k,
            "a_row_stride": a.stride(0),
            "a_column_stride": a.stride(1),
            "b_row_stride": b.stride(0),
            "b_column_stride": b.stride(1),
            "bias_stride": 0 if bias is None else bias.stride(0),
            "residual_row_stride": 0 if residual is None else residual.stride(0),
            "residual_column_stride": 0 if residual is None else residual.stride(1),
            "c_row_stride": c.stride(0),
        },
        constants={
            "HAS_BIAS": bias is not None,
            "HAS_RESIDUAL": residual is not None,
            "ACTIVATION": activation,
            "EVEN_K": k % config.BLOCK_K == 0,
            "GROUP_M": GROUP_M,
            "BLOCK_M": config.BLOCK_M,
            "BLOCK_N": config.BLOCK_N,
            "BLOCK_K": config.BLOCK_K,
        },
        num_warps=config.warps,
        num_stages=config.stages,
    )


def matmul_forward(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    residual: torch.Tensor | None = None,
    config: Config | None = None,
) -> torch.Tensor:
    """`matmul` with a choice of config."""
    _check(a, b, bias, activation, residual)
    c = torch.empty((a.shape[0], b.shape[1]), dtype=a.dtype, device=a.device)
    if c.numel():
        plan_forward(a, b, bias, residual, c, activation=activation, config=config).run()
    return c


def variants(dtype: torch.dtype, target: Target = TARGETS[90]) -> Iterator[Launch]:
    """Launches on meta tensors that use every tile of `dtype` on `target` and every branch of the kernel."""
    cases = (
        # m, k, n, activation, layouts of a and b: n as written, t transposed
        (8192, 4096, 8192, None, "nn"),
        (8192, 4096, 8192, None, "tn"),
        (1024, 768, 3072, "gelu_tanh", "nn"),
        (1024, 768, 768, "gelu", "nt"),
        (4099, 4099, 4099, "silu", "nn"),
        (64, 4096, 14336, "relu", "nt"),
        (8, 4096, 14336, None, "nt"),
        (8, 4099, 4099, None, "nt"),
    )
    for m, k, n, activation, layouts in cases:
        a, b, c = (torch.empty(shape, dtype=dtype, device="meta") for shape in ((m, k), (k, n), (m, n)))
        if layouts[0] == "t":
            a = torch.empty((k, m), dtype=dtype, device="meta").t()
        if layouts[1] == "t":
            b = torch.empty((n, k), dtype=dtype, device="meta").t()
        bias = residual = None
        if activation is not None:
            bias, residual = c[0], c
        launch = plan_forward(a, b, bias, residual, c, activation=activation, target=target)
        epilogue = "" if activation is None else f"-bias-{activation}-residual"
        yield launch.labelled(f"matmul[{m}x{k}x{n}-{layouts}{epilogue}-{name_of(dtype)}]")


def _check(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    residual: torch.Tensor | None,
) -> None:
    check_tensors("matmul", {"a": a, "b": b}, {"bias": bias, "residual": residual})
    check_same_dtype("matmul", {"a": a, "b": b, "bias": bias, "residual": residual})
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(
            f"matmul: a must be (M, K) and b (K, N), not {tuple(a.shape)} and {tuple(b.shape)}; "
            "a weight stored as (N, K) is passed as weight.t(), without a copy"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"matmul: unknown activation {activation!r}; there are {', '.join(map(repr, ACTIVATIONS))}"
        )
    m, n = a.shape[0], b.shape[1]
    if bias is not None and bias.shape != (n,):
        raise ValueError(f"matmul: bias must be of shape ({n},), the columns of b, not {tuple(bias.shape)}")
    if residual is not None and residual.shape != (m, n):
        raise ValueError(
            f"matmul: residual must be of the result's shape ({m}, {n}), "
            f"not {tuple(residual.shape)}; use .expand()"
        )
    check_no_gradient("matmul", a, b, bias, residual)


def matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """activation(a b + bias) + residual.

    Args:
        a: (M, K), float16, bfloat16 or float32.
        b: (K, N). Either operand may be transposed or have any other strides; nothing is copied.
        bias: (N,), added to every row before the activation.
        activation: None, "gelu" (exact), "gelu_tanh", "relu" or "silu".
        residual: (M, N), added after the activation; any strides, so a row or column may be expanded.

    All tensors have one dtype and device. Products of float32 are IEEE, not TF32. Returns (M, N), contiguous.

    Raises ValueError or TypeError for what the kernel cannot take, NotImplementedError for tensors that are
    not on a GPU (outside Triton's interpreter) and for inputs that require a gradient.

    Source: blocked product with grouped tiles, Tillet et al. 2019, https://doi.org/10.1145/3315508.3329973.
    """
    return matmul_forward(a, b, bias, activation=activation, residual=residual)
