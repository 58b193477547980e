"""What a program does, operation by operation, and the bytes that moves: the same record for every compiler.

Bytes are computed from the program, never measured: an operation reads each of its inputs once, whole, and
writes its results once. An input that occurs twice is read once. Views (`VIEWS`, and PyTorch's) move nothing,
and reading a broadcast reads its source. Constant scalars are part of the code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fuseproof.fusion.programs import hlo
from fuseproof.fusion.programs.hlo import Instruction, Module

# No eager framework writes these to memory: the next operation reads their source.
VIEWS = frozenset(("bitcast", "broadcast", "reshape", "bitcast-convert", "optimization-barrier"))
_LIBRARY = frozenset(("custom-call", "dot", "convolution", "fft", "cholesky", "triangular-solve"))
_LOOPS = ("while", "conditional")
# Annotations in the form of calls; partitioning takes them away.
_ANNOTATIONS = ("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "annotate_device_placement")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of a program before compilation, or one that the compiled program launches.

    kind:       `fusion` (code the compiler made), `library` (a call of cuBLAS, oneDNN, ATen, …) or
                `operation` (one operation by itself: a copy, an operation before fusion).
    members:    the operations fused into it, as far as the compiler's output names them.
    bytes:      that it reads and writes, computed; None if unknown.
    loop_nests: of a C++ kernel, the loop nests that run one after the other in it: passes over its data.
    """

    name: str
    kind: str
    members: tuple[str, ...] = ()
    bytes: int | None
    loop_nests: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "members": list(self.members)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Operation:
        return cls(**{**document, "members": tuple(document["members"])})


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The program of one compiled implementation, as a framework's module reads it.

    before, after: its operations, None if unknown. artifacts: names of the files kept, by what they are.
    unknown: for each name that is None the reason.
    """

    before: tuple[Operation, ...] | None = None
    after: tuple[Operation, ...] | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


def total_bytes(operations: Iterable[Operation]) -> int | None:
    """Bytes of all operations; None if one is unknown."""
    total = 0
    for operation in operations:
        if operation.bytes is None:
            return None
        total += operation.bytes
    return total


def counted(members: Iterable[str]) -> str:
    """`multiply ×2, add`: in order of first appearance."""
    return ", ".join(name if n == 1 else f"{name} ×{n}" for name, n in Counter(members).items())


def operations_of(module: Module) -> tuple[Operation, ...]:
    """What a module launches, in order, without views: of optimised HLO its fusions, library calls, copies;
    of HLO before optimisation every single operation.

    A loop's or branch's instructions come once and without bytes: how often they run is not in the text.
    """
    places = {
        id(instruction): {i.name: i for i in computation.instructions}
        for computation in module.computations.values()
        for instruction in computation.instructions
    }
    looped = {
        id(inner)
        for computation in module.computations.values()
        for instruction in computation.instructions
        if instruction.opcode in _LOOPS
        for inner in _run_by(module, instruction)
    }
    found = []
    for instruction in module.launched:
        if instruction.opcode in VIEWS or instruction.opcode.endswith("-done") or _is_annotation(instruction):
            continue
        members = (m.opcode for m in module.members(instruction) if m.opcode not in VIEWS)
        known = id(instruction) not in looped
        found.append(
            Operation(
                name=instruction.name,
                kind=_kind(instruction),
                members=tuple(members),
                bytes=_bytes(instruction, places[id(instruction)]) if known else None,
            )
        )
    return tuple(found)


def has_loop(module: Module) -> bool:
    """Whether it has a loop or branch; how often that runs, and so its bytes, are unknown."""
    return any(module.opcode_counts[opcode] for opcode in _LOOPS)


def _run_by(module: Module, instruction: Instruction) -> Iterator[Instruction]:
    """All instructions in the computations that a loop, branch or call runs, and in those that they run."""
    for computation in hlo.controlled_by(instruction):
        for inner in module.computations[computation].instructions:
            yield inner
            yield from _run_by(module, inner)


def _kind(instruction: Instruction) -> str:
    if instruction.opcode == "fusion":
        return "fusion"
    return "library" if instruction.opcode in _LIBRARY else "operation"


def _is_annotation(instruction: Instruction) -> bool:
    return instruction.custom_call_target in _ANNOTATIONS


def _bytes(instruction: Instruction, beside: Mapping[str, Instruction]) -> int:
    """beside: all instructions of its computation by name."""
    read = {source.name: source for name in instruction.operands if (source := _source(name, beside))}
    arrays = list(instruction.arrays)
    # cuBLAS and cuDNN get a workspace as their last result; it holds nothing the program reads.
    if (instruction.custom_call_target or "").startswith(("__cublas", "__cudnn")) and len(arrays) > 1:
        arrays = [a for a in arrays if a.dtype not in ("s8", "u8")] or arrays
    written = sum(array.bytes for array in arrays)
    return written + sum(array.bytes for source in read.values() for array in source.arrays)


def _source(name: str, beside: Mapping[str, Instruction]) -> Instruction | None:
    """The instruction that is read under this name, behind any views; None for a scalar constant."""
    instruction = beside[name]
    while instruction.opcode in VIEWS or _is_annotation(instruction):
        instruction = beside[instruction.operands[0]]
    scalar = all(not array.dimensions for array in instruction.arrays)
    return None if instruction.opcode == "constant" and scalar else instruction
