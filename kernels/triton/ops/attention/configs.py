"""Tiles of attention: what each kernel may be launched with, which of it is legal, and what is tried first.

Chosen ahead of time for zero spills; not yet measured on a GPU. In each table the first guess of each kind
comes first. BLOCK_M counts queries, BLOCK_N keys.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import triton
from fuseproof.kernels.triton.launch import Architecture

HEAD_DIMS = (64, 96, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Tile sizes, for capabilities from `sm` on, elements of up to `bytes` bytes and head dims up to
    `head_dim`.

    rows:  the largest number of queries, times the heads that share a tile, that it is meant for: few rows
           do not fill a tall tile.
    apart: backward only: dk and dv by one launch each, whose accumulators need half the registers.
    """

    sm: int
    bytes: int
    head_dim: int
    rows: float = inf
    BLOCK_M: int
    BLOCK_N: int
    warps: int
    stages: int
    apart: bool = False


FORWARD_CONFIGS = (
    Config(sm=90,  bytes=2, head_dim=64,  rows=16,  BLOCK_M=16,  BLOCK_N=128, warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,  rows=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,            BLOCK_M=128, BLOCK_N=128, warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,            BLOCK_M=128, BLOCK_N=64,  warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,            BLOCK_M=64,  BLOCK_N=128, warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,            BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=128, rows=16,  BLOCK_M=16,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=128, rows=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=128,           BLOCK_M=128, BLOCK_N=128, warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=128,           BLOCK_M=128, BLOCK_N=64,  warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=128,           BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=256, rows=16,  BLOCK_M=16,  BLOCK_N=32,  warps=4, stages=3),
    Config(sm=90,  bytes=2, head_dim=256, rows=64,  BLOCK_M=64,  BLOCK_N=32,  warps=4, stages=2),
    Config(sm=100, bytes=2, head_dim=256,           BLOCK_M=128, BLOCK_N=32,  warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=256,           BLOCK_M=128, BLOCK_N=64,  warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=256,           BLOCK_M=128, BLOCK_N=32,  warps=8, stages=3),
    Config(sm=0,   bytes=2, head_dim=64,  rows=16,  BLOCK_M=16,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=0,   bytes=2, head_dim=64,  rows=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=0,   bytes=2, head_dim=64,            BLOCK_M=128, BLOCK_N=64,  warps=4, stages=3),
    Config(sm=0,   bytes=2, head_dim=128, rows=16,  BLOCK_M=16,  BLOCK_N=64,  warps=4, stages=2),
    Config(sm=0,   bytes=2, head_dim=128,           BLOCK_M=128, BLOCK_N=64,  warps=8, stages=3),
    Config(sm=0,   bytes=2, head_dim=256, rows=16,  BLOCK_M=16,  BLOCK_N=32,  warps=4, stages=2),
    Config(sm=0,   bytes=2, head_dim=256,           BLOCK_M=64,  BLOCK_N=32,  warps=8, stages=2),
    Config(sm=0,   bytes=4, head_dim=64,            BLOCK_M=32,  BLOCK_N=32,  warps=4, stages=2),
    Config(sm=0,   bytes=4, head_dim=128,           BLOCK_M=32,  BLOCK_N=16,  warps=8, stages=2),
    Config(sm=0,   bytes=4, head_dim=256,           BLOCK_M=16,  BLOCK_N=16,  warps=8, stages=2),
    # Small enough for any GPU, whatever its shared memory.
    Config(sm=0,   bytes=4, head_dim=256,           BLOCK_M=16,  BLOCK_N=16,  warps=8, stages=1),
)  # fmt: skip

# The kernel for dq.
QUERY_CONFIGS = (
    Config(sm=90,  bytes=2, head_dim=64,  BLOCK_M=128, BLOCK_N=128, warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=64,  BLOCK_M=128, BLOCK_N=64,  warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=3),
    Config(sm=100, bytes=2, head_dim=96,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=2),
    Config(sm=90,  bytes=2, head_dim=128, BLOCK_M=128, BLOCK_N=64,  warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=128, BLOCK_M=128, BLOCK_N=64,  warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=128, BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=2),
    Config(sm=90,  bytes=2, head_dim=256, BLOCK_M=128, BLOCK_N=32,  warps=8, stages=2),
    Config(sm=0,   bytes=2, head_dim=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=2),
    Config(sm=0,   bytes=2, head_dim=128, BLOCK_M=64,  BLOCK_N=32,  warps=4, stages=2),
    Config(sm=0,   bytes=2, head_dim=256, BLOCK_M=64,  BLOCK_N=32,  warps=8, stages=1),
    Config(sm=0,   bytes=4, head_dim=64,  BLOCK_M=32,  BLOCK_N=32,  warps=4, stages=2),
    Config(sm=0,   bytes=4, head_dim=128, BLOCK_M=32,  BLOCK_N=32,  warps=8, stages=2),
    Config(sm=0,   bytes=4, head_dim=256, BLOCK_M=32,  BLOCK_N=16,  warps=8, stages=1),
    Config(sm=0,   bytes=4, head_dim=256, BLOCK_M=16,  BLOCK_N=16,  warps=8, stages=1),
)  # fmt: skip

# The kernel for dk and dv. On Hopper a warpgroup owns 64 keys: with 8 warps and fewer than 128 keys both
# warpgroups would compute the same scores.
KEY_CONFIGS = (
    Config(sm=90,  bytes=2, head_dim=64,  BLOCK_M=64,  BLOCK_N=128, warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=64,  BLOCK_M=32,  BLOCK_N=128, warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=64,  BLOCK_M=64,  BLOCK_N=64,  warps=4, stages=2),
    Config(sm=90,  bytes=2, head_dim=128, BLOCK_M=32,  BLOCK_N=128, warps=8, stages=2),
    Config(sm=90,  bytes=2, head_dim=128, BLOCK_M=32,  BLOCK_N=128, warps=8, stages=3),
    Config(sm=90,  bytes=2, head_dim=128, BLOCK_M=64,  BLOCK_N=128, warps=8, stages=2, apart=True),
    Config(sm=90,  bytes=2, head_dim=256, BLOCK_M=32,  BLOCK_N=128, warps=8, stages=2, apart=True),
    Config(sm=0,   bytes=2, head_dim=64,  BLOCK_M=32,  BLOCK_N=64,  warps=4, stages=2),
    Config(sm=0,   bytes=2, head_dim=128, BLOCK_M=32,  BLOCK_N=64,  warps=8, stages=2),
    Config(sm=0,   bytes=2, head_dim=256, BLOCK_M=32,  BLOCK_N=64,  warps=8, stages=1, apart=True),
    Config(sm=0,   bytes=4, head_dim=64,  BLOCK_M=32,  BLOCK_N=32,  warps=8, stages=2),
    Config(sm=0,   bytes=4, head_dim=128, BLOCK_M=16,  BLOCK_N=32,  warps=8, stages=2),
    Config(sm=0,   bytes=4, head_dim=256, BLOCK_M=16,  BLOCK_N=32,  warps=8, stages=1),
    Config(sm=0,   bytes=4, head_dim=256, BLOCK_M=16,  BLOCK_N=16,  warps=8, stages=1),
)  # fmt: skip


def forward_shared_memory(config: Config, itemsize: int, head_dim: int) -> int:
    """Bytes of shared memory of the forward kernel: the queries once, keys and values per stage."""
    padded: int = triton.next_power_of_2(head_dim)
    return itemsize * padded * (config.BLOCK_M + 2 * config.BLOCK_N * config.stages)


def query_shared_memory(config: Config, itemsize: int, head_dim: int) -> int:
    """Bytes of shared memory of the dq kernel: q and do once, keys and values per stage."""
    padded: int = triton.next_power_of_2(head_dim)
    return 2 * itemsize * padded * (config.BLOCK_M + config.BLOCK_N * config.stages)


def key_shared_memory(config: Config, itemsize: int, head_dim: int) -> int:
    """Bytes of shared memory of the dk, dv kernel: k and v once, q and do per stage."""
    padded: int = triton.next_power_of_2(head_dim)
    return 2 * itemsize * padded * (config.BLOCK_N + config.BLOCK_M * config.stages)


def is_legal(
    config: Config, architecture: Architecture, itemsize: int, head_dim: int, shared_memory: int
) -> bool:
    """Whether a kernel that needs these bytes of shared memory is correct with this config and fits."""
    return (
        config.sm <= architecture.capability
        and config.bytes >= itemsize
        and config.head_dim >= head_dim
        and shared_memory <= architecture.shared_memory
    )


@functools.cache
def forward_candidates(
    architecture: Architecture, itemsize: int, head_dim: int, rows: int
) -> tuple[Config, ...]:
    """The legal configs whose tile is not too tall for so many rows, the first guess first."""
    short_enough = [config for config in FORWARD_CONFIGS if config.rows >= rows]
    return _candidates(short_enough, forward_shared_memory, architecture, itemsize, head_dim)


@functools.cache
def query_candidates(architecture: Architecture, itemsize: int, head_dim: int) -> tuple[Config, ...]:
    """The legal configs for dq, the first guess first."""
    return _candidates(QUERY_CONFIGS, query_shared_memory, architecture, itemsize, head_dim)


@functools.cache
def key_candidates(architecture: Architecture, itemsize: int, head_dim: int) -> tuple[Config, ...]:
    """The legal configs for dk and dv, the first guess first."""
    return _candidates(KEY_CONFIGS, key_shared_memory, architecture, itemsize, head_dim)


def _candidates(
    configs: Sequence[Config],
    shared_memory: Callable[[Config, int, int], int],
    architecture: Architecture,
    itemsize: int,
    head_dim: int,
) -> tuple[Config, ...]:
    """The first legal config and those made for the same problems: few enough to time each."""
    first, *others = (
        config
        for config in configs
        if is_legal(config, architecture, itemsize, head_dim, shared_memory(config, itemsize, head_dim))
    )
    return (first, *(config for config in others if _kind(config) == _kind(first)))


def _kind(config: Config) -> tuple[int, int, int, bool]:
    return config.sm, config.bytes, config.head_dim, config.rows < inf
