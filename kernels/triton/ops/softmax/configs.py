"""Tiles of softmax: both passes' configs, which are legal, and what is tried first.

All configs of the least sufficient `columns` are candidates, the best guess first. Chosen ahead of time for
zero spills; not yet measured on a GPU.
"""

import functools
from math import inf

from fuseproof.kernels.triton.launch import Architecture
from fuseproof.kernels.triton.row_tiles import Config, is_legal, least_sufficient

# The first guesses have 16 elements per thread: two loads of 16 bytes in flight.
FORWARD_CONFIGS = (
    Config(columns=128,   BLOCK_M=16, BLOCK_N=128,   warps=4,  programs=0, stages=1),
    Config(columns=128,   BLOCK_M=32, BLOCK_N=128,   warps=4,  programs=0, stages=1),
    Config(columns=256,   BLOCK_M=8,  BLOCK_N=256,   warps=4,  programs=0, stages=1),
    Config(columns=512,   BLOCK_M=4,  BLOCK_N=512,   warps=4,  programs=0, stages=1),
    Config(columns=1024,  BLOCK_M=2,  BLOCK_N=1024,  warps=4,  programs=0, stages=1),
    Config(columns=1024,  BLOCK_M=1,  BLOCK_N=1024,  warps=4,  programs=0, stages=1),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=4,  programs=0, stages=1),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=0, stages=1),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=4,  programs=0, stages=1),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=8,  programs=0, stages=1),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=0, stages=1),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=16, programs=0, stages=1),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=32, programs=0, stages=1),
    Config(columns=32768, BLOCK_M=1,  BLOCK_N=32768, warps=32, programs=0, stages=1),
    Config(columns=32768, BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=3),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=3),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=4096,  warps=16, programs=1, stages=4),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=2, stages=3),
    # Small enough for any GPU, whatever its shared memory.
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=2048,  warps=8,  programs=2, stages=2),
)  # fmt: skip

BACKWARD_CONFIGS = (
    Config(columns=128,   BLOCK_M=8,  BLOCK_N=128,   warps=4,  programs=0, stages=1),
    Config(columns=128,   BLOCK_M=16, BLOCK_N=128,   warps=4,  programs=0, stages=1),
    Config(columns=256,   BLOCK_M=4,  BLOCK_N=256,   warps=4,  programs=0, stages=1),
    Config(columns=512,   BLOCK_M=2,  BLOCK_N=512,   warps=4,  programs=0, stages=1),
    Config(columns=1024,  BLOCK_M=1,  BLOCK_N=1024,  warps=4,  programs=0, stages=1),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=4,  programs=0, stages=1),
    Config(columns=2048,  BLOCK_M=1,  BLOCK_N=2048,  warps=8,  programs=0, stages=1),
    Config(columns=4096,  BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=0, stages=1),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=0, stages=1),
    Config(columns=8192,  BLOCK_M=1,  BLOCK_N=8192,  warps=8,  programs=0, stages=1),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=16384, warps=32, programs=0, stages=1),
    Config(columns=16384, BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=2, stages=3),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=4096,  warps=8,  programs=2, stages=3),
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=8192,  warps=16, programs=1, stages=3),
    # Small enough for any GPU, whatever its shared memory.
    Config(columns=inf,   BLOCK_M=1,  BLOCK_N=2048,  warps=8,  programs=2, stages=2),
)  # fmt: skip


@functools.cache
def candidates(
    configs: tuple[Config, ...], architecture: Architecture, columns: int, row_bytes: int
) -> tuple[Config, ...]:
    """The legal ones of a pass's configs with the least sufficient `columns`, the best guess first.

    row_bytes: of an element of all that is read of a row together.
    """
    return least_sufficient(
        config for config in configs if is_legal(config, architecture, columns, row_bytes)
    )
