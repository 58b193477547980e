"""Tiles of layer norm and RMS norm: both passes' configs, which are legal, and what is tried first.

All configs of the least sufficient `columns` are candidates, the best guess first. Chosen ahead of time for
zero spills; not yet measured on a GPU.
"""

import functools
from dataclasses import dataclass
from math import inf

from fuseproof.kernels.triton.launch import Architecture
from fuseproof.kernels.triton.row_tiles import Config, is_legal, least_sufficient


@dataclass(frozen=True, kw_only=True)
class BackwardConfig(Config):
    """Tile sizes of the backward pass.

    blocks: column blocks of a row whose sums a program takes itself, 1 for whole rows. With 2, two programs
            share a row and each reads both halves, at about the same time, so that one of them finds it in
            the L2 cache. 0: a separate kernel takes the row sums, of rows of any length.
    """

    blocks: int


# The first guesses have 16 elements per thread: two loads of 16 bytes in flight.
FORWARD_CONFIGS = (
    Config(columns=128,   BLOCK_M=16, BLOCK_N=128,   warps=4,  programs=0, stages=1),
    Config(columns=128,   BLOCK_M=32, BLOCK_N=128,   warps=4,  programs=0, stages=1),
    Config(columns=128,   BLOCK_M=16, BLOCK_N=128,   warps=4,  programs=8, stages=2),
    Config(columns=256,   BLOCK_M=8,  BLOCK_N=256,   warps=4,  programs=0, stages=1),
    Config(columns=256,   BLOCK_M=16, BLOCK_N=256,   warps=4,  programs=0, stages=1),
    Config(columns=256,   BLOCK_M=8,  BLOCK_N=256,   warps=4,  programs=8, stages=2),
    Config(columns=512,   BLOCK_M=4,  BLOCK_N=512,   warps=4,  programs=0, stages=1),
    Config(columns=512,   BLOCK_M=8,  BLOCK_N=512,   warps=4,  programs=0, stages=1),
    Config(columns=512,   BLOCK_M=4,  BLOCK_N=512,   warps=4,  programs=8, stages=2),
    Config(columns=1024,  BLOCK_M=2,  BLOCK_N=1024,  warps=4,  programs=0, stages=1),
    Config(columns=1024,  BLOCK_M=1,  BLOCK_N=1024,  warps=4,  programs=0, stages=1),
    Config(columns=1024,  BLOCK_M=2,  BLOCK_N=1024,  warps=4,  programs=8, stages=2),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=4,  programs=0, stages=1),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=8,  programs=0, stages=1),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=4,  programs=8, stages=2),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=0, stages=1),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=4,  programs=0, stages=1),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=4, stages=2),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=8,  programs=0, stages=1),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=0, stages=1),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=8,  programs=2, stages=2),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=16, programs=0, stages=1),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=32, programs=0, stages=1),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=16, programs=1, stages=2),
    Config(columns=32768, BLOCK_M=1,  BLOCK_N=32768, warps=32, programs=0, stages=1),
    Config(columns=32768, BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=4),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=4),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=2, stages=4),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=4096,  warps=16, programs=1, stages=6),
    # Small enough for any GPU, whatever its shared memory.
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=2048,  warps=8,  programs=2, stages=2),
)  # fmt: skip


@functools.cache
def forward_candidates(
    architecture: Architecture, columns: int, row_bytes: int, parameter_bytes: int
) -> tuple[Config, ...]:
    """The legal configs of the least sufficient `columns`, the best guess first.

    row_bytes: of an element of x and residual together; parameter_bytes: of weight and bias.
    """
    return least_sufficient(
        config
        for config in FORWARD_CONFIGS
        if is_legal(config, architecture, columns, row_bytes, parameter_bytes)
    )


BACKWARD_CONFIGS = (
    BackwardConfig(columns=128,   blocks=1, BLOCK_M=16, BLOCK_N=128,  warps=4,  programs=4, stages=2),
    BackwardConfig(columns=128,   blocks=1, BLOCK_M=16, BLOCK_N=128,  warps=4,  programs=4, stages=1),
    BackwardConfig(columns=256,   blocks=1, BLOCK_M=8,  BLOCK_N=256,  warps=4,  programs=4, stages=2),
    BackwardConfig(columns=256,   blocks=1, BLOCK_M=8,  BLOCK_N=256,  warps=4,  programs=4, stages=1),
    BackwardConfig(columns=512,   blocks=1, BLOCK_M=4,  BLOCK_N=512,  warps=4,  programs=4, stages=2),
    BackwardConfig(columns=512,   blocks=1, BLOCK_M=4,  BLOCK_N=512,  warps=4,  programs=4, stages=1),
    BackwardConfig(columns=1024,  blocks=1, BLOCK_M=2,  BLOCK_N=1024, warps=4,  programs=4, stages=2),
    BackwardConfig(columns=1024,  blocks=1, BLOCK_M=2,  BLOCK_N=1024, warps=4,  programs=4, stages=1),
    BackwardConfig(columns=1024,  blocks=1, BLOCK_M=1,  BLOCK_N=1024, warps=4,  programs=4, stages=3),
    BackwardConfig(columns=2048,  blocks=1, BLOCK_M=1,  BLOCK_N=2048, warps=4,  programs=4, stages=2),
    BackwardConfig(columns=2048,  blocks=1, BLOCK_M=1,  BLOCK_N=2048, warps=4,  programs=4, stages=1),
    BackwardConfig(columns=2048,  blocks=1, BLOCK_M=1,  BLOCK_N=2048, warps=8,  programs=2, stages=3),
    BackwardConfig(columns=4096,  blocks=1, BLOCK_M=1,  BLOCK_N=4096, warps=8,  programs=2, stages=2),
    BackwardConfig(columns=4096,  blocks=1, BLOCK_M=1,  BLOCK_N=4096, warps=8,  programs=2, stages=1),
    BackwardConfig(columns=4096,  blocks=1, BLOCK_M=1,  BLOCK_N=4096, warps=16, programs=1, stages=3),
    BackwardConfig(columns=8192,  blocks=1, BLOCK_M=1,  BLOCK_N=8192, warps=16, programs=1, stages=2),
    BackwardConfig(columns=8192,  blocks=1, BLOCK_M=1,  BLOCK_N=8192, warps=16, programs=1, stages=1),
    BackwardConfig(columns=8192,  blocks=2, BLOCK_M=1,  BLOCK_N=4096, warps=16, programs=1, stages=2),
    BackwardConfig(columns=16384, blocks=2, BLOCK_M=1,  BLOCK_N=8192, warps=16, programs=1, stages=2),
    BackwardConfig(columns=16384, blocks=2, BLOCK_M=1,  BLOCK_N=8192, warps=16, programs=1, stages=1),
    BackwardConfig(columns=16384, blocks=0, BLOCK_M=4,  BLOCK_N=1024, warps=8,  programs=2, stages=2),
    BackwardConfig(columns=inf,   blocks=0, BLOCK_M=4,  BLOCK_N=1024, warps=8,  programs=2, stages=2),
    BackwardConfig(columns=inf,   blocks=0, BLOCK_M=8,  BLOCK_N=512,  warps=8,  programs=2, stages=2),
    BackwardConfig(columns=inf,   blocks=0, BLOCK_M=4,  BLOCK_N=1024, warps=8,  programs=2, stages=1),
)  # fmt: skip

# The row sums of long rows: a program per row, column blocks of this size, loads this many blocks ahead.
ROW_SUMS = BackwardConfig(columns=inf, blocks=0, BLOCK_M=1, BLOCK_N=4096, warps=8, programs=0, stages=2)

# The sums over programs, of which long rows have few. The first with enough `columns` is taken.
COLUMN_SUMS = (
    BackwardConfig(columns=16384, blocks=0, BLOCK_M=32, BLOCK_N=64,  warps=4, programs=0, stages=3),
    BackwardConfig(columns=inf,   blocks=0, BLOCK_M=4,  BLOCK_N=512, warps=4, programs=0, stages=3),
)  # fmt: skip


def backward_shared_memory(config: BackwardConfig, row_bytes: int, weight_bytes: int) -> int:
    """Bytes of shared memory needed at most: loads in flight, and a tile that changes its layout.

    row_bytes: of an element of all that is read of a row (dy, x, ds, residual) together; weight_bytes: of one
    of weight, which is read with every tile where registers are few.
    """
    tile = config.BLOCK_M * config.BLOCK_N
    element = row_bytes + (weight_bytes if config.blocks > 1 else 0)
    return (config.stages - 1) * max(1, config.blocks) * tile * element + 4 * tile + 1024


def is_legal_backward(
    config: BackwardConfig, architecture: Architecture, columns: int, row_bytes: int, weight_bytes: int
) -> bool:
    """Whether the backward kernels are correct with this config and fit."""
    return (
        config.columns >= columns
        and (config.blocks == 0 or config.blocks * config.BLOCK_N >= columns)
        and backward_shared_memory(config, row_bytes, weight_bytes) <= architecture.shared_memory
    )


@functools.cache
def backward_candidates(
    architecture: Architecture, columns: int, row_bytes: int, weight_bytes: int
) -> tuple[BackwardConfig, ...]:
    """The legal configs of the least sufficient `columns`, the best guess first."""
    return least_sufficient(
        config
        for config in BACKWARD_CONFIGS
        if is_legal_backward(config, architecture, columns, row_bytes, weight_bytes)
    )
