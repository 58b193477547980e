"""Read the text of an XLA module.

Takes the text that JAX's `compiled.as_text()`, TensorFlow's
`experimental_get_compiler_ir(stage="optimized_hlo")` and `--xla_dump_to` write, for CPU, GPU and TPU; needs
no framework. The format: https://openxla.org/xla/hlo_dumps. Text that is cut off or is not HLO raises
UserError in one line; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from fuseproof.errors import UserError
from fuseproof.fusion.programs.hlo.module import CONTROL, Array, Computation, Instruction, Module

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


def parse(text: str, *, source: str = "HLO text") -> Module:
    """The module in `text`. Raises UserError naming `source` and the line if it is cut off or not HLO."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    header = _HEADER.fullmatch(lines[start]) if start < len(lines) else None
    if header is None:
        raise UserError(f"{source} is not an HLO module: its first line must begin with 'HloModule <name>'")

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


def _shape(text: str) -> tuple[Array, ...]:
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
        arrays=_shape(shape),
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
            control = CONTROL.get(instruction.opcode, ())
            called = instruction.computations("calls", "to_apply", *control)
            missing = [n for n in instruction.operands if n not in names]
            missing += [n for n in called if n not in computations]
            if missing:
                raise UserError(
                    f"{source}: {instruction.name} uses {missing[0]!r}, which nothing defines: "
                    "lines are missing"
                )
