"""Tiles of `matmul`: a table of them, which a problem allows, and in what order they are tried."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from math import inf

import triton
from fuseproof.kernels.triton.launch import Architecture


@dataclass(frozen=True, kw_only=True)
class Config:
    """A tile of c, how it is computed, and for which problems.

    products:   what is multiplied: "float8", "half" (float16 or bfloat16), "tf32", or "ieee" (float32 without
                tensor cores). "float8_fast" sums in the tensor cores' short accumulator.
    sm:         the least compute capability × 10.
    m:          the largest M it is meant for.
    aligned:    operands must be readable 16 bytes at a time: element by element, a large tile has more
                pointers than registers.
    tma:        of the persistent kernel, which reads through tensor descriptors.
    specialize: 4 warps only load, two groups of 4 multiply; `warps` counts one group.
    room:       how much epilogue fits into the registers without a spill; see Problem.weight.
    splits:     number of parts of K, whose products a second launch adds.
    """

    products: str
    sm: int
    m: float
    aligned: bool
    tma: bool
    specialize: bool
    room: int
    BLOCK_M: int
    BLOCK_N: int
    BLOCK_K: int
    warps: int
    stages: int
    splits: int = 1


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What the best config depends on.

    products, aligned, tma: as in Config.
    bytes, c_bytes: of an element of the operands and of the result.
    layouts: of a and b; n as written, t transposed, x neither contiguous.
    beside:  tensors of c's size (residual, saved pre-activation) that the epilogue touches beside c.
    bias:    whether there is one.
    """

    products: str
    m: int
    n: int
    k: int
    bytes: int
    c_bytes: int
    aligned: bool
    tma: bool
    layouts: str
    beside: int
    activation: str | None
    bias: bool

    @property
    def weight(self) -> int:
        """Registers the epilogue needs, roughly: tensors beside c, and one more for erf's polynomials."""
        return self.beside + (self.activation == "gelu")

    def bucketed(self) -> Problem:
        """With sizes rounded up to three binary digits: one choice serves all sizes in between."""
        return replace(self, m=_three_digits(self.m), n=_three_digits(self.n), k=_three_digits(self.k))


def _row(
    products: str,
    sm: int,
    m: float,
    access: str,
    room: int,
    block: tuple[int, int, int],
    warps: int,
    stages: int,
) -> Config:
    """`access`: any strides, "aligned", "tma", or "tma+ws" with warp specialization."""
    block_m, block_n, block_k = block
    return Config(
        products=products,
        sm=sm,
        m=m,
        aligned=access == "aligned",
        tma=access.startswith("tma"),
        specialize=access == "tma+ws",
        room=room,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        warps=warps,
        stages=stages,
    )


# Not yet measured on a GPU: chosen ahead of time for tensor-core instructions and no spill in any epilogue.
# fmt: off
CONFIGS = (
    #     products      sm  m    access     room (M, N, K)          warps stages
    _row("half",        90, inf, "tma",     1, (128, 256, 64),       8, 4),
    _row("half",        90, inf, "tma+ws",  0, (128, 256, 64),       4, 3),
    _row("half",        90, inf, "tma",     2, (128, 256, 64),       8, 3),
    _row("half",        90, inf, "tma",     3, (128, 128, 64),       8, 4),
    _row("half",        90, inf, "tma+ws",  3, (128, 128, 64),       4, 4),
    _row("half",        90, inf, "tma",     3, (64,  128, 64),       4, 4),
    _row("half",        80, 16,  "aligned", 3, (16,  64,  128),      4, 4),
    _row("half",        80, 16,  "aligned", 3, (16,  32,  256),      4, 3),
    _row("half",        80, inf, "aligned", 0, (128, 256, 64),       8, 3),
    _row("half",        80, inf, "aligned", 3, (128, 128, 64),       8, 4),
    _row("half",        80, inf, "aligned", 3, (128, 128, 32),       8, 4),
    _row("half",        80, inf, "aligned", 3, (64,  64,  64),       4, 4),
    _row("half",        80, 16,  "any",     3, (16,  64,  32),       4, 3),
    _row("half",        80, inf, "any",     1, (64,  64,  32),       4, 3),
    _row("half",        80, inf, "any",     3, (64,  32,  32),       4, 3),
    _row("float8_fast", 90, inf, "tma",     0, (128, 256, 128),      8, 3),
    _row("float8_fast", 90, inf, "tma+ws",  0, (128, 256, 128),      4, 3),
    _row("float8",      90, inf, "tma",     3, (128, 128, 128),      8, 4),
    _row("float8",      90, inf, "tma+ws",  3, (128, 128, 128),      4, 4),
    _row("float8",      90, inf, "tma",     3, (64,  128, 128),      4, 4),
    _row("float8",      89, 16,  "aligned", 3, (16,  64,  256),      4, 4),
    _row("float8",      89, inf, "aligned", 3, (64,  128, 128),      4, 3),
    _row("float8",      89, inf, "any",     3, (64,  32,  64),       4, 3),
    _row("tf32",        90, inf, "tma",     0, (128, 256, 32),       8, 3),
    _row("tf32",        90, inf, "tma",     3, (128, 128, 32),       8, 4),
    _row("tf32",        90, inf, "tma+ws",  3, (128, 128, 32),       4, 4),
    _row("tf32",        90, inf, "tma",     3, (64,  128, 32),       4, 3),
    _row("tf32",        80, 16,  "aligned", 3, (16,  64,  64),       4, 4),
    _row("tf32",        80, inf, "aligned", 3, (128, 128, 32),       8, 3),
    _row("tf32",        80, inf, "aligned", 3, (64,  64,  32),       4, 4),
    _row("tf32",        80, 16,  "any",     3, (16,  64,  32),       4, 3),
    _row("tf32",        80, inf, "any",     2, (64,  64,  32),       4, 3),
    _row("tf32",        80, inf, "any",     3, (64,  32,  32),       4, 3),
    _row("ieee",        80, 16,  "any",     2, (16,  64,  32),       4, 3),
    _row("ieee",        80, 16,  "any",     3, (16,  32,  32),       4, 3),
    _row("ieee",        80, inf, "aligned", 3, (128, 64,  16),       8, 3),
    _row("ieee",        80, inf, "any",     3, (64,  64,  16),       4, 3),
)
# fmt: on

# Rows of tiles per group: the group's operands, 8 tiles of a and one of b at a time, stay well inside any L2
# cache.
GROUP_M = 8

# How many candidates are tried at most, and how many of one tile shape.
_TRIES = 8
_TRIES_OF_A_TILE = 3


def parts(config: Config) -> int:
    """In how many pieces the persistent kernel finishes a tile; triton 3.6.0 cannot cut a specialized one."""
    return 1 if config.specialize else 2


def programs(config: Config) -> int:
    """Persistent programs for each processor: two small tiles fit beside each other, in 4 warps each."""
    return 2 if config.BLOCK_M * config.BLOCK_N <= 64 * 128 else 1


def shared_memory(config: Config, problem: Problem) -> int:
    """Bytes of shared memory needed, at most: operand tiles of every stage, and what the epilogue stores.

    The kernel that reads through pointers reuses the operands' memory for its epilogue, and so does the
    persistent one where warps are not specialized and c is stored through pointers, as parts of a split are.
    """
    operands = problem.bytes * (config.BLOCK_M + config.BLOCK_N) * config.BLOCK_K * config.stages
    tile = config.BLOCK_M * config.BLOCK_N
    if not config.tma or (config.splits > 1 and not config.specialize):
        return operands
    barriers = 1024
    if config.specialize:
        return operands + barriers + tile * (4 if config.splits > 1 else problem.c_bytes)
    return operands + barriers + tile // parts(config) * problem.c_bytes * (2 if problem.beside else 1)


def is_legal(config: Config, architecture: Architecture, problem: Problem) -> bool:
    """Whether the config is made for such operands and fits the architecture."""
    weight = 0 if config.splits > 1 else problem.weight  # the second launch has the epilogue then
    return (
        config.products in _MULTIPLIED_BY[problem.products]
        and config.sm <= architecture.capability
        and config.m >= problem.m
        and config.aligned <= problem.aligned
        and config.tma <= problem.tma
        and config.room >= weight
        and (not config.specialize or _can_specialize(architecture, problem))
        and (architecture.capability < 100 or _fits_blackwell(config, problem, weight))
        and shared_memory(config, problem) <= architecture.shared_memory
    )


_MULTIPLIED_BY = {
    "half": ("half",),
    "float8": ("float8",),
    "float8_fast": ("float8_fast", "float8"),
    "tf32": ("tf32",),
    "ieee": ("ieee",),
}


def _fits_blackwell(config: Config, problem: Problem, weight: int) -> bool:
    """Whether a large tile fits, whose accumulators come out of tensor memory all at once.

    Seen with triton 3.7.1, ahead of time: 8 to 48 bytes spilled with a full epilogue or the parts of a split,
    and up to 304 KiB of shared memory for TF32 operands that have to be turned.
    """
    if config.BLOCK_M * config.BLOCK_N <= 128 * 128:
        return True
    turned = problem.bytes == 4 and problem.layouts != "nt"
    return config.splits == 1 and weight <= 1 and not turned


def _can_specialize(architecture: Architecture, problem: Problem) -> bool:
    """Whether specialized warps compile without faults, as seen with triton 3.6.0 and 3.7.1 ahead of time.

    On Hopper the tensor cores take 1 and 4 byte elements only with K innermost, and specialized warps cannot
    turn them. On Blackwell the specialized loop spills with a full epilogue (256 bytes at 128 × 128, 1680 at
    128 × 256), the plain one at most 16 bytes.
    """
    return 90 <= architecture.capability < 100 and (problem.bytes == 2 or problem.layouts == "nt")


@functools.cache
def candidates(architecture: Architecture, problem: Problem) -> tuple[Config, ...]:
    """The legal configs, the best guess first, 8 at most and 3 of a tile shape."""
    legal = [
        config
        for row in CONFIGS
        for config in (replace(row, splits=splits) for splits in _splits(row, architecture, problem))
        if is_legal(config, architecture, problem)
    ]
    wide = [config for config in legal if config.aligned or config.tma]
    taken: list[Config] = []
    for config in sorted(wide or legal, key=lambda config: _cost(config, architecture, problem)):
        alike = [other for other in taken if _tile(other) == _tile(config)]
        # Of two that differ in stages alone, only that with more.
        spare = any(replace(other, stages=0, room=0) == replace(config, stages=0, room=0) for other in alike)
        if len(alike) < _TRIES_OF_A_TILE and not spare:
            taken.append(config)
    return tuple(taken[:_TRIES])


def _tile(config: Config) -> tuple[int, int]:
    return config.BLOCK_M, config.BLOCK_N


def _splits(row: Config, architecture: Architecture, problem: Problem) -> list[int]:
    """1, and the numbers of parts that fill the processors, with at least 4 blocks of K in each part.

    Programs with few rows share a processor, so more of them than processors may be better.
    """
    tiles = triton.cdiv(problem.m, row.BLOCK_M) * triton.cdiv(problem.n, row.BLOCK_N)
    most = max(1, triton.cdiv(problem.k, row.BLOCK_K) // 4)
    waves = (1, 2, 4) if row.BLOCK_M == 16 else (1,)
    return sorted({1} | {max(1, min(wave * architecture.processors // tiles, most)) for wave in waves})


# Costs are in multiply-adds of a processor's tensor cores. Both weights only order the configs for the tuner,
# and are guesses: an element that comes from the L2 cache costs as much as 128 of them, a second launch as
# much as 2 µs of an H100's (989 TFLOP/s, its data sheet, over 132 processors).
_ELEMENT = 128
_LAUNCH = 2e-6 * 989e12 / 2 / 132


def _cost(config: Config, architecture: Architecture, problem: Problem) -> float:
    """The work of the busiest processor, padding included."""
    tiles = triton.cdiv(problem.m, config.BLOCK_M) * triton.cdiv(problem.n, config.BLOCK_N)
    depth = triton.cdiv(triton.cdiv(problem.k, config.BLOCK_K), config.splits) * config.BLOCK_K
    tile = depth * (config.BLOCK_M * config.BLOCK_N + _ELEMENT * (config.BLOCK_M + config.BLOCK_N))
    cost = triton.cdiv(tiles * config.splits, architecture.processors) * tile
    if config.splits == 1:
        return float(cost)
    # The parts are float32, written once and read once.
    moved = 2 * 4 / problem.bytes * config.splits * problem.m * problem.n / architecture.processors
    return float(cost + _LAUNCH + _ELEMENT * moved)


def _three_digits(size: int) -> int:
    unit = 1 << max(0, size.bit_length() - 3)
    return int(triton.cdiv(size, unit)) * unit
