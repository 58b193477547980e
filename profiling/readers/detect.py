"""From a path to timelines. The content of a file decides how it is read, never its name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fuseproof.errors import UserError
from fuseproof.profiling.readers import xla_schedule
from fuseproof.profiling.readers.trace_file import TraceFile
from fuseproof.profiling.timeline.model import Timeline

# Endings that profilers give their files; a directory's other files are ignored.
_TRACE_ENDINGS = (
    ".pt.trace.json",
    ".trace.json",
    ".xplane.pb",
    ".kineto.json",
    ".pickle",
    ".pkl",
    ".raw.json",
    ".json",
    ".pb",
    ".raw",
    "-buffer-assignment.txt",
)
# `fuseproof compile` writes its result beside XLA's dump of the same program.
_DUMP_ENDING = "-buffer-assignment.txt"
_MAX_FILES = 256


def load(path: Path | str, *, name: str | None = None) -> Timeline:
    """The timeline of one file, plain or gzip.

    Reads Kineto, XPlane, torch memory snapshots and timelines, XLA's dumps, results of `fuseproof compile`.
    The timeline's name is `name`, or the file's.
    Raises UserError, one line, for anything else.
    """
    path = Path(path)
    file = TraceFile(path)
    name = name or _name(path)
    head = next(file.blocks(), b"")[:4096]
    if not head.strip():
        raise UserError(f"{path} is empty; record the trace again")
    try:
        if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
            return _load_json(file, name, head)
        if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            from fuseproof.profiling.readers import torch_memory

            return torch_memory.load_snapshot(file, name)
        if head.startswith(b"BufferAssignment:"):
            return xla_schedule.load_dump(path)
        if head[0] in (0x0A, 0x12, 0x1A, 0x22):
            from fuseproof.profiling.readers import xplane

            return xplane.load(file, name)
    except MemoryError:
        raise UserError(f"{path} needs more memory than there is; record fewer steps") from None
    raise UserError(
        f"{path} is not a known kind of trace: Kineto JSON, XPlane, torch memory snapshot or memory timeline"
    )


def _load_json(file: TraceFile, name: str, head: bytes) -> Timeline:
    from fuseproof.profiling.readers import kineto, torch_memory

    if xla_schedule.is_result(head):
        drawn = xla_schedule.load_results(file)
        if len(drawn) > 1:
            raise UserError(f"{file.path} holds {len(drawn)} programs; read them with load_all")
        return dataclasses.replace(drawn[0], name=name)
    if torch_memory.is_memory_timeline(head):
        return torch_memory.load_memory_timeline(file, name)
    return kineto.load(file, name)


def load_all(path: Path | str) -> list[Timeline]:
    """The timelines of a file, or of all traces in a directory and below it, sorted by path.

    Raises UserError for a file that `load` refuses and for a directory without traces.
    """
    path = Path(path)
    return [timeline for file in (find(path) if path.is_dir() else [path]) for timeline in _all_of(file)]


def _all_of(path: Path) -> list[Timeline]:
    """Several timelines if `fuseproof compile` wrote the file, one program each; else one."""
    file = TraceFile(path)
    head = next(file.blocks(), b"")[:4096]
    if head.lstrip()[:1] in (b"{", b"[") and xla_schedule.is_result(head):
        return xla_schedule.load_results(file)
    return [load(path)]


def find(directory: Path) -> list[Path]:
    """The paths of the traces in a directory and below it, sorted.

    JAX and TensorFlow write each trace as `.xplane.pb` and may copy its first million events to
    `.trace.json.gz`: such a copy is left out. Raises UserError if there is no trace, or more than 256.
    """
    chosen = []
    for path in sorted(directory.rglob("*")):
        plain = path.name.removesuffix(".gz")
        if not plain.endswith(_TRACE_ENDINGS) or not path.is_file():
            continue
        if plain.endswith(_DUMP_ENDING) and path.with_name(xla_schedule.RESULT_FILE).exists():
            continue
        if plain.endswith(".trace.json"):
            planes = plain.removesuffix(".trace.json") + ".xplane.pb"
            if path.with_name(planes).exists() or path.with_name(planes + ".gz").exists():
                continue
        if _looks_like_trace(path):
            chosen.append(path)
    if not chosen:
        raise UserError(f"{directory} holds no trace (*.json, *.xplane.pb, *.pickle, plain or .gz)")
    if len(chosen) > _MAX_FILES:
        raise UserError(f"{directory} holds more than {_MAX_FILES} traces; name a folder in it")
    return chosen


def _looks_like_trace(path: Path) -> bool:
    """False for JSON of another kind, such as a run file or a configuration."""
    if not path.name.removesuffix(".gz").endswith(".json"):
        return True
    try:
        head = next(TraceFile(path).blocks(), b"")
    except UserError:
        return True  # `load` reports what is wrong
    return b'"traceEvents"' in head or xla_schedule.is_result(head[:4096]) or head.lstrip()[:1] == b"["


def _name(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    for ending in _TRACE_ENDINGS:
        if name.endswith(ending) and len(name) > len(ending):
            return name.removesuffix(ending)
    return name
