"""Launches of `matmul`: what runs for given tensors and a config. Tensors may be on the meta device."""

from __future__ import annotations

import functools
from dataclasses import astuple

import torch
from torch import Tensor

import triton
from fuseproof.kernels.triton.launch import FLOATS, Architecture, Launch, architecture_of
from fuseproof.kernels.triton.ops.matmul.configs import (
    GROUP_M,
    Config,
    Problem,
    candidates,
    parts,
    programs,
)
from fuseproof.kernels.triton.ops.matmul.kernels import (
    matmul_cotangent_kernel,
    matmul_descriptor_kernel,
    matmul_kernel,
    matmul_reduce_kernel,
)

Arguments = dict[str, Tensor | float | None]

DTYPES = (*FLOATS, torch.float8_e4m3fn)
ACTIVATIONS = (None, "gelu", "gelu_tanh", "relu", "silu")

# Pointers of the epilogue, in the order of every kernel that has one.
EPILOGUE = ("bias_ptr", "residual_ptr", "scale_a_ptr", "scale_b_ptr", "c_ptr", "pre_ptr")


def problem_of(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    c: Tensor,
    pre: Tensor | None,
    *,
    activation: str | None,
    precision: str,
    fast_accumulation: bool,
) -> Problem:
    """The properties of the product in `forward_launches` that its config depends on."""
    (m, k), n = a.shape, b.shape[1]
    rows = _rows_in_memory(a), _rows_in_memory(b)
    return Problem(
        products=_products(a.dtype, precision, fast_accumulation),
        m=m,
        n=n,
        k=k,
        bytes=a.element_size(),
        c_bytes=c.element_size(),
        aligned=_is_aligned(a) and _is_aligned(b),
        # A descriptor needs rows that start at multiples of 16 bytes, and at least one element.
        tma=None not in rows and k > 0 and n * c.element_size() % 16 == 0,
        layouts="".join(_layout(operand) for operand in (a, b)),
        beside=(residual is not None) + (pre is not None),
        activation=activation,
        bias=bias is not None,
    )


def result_of(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the result of operands of `dtype`, unless the caller names another."""
    return torch.bfloat16 if dtype == torch.float8_e4m3fn else dtype


@functools.lru_cache(maxsize=4096)  # lengths of sequences are many
def choices(architecture: Architecture, problem: Problem) -> tuple[tuple[object, ...], tuple[Config, ...]]:
    """The key under which a choice is kept, and the candidates for it."""
    bucketed = problem.bucketed()
    return astuple(bucketed), candidates(architecture, bucketed)


def forward_launches(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    c: Tensor,
    pre: Tensor | None,
    *,
    activation: str | None,
    precision: str,
    fast_accumulation: bool,
    config: Config,
    architecture: Architecture | None = None,
) -> list[Launch]:
    """The launches that write c and, unless `pre` is None, the activation's argument; both contiguous."""
    (m, k), n = a.shape, b.shape[1]
    architecture = architecture or architecture_of(a.device)
    blocks = triton.cdiv(k, config.BLOCK_K)
    split_blocks = max(1, triton.cdiv(blocks, config.splits))
    splits = triton.cdiv(blocks, split_blocks) if blocks else 1  # no part is empty
    tiles = triton.cdiv(m, config.BLOCK_M) * triton.cdiv(n, config.BLOCK_N)
    epilogue: Arguments = {
        "bias_ptr": bias,
        "residual_ptr": residual,
        "scale_a_ptr": scale_a,
        "scale_b_ptr": scale_b,
        "c_ptr": c,
        "pre_ptr": pre,
    }
    strides, flags = epilogue_strides(bias, residual), epilogue_flags(epilogue, activation)
    second = []
    if splits > 1:
        part = torch.empty((splits, m, n), dtype=torch.float32, device=a.device)
        second = [reduce_launch(part, epilogue, strides, flags)]
        epilogue = {**dict.fromkeys(EPILOGUE), "c_ptr": part}
        strides, flags = epilogue_strides(None, None), epilogue_flags(epilogue, None)
    products = {
        **flags,
        "PRECISION": precision,
        # float8 is summed in float32 after every block of K; None leaves it to the tensor cores.
        "IMPRECISE": config.BLOCK_K if a.element_size() == 1 and not fast_accumulation else None,
        "SPLIT": splits > 1,
    }
    tile = {
        "GROUP_M": GROUP_M,
        "BLOCK_M": config.BLOCK_M,
        "BLOCK_N": config.BLOCK_N,
        "BLOCK_K": config.BLOCK_K,
    }
    if config.tma:
        rows_a, rows_b = _rows_in_memory(a), _rows_in_memory(b)
        assert rows_a is not None and rows_b is not None, (
            "the config reads through descriptors, which these operands do not allow"
        )
        first = Launch(
            kernel=matmul_descriptor_kernel,
            grid=(min(tiles * splits, programs(config) * architecture.processors),),
            arguments={
                "a_ptr": a,
                "b_ptr": b,
                **epilogue,
                "M": m,
                "N": n,
                "K": k,
                "a_stride": a.stride(rows_a),
                "b_stride": b.stride(rows_b),
                **strides,
                "splits": splits,
                "split_blocks": split_blocks,
            },
            constants={
                "A_TRANSPOSED": rows_a == 1,
                "B_TRANSPOSED": rows_b == 1,
                **products,
                "SPECIALIZE": config.specialize,
                "PARTS": parts(config),
                **tile,
            },
            num_warps=config.warps,
            num_stages=config.stages,
        )
    else:
        first = Launch(
            kernel=matmul_kernel,
            grid=(tiles, splits),
            arguments={
                "a_ptr": a,
                "b_ptr": b,
                **epilogue,
                "M": m,
                "N": n,
                "K": k,
                "a_row_stride": a.stride(0),
                "a_column_stride": a.stride(1),
                "b_row_stride": b.stride(0),
                "b_column_stride": b.stride(1),
                **strides,
                "split_blocks": split_blocks,
            },
            constants={**products, "EVEN_K": k % config.BLOCK_K == 0, **tile},
            num_warps=config.warps,
            num_stages=config.stages,
        )
    return [first, *second]


def cotangent_launches(
    dc: Tensor,
    pre: Tensor | None,
    dpre: Tensor | None,
    dbias: Tensor | None,
    *,
    activation: str | None,
    architecture: Architecture | None = None,
) -> list[Launch]:
    """The launches that write dpre = dc · activation'(pre) and dbias, the sums of its columns.

    Without an activation dpre is dc itself and need not be given.
    """
    m, n = dc.shape
    architecture = architecture or architecture_of(dc.device)
    block_m, block_n = 16, 256
    column_blocks = triton.cdiv(n, block_n)
    # A few programs for every processor; the sums of all are added up afterwards, so no more than 128.
    groups = min(max(1, 4 * architecture.processors // column_blocks), 128)
    group_rows = triton.cdiv(triton.cdiv(m, block_m), groups) * block_m
    groups = triton.cdiv(m, group_rows)
    sums = None
    if dbias is not None:
        sums = torch.empty((groups, 1, n), dtype=torch.float32, device=dc.device)
    first = Launch(
        kernel=matmul_cotangent_kernel,
        grid=(column_blocks, groups),
        arguments={
            "dc_ptr": dc,
            "pre_ptr": pre,
            "dpre_ptr": dpre,
            "sums_ptr": sums,
            "M": m,
            "N": n,
            "dc_row_stride": dc.stride(0),
            "dc_column_stride": dc.stride(1),
            "rows_per_program": group_rows,
        },
        constants={
            "ACTIVATION": activation,
            "HAS_SUMS": sums is not None,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
        },
        num_warps=4,
        num_stages=2,
    )
    if sums is None:
        return [first]
    only: Arguments = {**dict.fromkeys(EPILOGUE), "c_ptr": dbias}
    return [first, reduce_launch(sums, only, epilogue_strides(None, None), epilogue_flags(only, None))]


def reduce_launch(part: Tensor, epilogue: Arguments, strides: Arguments, flags: dict[str, object]) -> Launch:
    """The launch that adds up the first dimension of part, (splits, M, N), and does the epilogue."""
    splits, m, n = part.shape
    block_s = min(triton.next_power_of_2(splits), 16)
    block_n = 1024 // block_s  # 8 elements for each of 128 threads: two 16-byte loads
    return Launch(
        kernel=matmul_reduce_kernel,
        grid=(m, triton.cdiv(n, block_n)),
        arguments={"part_ptr": part, **epilogue, "M": m, "N": n, "splits": splits, **strides},
        constants={**flags, "BLOCK_S": block_s, "BLOCK_N": block_n},
        num_warps=4,
        num_stages=2,
    )


def epilogue_strides(bias: Tensor | None, residual: Tensor | None) -> Arguments:
    """The strides of bias and residual by the names of the kernels' arguments; 0 for None."""
    return {
        "bias_stride": 0 if bias is None else bias.stride(0),
        "residual_row_stride": 0 if residual is None else residual.stride(0),
        "residual_column_stride": 0 if residual is None else residual.stride(1),
    }


def epilogue_flags(epilogue: Arguments, activation: str | None) -> dict[str, object]:
    """The constexpr parameters that say which tensors of EPILOGUE there are, and the activation."""
    return {
        "HAS_BIAS": epilogue["bias_ptr"] is not None,
        "HAS_RESIDUAL": epilogue["residual_ptr"] is not None,
        "HAS_SCALE_A": epilogue["scale_a_ptr"] is not None,
        "HAS_SCALE_B": epilogue["scale_b_ptr"] is not None,
        "SAVE_PRE": epilogue["pre_ptr"] is not None,
        "ACTIVATION": activation,
    }


def _products(dtype: torch.dtype, precision: str, fast_accumulation: bool) -> str:
    if dtype == torch.float32:
        return precision
    if dtype == torch.float8_e4m3fn:
        return "float8_fast" if fast_accumulation else "float8"
    return "half"


def _layout(operand: Tensor) -> str:
    """n: elements of a row are neighbours; t: those of a column; x: neither."""
    return "n" if operand.stride(1) == 1 else "t" if operand.stride(0) == 1 else "x"


def _rows_in_memory(operand: Tensor) -> int | None:
    """The dimension that counts the rows in memory; None if no tensor descriptor can describe them."""
    for inner, outer in ((1, 0), (0, 1)):
        pitch = operand.stride(outer) * operand.element_size()
        if operand.stride(inner) == 1 and pitch > 0 and pitch % 16 == 0 and operand.data_ptr() % 16 == 0:
            return outer
    return None


def _is_aligned(operand: Tensor) -> bool:
    """Whether Triton can prove that rows or columns of an operand can be read 16 bytes at a time."""
    for inner, outer in ((1, 0), (0, 1)):
        if operand.stride(inner) == 1:
            # The size matters too: rows past the edge wrap around, and the wrap must not split a vector.
            even = operand.stride(outer) % 16 == 0 and operand.shape[inner] % 16 == 0
            return bool(even and operand.data_ptr() % 16 == 0)
    return False
