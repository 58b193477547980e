"""An XLA module as data: computations, instructions, what was fused, and the schedule."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

# Instructions that name or regroup buffers; no device runs code for them.
FREE_OPCODES = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
     "replica-id")
)  # fmt: skip
COLLECTIVES = (
    "all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute", "reduce-scatter",
    "ragged-all-to-all",
)  # fmt: skip


_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0, "c64": 64, "c128": 128}  # others end in their bits
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_SCOPED = re.compile(r'"used_scoped_memory_configs":\[(.*?)\]')
_SCOPED_SIZE = re.compile(r'"memory_space":"(\d+)","offset":"\d+","size":"(\d+)"')
_REFERENCE = re.compile(r"%?([\w.\-]+)")
# Attributes that name computations whose instructions run as separate kernels, by opcode; a computation
# named by any other (a fusion's, a reduction's) runs inside the instruction that names it.
CONTROL = {
    "while": ("condition", "body"),
    "conditional": ("branch_computations", "true_computation", "false_computation"),
    "call": ("to_apply",),
    "async-start": ("calls",),
}


@dataclass(frozen=True, kw_only=True)
class Array:
    """One array of a shape; `memory_space` is n of `S(n)` in its layout: on a TPU 0 HBM, 1 VMEM, 2 SMEM."""

    dtype: str
    dimensions: tuple[int, ...]
    layout: str
    memory_space: int

    @property
    def bytes(self) -> int:
        """Size without padding; tiles of a layout may need more."""
        digits = re.match(r"[a-z]+(\d+)", self.dtype)
        bits = _BITS.get(self.dtype, int(digits[1]) if digits else 0)
        return -(-bits * math.prod(self.dimensions) // 8)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction. `arrays`: the arrays of its result in order, one unless it is a tuple."""

    name: str
    opcode: str
    shape: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: Mapping[str, str]
    is_root: bool

    @property
    def kind(self) -> str | None:
        """`kLoop`, `kInput`, `kOutput` or `kCustom` of a fusion."""
        return self.attributes.get("kind")

    @property
    def custom_call_target(self) -> str | None:
        target = self.attributes.get("custom_call_target")
        return None if target is None else target.strip('"')

    @property
    def op_name(self) -> str | None:
        """The operation of the source program it comes from, such as `jit(attention)/dot_general`."""
        match = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes.get("metadata", ""))
        return match[1] if match else None

    @property
    def estimated_cycles(self) -> int | None:
        """The compiler's estimate where its backend config holds one (TPU fusions); never a measurement."""
        match = _CYCLES.search(self.attributes.get("backend_config", ""))
        return int(match[1]) if match else None

    def scoped_bytes(self, memory_space: int) -> int:
        """Memory the instruction's code takes for itself while it runs (TPU: windows, scratch)."""
        listed = _SCOPED.search(self.attributes.get("backend_config", ""))
        sizes = _SCOPED_SIZE.findall(listed[1]) if listed else []
        return sum(int(size) for space, size in sizes if int(space) == memory_space)

    def computations(self, *attributes: str) -> tuple[str, ...]:
        """The names of computations these attributes hold."""
        found = (self.attributes[key] for key in attributes if key in self.attributes)
        return tuple(name for text in found for name in _REFERENCE.findall(text))


@dataclass(frozen=True, kw_only=True)
class Computation:
    name: str
    is_entry: bool
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module. `is_scheduled`: the instructions of each computation stand in the order they run."""

    name: str
    is_scheduled: bool
    computations: Mapping[str, Computation]

    @cached_property
    def entry(self) -> Computation:
        return next(c for c in self.computations.values() if c.is_entry)

    @cached_property
    def launched(self) -> tuple[Instruction, ...]:
        """Instructions that run as separate kernels, copies or collectives, in order.

        Of the entry computation and of the loops, branches and calls in it (their bodies once), without the
        loops themselves and without `FREE_OPCODES`.
        """
        return tuple(self._launched(self.entry))

    def _launched(self, computation: Computation) -> Iterator[Instruction]:
        for instruction in computation.instructions:
            inner = controlled_by(instruction)
            for name in inner:
                yield from self._launched(self.computations[name])
            if not inner and instruction.opcode not in FREE_OPCODES:
                yield instruction

    @property
    def fusions(self) -> tuple[Instruction, ...]:
        """The fusions that run; those nested in another fusion are among its members."""
        return tuple(i for i in self.launched if i.opcode == "fusion")

    @property
    def custom_calls(self) -> tuple[Instruction, ...]:
        return tuple(i for i in self.launched if i.opcode == "custom-call")

    @property
    def collectives(self) -> Counter[str]:
        """Collectives by kind, each channel once: an asynchronous one is in a pair of instructions, and on a
        TPU in every fusion that computes while it goes on."""
        found: dict[str, str] = {}
        for outer in self.launched:
            for instruction in self.members(outer) if outer.opcode == "fusion" else (outer,):
                kind = instruction.opcode.removesuffix("-start")
                if kind in COLLECTIVES:
                    # The TPU compiler's name for an all-reduce of which each chip keeps its part.
                    if any("reduce-scatter" in name for name in outer.computations("calls")):
                        kind = "reduce-scatter"
                    found[instruction.attributes.get("channel_id", instruction.name)] = kind
        return Counter(found.values())

    @property
    def opcode_counts(self) -> Counter[str]:
        """Instructions of the whole module by opcode, fused ones too."""
        return Counter(i.opcode for c in self.computations.values() for i in c.instructions)

    def members(self, fusion: Instruction) -> tuple[Instruction, ...]:
        """What a fusion computes: the instructions fused into it, without `FREE_OPCODES`."""
        found: list[Instruction] = []
        for name in fusion.computations("calls"):
            for instruction in self.computations[name].instructions:
                if instruction.opcode == "fusion":
                    found += self.members(instruction)
                elif instruction.opcode not in FREE_OPCODES:
                    found.append(instruction)
        return tuple(found)


def controlled_by(instruction: Instruction) -> tuple[str, ...]:
    """The computations that a loop, branch or call runs: their instructions are separate kernels."""
    return instruction.computations(*CONTROL.get(instruction.opcode, ()))
