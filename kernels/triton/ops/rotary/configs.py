"""Tiles of the rotary embedding, which are legal, and what is tried first. Not yet measured on a GPU."""

import functools
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Tile sizes for halves of a head of up to `half` elements, the same in both passes.

    BLOCK_S: positions of a tile, which has whole heads. heads: that a program takes one after the other with
    the same rows of the tables.
    """

    half: int
    BLOCK_S: int
    heads: int
    warps: int


# 8 elements of each half per thread: two loads of 16 bytes in flight, of 16-bit elements.
CONFIGS = (
    Config(half=32,  BLOCK_S=32, heads=4, warps=4),
    Config(half=32,  BLOCK_S=32, heads=1, warps=4),
    Config(half=64,  BLOCK_S=16, heads=4, warps=4),
    Config(half=64,  BLOCK_S=16, heads=1, warps=4),
    Config(half=64,  BLOCK_S=32, heads=8, warps=4),
    Config(half=128, BLOCK_S=8,  heads=4, warps=4),
    Config(half=128, BLOCK_S=8,  heads=1, warps=4),
    Config(half=256, BLOCK_S=4,  heads=4, warps=4),
    Config(half=256, BLOCK_S=4,  heads=1, warps=4),
)  # fmt: skip

LONGEST_HALF = max(config.half for config in CONFIGS)


@functools.cache
def candidates(half: int) -> tuple[Config, ...]:
    """The configs of the least sufficient `half`, the best guess first; none needs shared memory."""
    sufficient = [config for config in CONFIGS if config.half >= half]
    return tuple(config for config in sufficient if config.half == sufficient[0].half)
