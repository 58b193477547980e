"""Blocks of the elementwise part of SwiGLU, the best guess first. Not yet measured on a GPU."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Elements that a program computes; both passes use the same."""

    BLOCK: int
    warps: int


# 8 and 16 elements per thread: one and two loads of 16 bytes, of 16-bit elements, from each tensor.
CONFIGS = (
    Config(BLOCK=1024, warps=4),
    Config(BLOCK=2048, warps=4),
    Config(BLOCK=4096, warps=8),
)
