"""A compiled TPU program's schedule and memory as plain data, and the files that hold it.

The files: JSON of `fuseproof compile --json`, and XLA's own dumps. Nothing in them was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fuseproof import documents
from fuseproof.errors import UserError
from fuseproof.fusion.programs import hlo
from fuseproof.profiling.readers.trace_file import TraceFile
from fuseproof.profiling.readers.xla_schedule import dumps
from fuseproof.profiling.readers.xla_schedule.drawing import to_timeline
from fuseproof.profiling.readers.xla_schedule.dumps import HBM, VMEM
from fuseproof.profiling.timeline.model import Timeline

RESULT_FILE: Final = "result.json"  # what `fuseproof compile -o` writes into each program's folder
_LIMIT: Final = 64 << 20  # bytes of JSON or of one dump


def describe(module: hlo.Module, memory: dumps.MemorySchedule) -> dict[str, Any]:
    """A program's schedule and memory as JSON-ready data.

    `schedule`: for each instruction in order, its estimate and the bytes live at it. `memory_plan`: peaks and
    buffers. `vmem_bytes`: the most VMEM in use at any instruction, its own scratch included.
    """
    hbm, vmem = memory.live_bytes(HBM), memory.live_bytes(VMEM)
    by_name = {i.name: i for c in module.computations.values() for i in c.instructions}
    schedule: list[dict[str, Any]] = []
    for step, name in enumerate(memory.steps):
        instruction = by_name.get(name)
        schedule.append(
            {
                "instruction": name,
                "opcode": instruction.opcode if instruction else None,
                "op_name": instruction.op_name if instruction else None,
                "estimated_cycles": instruction.estimated_cycles if instruction else None,
                "fused": len(module.members(instruction)) if instruction else 0,
                "hbm_live_bytes": memory.resident_bytes + hbm[step],
                "vmem_live_bytes": vmem[step],
                "vmem_scoped_bytes": instruction.scoped_bytes(VMEM) if instruction else 0,
            }
        )
    return {
        "vmem_bytes": max(
            (step["vmem_live_bytes"] + step["vmem_scoped_bytes"] for step in schedule), default=0
        ),
        "schedule": schedule,
        "memory_plan": {
            "peak_bytes": memory.peak_bytes,
            "resident_bytes": memory.resident_bytes,
            "hbm_temporary_peak_bytes": memory.peak_of(HBM),
            "vmem_peak_bytes": memory.peak_of(VMEM),
            "buffers": [
                {
                    "instruction": b.instruction,
                    "index": b.index,
                    "space": dumps.SPACES.get(b.space, str(b.space)),
                    "offset": b.offset,
                    "bytes": b.bytes,
                    "first_step": b.first,
                    "last_step": b.last,
                }
                for b in memory.buffers
            ],
        },
    }


def is_result(head: bytes) -> bool:
    """Whether a JSON file with this beginning is what `fuseproof compile --json` prints."""
    return b'"implementation"' in head and b'"estimate"' in head and b'"traceEvents"' not in head


def load_results(file: TraceFile) -> list[Timeline]:
    """One timeline for each program in a JSON file that has a schedule. Raises UserError if none has."""
    file.max_bytes = _LIMIT
    document = documents.parse(file.read(), file.path, wanted="compile again with --json")
    results = document if isinstance(document, list) else [document]
    if not all(isinstance(result, dict) for result in results):
        raise UserError(f"{file.path} is not what `fuseproof compile --json` prints")
    try:
        drawn = [to_timeline(result, _result_name(result)) for result in results if result.get("schedule")]
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from None
    if not drawn:
        reasons = {str(result.get("reason") or result.get("warning")) for result in results}
        raise UserError(f"{file.path} holds no schedule: {'; '.join(sorted(reasons))}")
    return drawn


def load_dump(path: Path) -> Timeline:
    """The timeline of a program that XLA dumped with `xla_dump_to`.

    `path` is its `*buffer-assignment.txt`; the live ranges and the HLO text must be beside it.
    Raises UserError if one is missing or damaged.
    """
    stem = path.name.removesuffix("-buffer-assignment.txt")
    # Only the text after code generation has estimated cycles.
    generated = path.with_name(stem.replace("after_optimizations", "after_codegen") + ".txt")
    program = generated if generated.is_file() else path.with_name(f"{stem}.txt")
    texts = []
    for part in (path, path.with_name(f"{stem}-live-range.txt"), program):
        if not part.is_file():
            raise UserError(f"{path} needs {part.name} beside it; dump with xla_dump_hlo_as_text")
        texts.append(TraceFile(part, max_bytes=_LIMIT).read().decode("utf-8", "replace"))
    assignment, ranges, text = texts
    memory = dumps.parse(assignment, ranges, source=str(path))
    module = hlo.parse(text, source=str(program))
    return to_timeline(describe(module, memory), module.name)


def _result_name(result: Mapping[str, Any]) -> str:
    return f"{result.get('implementation')} of {result.get('case')} for {result.get('target')}"
