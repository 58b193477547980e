"""Read the text of an XLA module: computations, instructions, what was fused, and the schedule.

Takes what JAX's `compiled.as_text()`, TensorFlow's `experimental_get_compiler_ir(stage="optimized_hlo")` and
`--xla_dump_to` write, for CPU, GPU and TPU; needs no framework. The format:
https://openxla.org/xla/hlo_dumps. Text that is cut off, or is no HLO, raises UserError in one line; nothing
is guessed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from fuseproof.errors import UserError

# Instructions that name or regroup buffers; no target runs code for them.
FREE_OPCODES = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
     "replica-id")
)  # fmt: skip
COLLECTIVES = (
    "all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute", "reduce-scatter",
    "ragged-all-to-all",
)  # fmt: skip

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0, "c64": 64, "c128": 128}  # others end in their bits
_NAME = r"%?([\w.\-]+)"
_SECTIONS = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_SECTION_ROW = re.compile(r"\d+ .*")
_HEADER = re.compile(r"HloModule ([^\s,]+)(.*)")
_COMPUTATION = re.compile(rf"(ENTRY )?{_NAME}(?: \(.*)? ?\{{")
_INSTRUCTION = re.compile(rf"(ROOT )?{_NAME} = ")
_OPCODE = re.compile(r" ([a-z][a-z0-9\-]*)\(")
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\](?:\{([^{}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_COMMENT = re.compile(r"/\*.*?\*/")
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_SCOPED = re.compile(r'"used_scoped_memory_configs":\[(.*?)\]')
_SCOPED_SIZE = re.compile(r'"memory_space":"(\d+)","offset":"\d+","size":"(\d+)"')
_REFERENCE = re.compile(r"%?([\w.\-]+)")
# Attributes that name computations whose instructions run as kernels of their own, by opcode; a computation
# named by any other (a fusion's, a reduction's) runs inside the instruction that names it.
_CONTROL = {
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
        """Instructions that run as kernels, copies or collectives of their own, in order.

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
    """The computations that a loop, branch or call runs: their instructions are kernels of their own."""
    return instruction.computations(*_CONTROL.get(instruction.opcode, ()))


def parse(text: str, *, source: str = "HLO text") -> Module:
    """The module in `text`. Raises UserError naming `source` and the line if it is cut off or no HLO."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    header = _HEADER.fullmatch(lines[start]) if start < len(lines) else None
    if header is None:
        raise UserError(f"{source} is no HLO module: its first line must begin with 'HloModule <name>'")

    computations: dict[str, Computation] = {}
    opened: tuple[str, bool] | None = None
    instructions: list[Instruction] = []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        stripped = line.strip()
        if opened is None:
            match = _COMPUTATION.fullmatch(stripped)
            if match:
                opened, instructions = (match[2], match[1] is not None), []
            elif stripped and stripped not in _SECTIONS and not _SECTION_ROW.fullmatch(stripped):
                raise UserError(f"{source}, line {number}: not HLO: {stripped[:60]!r}")
        elif stripped.startswith("}"):
            name, is_entry = opened
            computations[name] = Computation(name=name, is_entry=is_entry, instructions=tuple(instructions))
            opened = None
        elif stripped:
            try:
                instructions.append(_instruction(stripped))
            except ValueError as error:
                raise UserError(f"{source}, line {number}: {error}: {stripped[:60]!r}") from None
    if opened is not None:
        raise UserError(f"{source} is cut off inside computation {opened[0]!r}; give the whole file")
    if sum(c.is_entry for c in computations.values()) != 1:
        raise UserError(f"{source} has no ENTRY computation: it is cut off; give the whole file")
    _check_references(computations, source)
    return Module(
        name=header[1],
        is_scheduled="is_scheduled=true" in header[2],
        computations=MappingProxyType(computations),
    )


def parse_shape(text: str) -> tuple[Array, ...]:
    """The arrays of a shape as HLO prints it, a tuple's in order. Raises ValueError."""
    arrays = []
    for dtype, dimensions, layout in _ARRAY.findall(_COMMENT.sub("", text)):
        space = _SPACE.search(layout)
        arrays.append(
            Array(
                dtype=dtype,
                # A dynamic dimension is printed with its bound: `<=128`.
                dimensions=tuple(
                    int(d.strip().removeprefix("<=")) for d in dimensions.split(",") if d.strip()
                ),
                layout=layout,
                memory_space=int(space[1]) if space else 0,
            )
        )
    if not arrays and text.strip() != "()":
        raise ValueError("a shape cannot be read")
    return tuple(arrays)


def _instruction(line: str) -> Instruction:
    match = _INSTRUCTION.match(line)
    if match is None:
        raise ValueError("not an instruction")
    shape_end = _shape_end(line, match.end())
    opcode = _OPCODE.match(line, shape_end)
    if opcode is None:
        raise ValueError("no opcode follows the shape")
    end = _closing(line, opcode.end() - 1)
    attributes = {}
    for part in _split(line[end + 1 :]):
        key, _, value = part.partition("=")
        attributes[key] = value
    shape = line[match.end() : shape_end]
    return Instruction(
        name=match[2],
        opcode=opcode[1],
        shape=shape,
        arrays=parse_shape(shape),
        operands=_operands(opcode[1], line[opcode.end() : end]),
        attributes=MappingProxyType(attributes),
        is_root=match[1] is not None,
    )


def _shape_end(line: str, start: int) -> int:
    if line.startswith("(", start):
        return _closing(line, start) + 1
    match = _ARRAY.match(line, start)
    if match is None:
        raise ValueError("a shape cannot be read")
    return match.end()


def _operands(opcode: str, text: str) -> tuple[str, ...]:
    if opcode in ("parameter", "constant"):
        return ()
    # The verbose form puts each operand's shape before its name: `f32[] %x`.
    return tuple(part.split()[-1].removeprefix("%") for part in _split(_COMMENT.sub("", text)))


_OPENING, _CLOSING = "([{", ")]}"


def _closing(line: str, start: int) -> int:
    """Where the bracket at `start` closes; brackets in quotes do not count."""
    depth, quoted, position = 0, False, start
    while position < len(line):
        character = line[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif not quoted and character in _OPENING:
            depth += 1
        elif not quoted and character in _CLOSING:
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise ValueError("cut off, a bracket stays open")


def _split(text: str) -> list[str]:
    """The parts between commas outside all brackets and quotes."""
    parts, begin, position = [], 0, 0
    while position < len(text):
        character = text[position]
        if character in _OPENING:
            position = _closing(text, position)
        elif character == '"':
            end = re.compile(r'"(?:[^"\\]|\\.)*"').match(text, position)
            if end is None:
                raise ValueError("cut off, a quote stays open")
            position = end.end() - 1
        elif character == ",":
            parts.append(text[begin:position])
            begin = position + 1
        position += 1
    return [part.strip() for part in (*parts, text[begin:]) if part.strip()]


def _check_references(computations: Mapping[str, Computation], source: str) -> None:
    """A name that nothing defines means that lines are missing."""
    for computation in computations.values():
        names = {instruction.name for instruction in computation.instructions}
        for instruction in computation.instructions:
            control = _CONTROL.get(instruction.opcode, ())
            called = instruction.computations("calls", "to_apply", *control)
            missing = [n for n in instruction.operands if n not in names]
            missing += [n for n in called if n not in computations]
            if missing:
                raise UserError(
                    f"{source}: {instruction.name} uses {missing[0]!r}, which nothing defines: "
                    "lines are missing"
                )
