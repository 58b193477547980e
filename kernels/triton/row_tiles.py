"""Tiles of kernels over rows: what a config says, which are legal, and which are tried.

A row that fits a block is read at once; a longer one in a loop over column blocks, one row at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from fuseproof.kernels.triton.launch import Architecture


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Sizes for rows of up to `columns` elements, of which `stages` blocks are in flight; 1 for none."""

    columns: float
    BLOCK_M: int
    BLOCK_N: int
    warps: int
    stages: int


@dataclass(frozen=True, kw_only=True)
class Config(Tile):
    """Of a kernel where BLOCK_N < columns means a loop over column blocks.

    programs: this many per processor, which take tiles in turn while the next ones are loading
              (`stages` tiles in shared memory); 0 for one program per tile.
    """

    programs: int


Tiles = TypeVar("Tiles", bound=Tile)


def shared_memory(config: Tile, element_bytes: int) -> int:
    """Bytes of shared memory needed at most: loads in flight, and the reductions.

    element_bytes: of an element of all that is loaded together.
    """
    return (config.stages - 1) * config.BLOCK_M * config.BLOCK_N * element_bytes + 512 * config.BLOCK_M


def is_legal(
    config: Config, architecture: Architecture, columns: int, row_bytes: int, parameter_bytes: int = 0
) -> bool:
    """Whether a kernel is correct with this config and fits; it loops over single rows only.

    A thread's loads in flight, 4 bytes in a register, may take half of all registers.

    row_bytes: of an element of all that is read of a row together; parameter_bytes: of what the loop over
    column blocks reads with every block, such as weight and bias.
    """
    threads = 32 * config.warps
    in_flight = config.BLOCK_M * config.BLOCK_N * row_bytes // threads
    element_bytes = row_bytes + (parameter_bytes if columns > config.BLOCK_N else 0)
    return (
        config.columns >= columns
        and (columns <= config.BLOCK_N or (config.BLOCK_M == 1 and config.programs > 0))
        and in_flight // 4 <= min(255, 65536 // threads) // 2
        and shared_memory(config, element_bytes) <= architecture.shared_memory
    )


def least_sufficient(legal: Iterable[Tiles]) -> tuple[Tiles, ...]:
    """Of legal configs, those of the least `columns`, in their order: the best guess first."""
    configs = list(legal)
    return tuple(config for config in configs if config.columns == configs[0].columns)
