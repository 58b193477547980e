"""XLA's text dumps of a program's memory: where each value lies, and from which instruction to which.

XLA writes `*buffer-assignment.txt` (places) and `*live-range.txt` (lifetimes) with `xla_dump_hlo_as_text`.
Together they give the memory at each instruction of the schedule. The compiler fixed it; nothing is measured.

The peak here equals the compiler's `peak_memory_in_bytes` (checked on 42 modules of three TPUs, libtpu
0.0.42): arguments and results, which last for the whole program, plus the fullest moment of the fullest
memory space. Bytes that two values share count once; the few bytes of tuples' address tables do not count.
In loops and asynchronous collectives, which write in place, the compiler counts some shared bytes twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from fuseproof.errors import UserError

# Colours of XLA's TPU compiler.
HBM, VMEM, SMEM = 0, 1, 2
SPACES = {HBM: "HBM", VMEM: "VMEM", SMEM: "SMEM"}

_ALLOCATION = re.compile(r"allocation (\d+): size (\d+)(.*):")
_COLOUR = re.compile(r"\bcolor (\d+)")
_VALUE = re.compile(r" value: <\d+ (\S+?)(\{[\d,]*\})?(?: \(phi\))? @\d+> \(size=(\d+),offset=(\d+)\): (.*)")
_STEP = re.compile(r"    (\d+):(\S+)")
_RANGE = re.compile(r"    (\S+?)(\{[\d,]*\}):(\d+)-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """One value in the memory that the program reserves for temporaries, live in steps `first` to `last`.

    instruction, index: the value, such as `fusion.10` and `{1}`.
    offset, bytes:      its place in the allocation.
    """

    instruction: str
    index: str
    allocation: int
    space: int
    offset: int
    bytes: int
    first: int
    last: int
    is_address_table: bool


@dataclass(frozen=True, kw_only=True)
class MemorySchedule:
    """The memory of a program at each step of its schedule.

    steps:          names of the instructions in order; those of loops and branches follow in their place.
    resident_bytes: arguments and results.
    allocations:    (space, bytes) of the reserved memory, by number.
    """

    steps: tuple[str, ...]
    resident_bytes: int
    allocations: dict[int, tuple[int, int]]
    buffers: tuple[Buffer, ...]

    @cached_property
    def _live(self) -> dict[int, list[int]]:
        return {number: list(self._occupied(number)) for number in self.allocations}

    def live_bytes(self, space: int) -> list[int]:
        """Bytes of temporaries in a memory space at each step."""
        total = [0] * len(self.steps)
        for number, (at, _) in self.allocations.items():
            if at == space:
                total = [a + b for a, b in zip(total, self._live[number], strict=True)]
        return total

    def peak_of(self, space: int) -> int:
        """The most bytes of temporaries in a memory space at any step."""
        return max(self.live_bytes(space), default=0)

    @property
    def peak_bytes(self) -> int:
        """The compiler's `peak_memory_in_bytes`; the docstring of this module says how it counts."""
        return self.resident_bytes + max((max(live, default=0) for live in self._live.values()), default=0)

    @property
    def unshared_peak_bytes(self) -> int:
        """The peak if values that share bytes were counted apart."""
        counted: dict[tuple[int, int], int] = {}
        for buffer in self.buffers:
            if not buffer.is_address_table:
                for step in range(buffer.first, buffer.last + 1):
                    at = buffer.allocation, step
                    counted[at] = counted.get(at, 0) + buffer.bytes
        return self.resident_bytes + max(counted.values(), default=0)

    def _occupied(self, number: int) -> Iterator[int]:
        buffers = [b for b in self.buffers if b.allocation == number and not b.is_address_table]
        begins: dict[int, list[Buffer]] = {}
        for buffer in buffers:
            begins.setdefault(buffer.first, []).append(buffer)
        alive: list[Buffer] = []
        for step in range(len(self.steps)):
            alive = [b for b in alive if b.last >= step] + begins.get(step, [])
            yield _union((b.offset, b.offset + b.bytes) for b in alive)


def parse(assignment: str, live_ranges: str, *, source: str = "XLA's dump") -> MemorySchedule:
    """The memory in the two texts.

    Raises UserError, naming `source`, if one is cut off or is not such a dump.
    """
    steps, ranges = _live_ranges(live_ranges, source)
    lines = assignment.splitlines()
    if not lines or lines[0].strip() != "BufferAssignment:":
        raise UserError(f"{source} is not a buffer assignment: it must begin with 'BufferAssignment:'")
    resident, reserved = 0, None
    allocations: dict[int, tuple[int, int]] = {}
    buffers: list[Buffer] = []
    for number, line in enumerate(lines[1:], 2):
        if match := _ALLOCATION.fullmatch(line):
            size, attributes = int(match[2]), match[3]
            colour = _COLOUR.search(attributes)
            reserved = None
            if "preallocated-temp" in attributes:
                reserved = int(match[1])
                allocations[reserved] = (int(colour[1]) if colour else HBM, size)
            elif "thread-local" not in attributes:  # thread-local: scalars inside reductions
                resident += size
        elif match := _VALUE.fullmatch(line):
            if reserved is None:
                continue
            name, index = match[1], match[2] or "{}"
            if (name, index) not in ranges:
                raise UserError(f"{source}, line {number}: {name}{index} is not in the live ranges")
            first, last = ranges[name, index]
            buffers.append(
                Buffer(
                    instruction=name,
                    index=index,
                    allocation=reserved,
                    space=allocations[reserved][0],
                    offset=int(match[4]),
                    bytes=int(match[3]),
                    first=first,
                    last=last,
                    is_address_table=match[5].startswith("("),
                )
            )
        elif not line.strip():
            break  # the rest lists the same buffers by size
        elif line.startswith(("allocation", " value")):
            raise UserError(f"{source}, line {number}: cut off, or another format: {line.strip()[:60]!r}")
        else:
            break
    if not resident and not allocations:
        raise UserError(f"{source} holds no allocation: it is cut off; give the whole file")
    return MemorySchedule(
        steps=tuple(steps), resident_bytes=resident, allocations=allocations, buffers=tuple(buffers)
    )


def _live_ranges(text: str, source: str) -> tuple[Sequence[str], dict[tuple[str, str], tuple[int, int]]]:
    if not text.startswith("HloLiveRange"):
        raise UserError(f"{source}'s live ranges are of another format: they must begin with 'HloLiveRange'")
    head, found, tail = text.partition("\n  BufferLiveRange:\n")
    steps = [name for _, name in sorted((int(n), name) for n, name in _STEP.findall(head))]
    ranges = {(m[1], m[2]): (int(m[3]), int(m[4])) for m in map(_RANGE.fullmatch, tail.splitlines()) if m}
    # `max` counts the end of the program as a step of its own.
    declared = re.match(r"HloLiveRange \(max (\d+)\)", text)
    if not found or declared is None or len(steps) != int(declared[1]):
        raise UserError(f"{source}'s live ranges are cut off: give the whole file")
    return steps, ranges


def _union(extents: Iterable[tuple[int, int]]) -> int:
    total = end = 0
    for low, high in sorted(extents):
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total
