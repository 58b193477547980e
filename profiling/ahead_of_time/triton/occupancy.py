"""Theoretical occupancy: how many warps of a kernel an NVIDIA multiprocessor can hold, and what limits them.

Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; the granularity of
allocations (registers in units of 256 per warp, warps spread over 4 partitions) is that of the occupancy
calculator in the CUDA toolkit (`cuda_occupancy.h`). High occupancy is not a goal: a kernel that hides latency
by asynchronous copies may be fastest with one block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

WARP = 32
_PARTITIONS = 4
_REGISTER_UNIT = 256  # registers, per warp
_SHARED_UNIT = 128  # bytes, per block
_RESERVED_SHARED = 1024  # bytes per block that the driver reserves, from capability 8.0 on


@dataclass(frozen=True, kw_only=True)
class Multiprocessor:
    """The resources of one multiprocessor. tensor_memory: columns, 0 before Blackwell."""

    warps: int = 64
    blocks: int = 32
    registers: int = 65536
    shared_bytes: int
    tensor_memory: int = 0


MULTIPROCESSORS: Mapping[int, Multiprocessor] = {
    80: Multiprocessor(shared_bytes=164 * 1024),
    90: Multiprocessor(shared_bytes=228 * 1024),
    # Tensor memory: 512 columns of 128 lanes (PTX ISA, "Tensor Memory Addressing").
    100: Multiprocessor(shared_bytes=228 * 1024, tensor_memory=512),
}


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """Blocks and warps per multiprocessor; `limiters` are the resources too small for one more block."""

    blocks: int
    warps: int
    share: float  # of the warps that the multiprocessor could hold
    limiters: tuple[str, ...]


def occupancy(
    capability: int, *, warps: int, registers: int, shared_bytes: int, tensor_memory: int = 0
) -> Occupancy:
    """The occupancy of a kernel with these warps and shared bytes per block and registers per thread.

    Raises KeyError for a capability that is not in MULTIPROCESSORS.
    """
    processor = MULTIPROCESSORS[capability]
    registers_per_warp = _round_up(registers * WARP, _REGISTER_UNIT)
    warps_by_registers = processor.registers // _PARTITIONS // registers_per_warp * _PARTITIONS
    shared_per_block = _round_up(shared_bytes + _RESERVED_SHARED, _SHARED_UNIT)
    fitting = {
        "registers": warps_by_registers // warps,
        "shared memory": processor.shared_bytes // shared_per_block,
        "warps": processor.warps // warps,
        "blocks": processor.blocks,
    }
    if tensor_memory:
        fitting["tensor memory"] = processor.tensor_memory // tensor_memory
    blocks = min(fitting.values())
    return Occupancy(
        blocks=blocks,
        warps=blocks * warps,
        share=blocks * warps / processor.warps,
        limiters=tuple(name for name, count in fitting.items() if count == blocks),
    )


def _round_up(value: int, unit: int) -> int:
    return math.ceil(value / unit) * unit
