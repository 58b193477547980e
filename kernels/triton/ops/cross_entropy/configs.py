"""Tiles of cross entropy: both passes' configs, which are legal, and what is tried first.

All configs of the least sufficient `columns` are candidates, the best guess first. Chosen ahead of time for
zero spills; not yet measured on a GPU.
"""

import functools
from dataclasses import dataclass
from math import inf

from fuseproof.kernels.triton.launch import Architecture
from fuseproof.kernels.triton.row_tiles import Tile, least_sufficient, shared_memory


@dataclass(frozen=True, kw_only=True)
class Config(Tile):
    """Tile sizes for vocabularies of up to `columns` classes.

    The forward pass loops over blocks of BLOCK_N of them, `stages` of which are in flight; the backward pass
    has a program for each block.
    """


FORWARD_CONFIGS = (
    Config(columns=128,  BLOCK_M=16, BLOCK_N=128,  warps=4,  stages=1),
    Config(columns=256,  BLOCK_M=8,  BLOCK_N=256,  warps=4,  stages=1),
    Config(columns=512,  BLOCK_M=4,  BLOCK_N=512,  warps=4,  stages=1),
    Config(columns=1024, BLOCK_M=2,  BLOCK_N=1024, warps=4,  stages=1),
    Config(columns=2048, BLOCK_M=1,  BLOCK_N=2048, warps=4,  stages=1),
    Config(columns=4096, BLOCK_M=1,  BLOCK_N=4096, warps=8,  stages=1),
    Config(columns=inf,  BLOCK_M=1,  BLOCK_N=8192, warps=16, stages=3),
    Config(columns=inf,  BLOCK_M=1,  BLOCK_N=4096, warps=8,  stages=3),
    Config(columns=inf,  BLOCK_M=1,  BLOCK_N=4096, warps=16, stages=4),
    # Small enough for any GPU, whatever its shared memory.
    Config(columns=inf,  BLOCK_M=1,  BLOCK_N=2048, warps=8,  stages=2),
)  # fmt: skip

# 16 elements per thread: two loads of 16 bytes in flight.
BACKWARD_CONFIGS = (
    Config(columns=128,  BLOCK_M=16, BLOCK_N=128,  warps=4,  stages=1),
    Config(columns=256,  BLOCK_M=8,  BLOCK_N=256,  warps=4,  stages=1),
    Config(columns=512,  BLOCK_M=4,  BLOCK_N=512,  warps=4,  stages=1),
    Config(columns=1024, BLOCK_M=2,  BLOCK_N=1024, warps=4,  stages=1),
    Config(columns=inf,  BLOCK_M=1,  BLOCK_N=2048, warps=4,  stages=1),
    Config(columns=inf,  BLOCK_M=1,  BLOCK_N=4096, warps=8,  stages=1),
    Config(columns=inf,  BLOCK_M=1,  BLOCK_N=1024, warps=4,  stages=1),
)  # fmt: skip


def is_legal(config: Config, architecture: Architecture, columns: int, itemsize: int) -> bool:
    """Whether the kernels fit with this config; they are correct with any."""
    return config.columns >= columns and shared_memory(config, itemsize) <= architecture.shared_memory


@functools.cache
def candidates(
    configs: tuple[Config, ...], architecture: Architecture, columns: int, itemsize: int
) -> tuple[Config, ...]:
    """The legal ones of a pass's configs with the least sufficient `columns`, the best guess first."""
    return least_sufficient(config for config in configs if is_legal(config, architecture, columns, itemsize))
