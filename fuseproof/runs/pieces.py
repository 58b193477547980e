"""The finished pieces of a run: one file each, stamped with the run and the case that it belongs to.

A piece is a check or a profile (one case in one framework), a cell (one case in one block) or the times of
a case to its first results. The process that measures keeps its pieces in memory as well: what anything else
does to the files meanwhile is noticed and mended, and never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from fuseproof.errors import UserError
from fuseproof.files import write_json

# Of plan.json and of pieces. 1 had no number and no hashes.
SCHEMA: Final = 2

# Keys of a piece that are not covered by its own hash.
_STAMP: Final = ("schema", "plan", "sha256")
_FOLDERS: Final = ("checks", "profiles", "blocks", "first_results")

# NaN and infinity are outside of these limits.
_LARGEST: Final = sys.float_info.max
_Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Finite = Annotated[float, Meta(ge=0, le=_LARGEST)]
_Positive = Annotated[float, Meta(gt=0, le=_LARGEST)]


class _Ran(msgspec.Struct, tag_field="status", tag="ran"):
    errors: Annotated[dict[str, _Finite | None], Meta(min_length=1)]
    compile_seconds: _Finite | None
    peak_memory_bytes: _Finite | None
    call_seconds: _Positive
    graphs: _Whole | None = None
    graph_breaks: _Whole | None = None
    recompiles: _Whole | None = None
    first_call_seconds: _Finite | None = None  # earlier versions kept none
    export_seconds: _Finite | None = None
    load_seconds: _Finite | None = None
    artifact_bytes: _Whole | None = None


class _Skipped(msgspec.Struct, tag_field="status", tag="skipped"):
    message: str


class _Failed(msgspec.Struct, tag_field="status", tag="error"):
    message: str


class _Check(msgspec.Struct):
    group: str
    description: dict[str, Any]
    rows: dict[str, _Ran | _Skipped | _Failed]


class _Kernels(msgspec.Struct):
    kernels: _Whole | None
    notes: list[str]


class _Profile(msgspec.Struct):
    group: str
    rows: dict[str, _Kernels]


class _Cell(msgspec.Struct):
    group: str
    legs: dict[str, list[dict[str, Annotated[list[_Positive], Meta(min_length=1)]]]]
    failures: dict[str, str]
    disqualified: list[str] = []
    evidence: dict[str, Any] = {}


class _Started(msgspec.Struct, tag_field="status", tag="timed"):
    seconds: Annotated[list[_Positive], Meta(min_length=1)]


class _FirstResult(msgspec.Struct):
    group: str
    rows: dict[str, _Started | _Skipped | _Failed]


_RECORDS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "check": _Check,
    "profile": _Profile,
    "cell": _Cell,
    "first_result": _FirstResult,
}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Which piece it is.

    number: of the case in the plan. A cell has a block, a check and a profile have a framework.
    """

    kind: str
    group: str
    number: int
    framework: str | None = None
    block: int | None = None

    @property
    def name(self) -> str:
        """Its file in the folder of the run, such as `checks/torch-000.json`."""
        if self.block is not None:
            return f"blocks/{self.block:03d}-{self.number:03d}.json"
        of = "" if self.framework is None else f"{self.framework}-"
        return f"{self.kind}s/{of}{self.number:03d}.json"

    @property
    def identity(self) -> dict[str, Any]:
        own = {"framework": self.framework, "block": self.block}
        known = {key: value for key, value in own.items() if value is not None}
        return {"kind": self.kind, "group": self.group, **known}


@dataclass(kw_only=True)
class _Kept:
    path: str
    document: dict[str, Any]
    state: tuple[int, ...]  # of the file, when it last was as it should be


class Pieces:
    """The pieces in the folder of a run, whose plan has the hash `plan`; None for a run of schema 1.

    A reader finds them on disk each time. After `keep` they are in memory, and the disk is written only.
    refused: pieces found that are not this run's, each with the reason.
    """

    def __init__(self, folder: Path, plan: str | None) -> None:
        self._folder = folder
        self._plan = plan
        self._kept: dict[str, _Kept] | None = None
        self._known: set[str] = set()  # kept, or there before and not read
        self.refused: dict[str, str] = {}

    def keep(self, pieces: Iterable[Piece], **others: dict[str, Any]) -> None:
        """From now on memory is right. Reads `pieces`; others: documents on disk to guard, by file name.

        Raises UserError if one is damaged.
        """
        kept = {}
        for piece in pieces:
            if (document := self._read(piece)) is not None:
                kept[piece.name] = self._keep(piece.name, document)
        for stem, document in others.items():
            kept[f"{stem}.json"] = self._keep(f"{stem}.json", document)
        self._known = set(kept)
        self._known.update(self._strangers())
        self._kept = kept

    def _keep(self, name: str, document: dict[str, Any]) -> _Kept:
        path = f"{self._folder}/{name}"
        return _Kept(path=path, document=document, state=_state(path))

    def get(self, piece: Piece) -> dict[str, Any] | None:
        """The record, None if there is none of this run. Raises UserError if it is damaged."""
        if self._kept is None:
            return self._read(piece)
        kept = self._kept.get(piece.name)
        return None if kept is None else kept.document

    def save(self, piece: Piece, record: Mapping[str, Any]) -> None:
        """Write it, whole or not at all. Raises UserError if that fails or the record is not of its kind."""
        content = json.loads(json.dumps({**record, **piece.identity}, allow_nan=False))
        if (fault := _fault(piece, content)) is not None:
            raise ValueError(f"{piece.name}: {fault}")
        stamp = {"schema": SCHEMA, "plan": self._plan, "sha256": digest(content)}
        document = {**stamp, **content} if self._plan is not None else content
        self._write(piece.name, document)
        if self._kept is not None:
            self._kept[piece.name] = self._keep(piece.name, document)
            self._known.add(piece.name)

    def disturbed(self) -> list[str]:
        """What others did to the files since they were written, in words; empty if nothing, or before `keep`.

        One lstat of each file and a listing of four folders. A file is read only if its inode, size or
        times differ.
        """
        if self._kept is None:
            return []
        found = []
        for name, kept in self._kept.items():
            state = _state(kept.path)
            if state == kept.state and state:
                continue
            if not state:
                found.append(f"{name} was deleted")
            elif _content(self._folder / name) != kept.document:
                found.append(f"{name} was changed")
            else:
                kept.state = state  # copied, linked or touched, but the same
        return found + [f"{name} was added" for name in self._strangers()]

    def restore(self) -> None:
        """Write again what was deleted or changed, and remove pieces that nobody measured; reads all."""
        if self._kept is None:
            return
        for name, kept in self._kept.items():
            if _content(self._folder / name) != kept.document:
                self._write(name, kept.document)
            kept.state = _state(kept.path)
        for name in self._strangers():
            _remove(self._folder / name)

    def _strangers(self) -> list[str]:
        """Names of files in the folders of pieces that are no pieces of this run, nor were there before."""
        found = []
        for folder in _FOLDERS:
            with contextlib.suppress(OSError):
                for name in os.listdir(f"{self._folder}/{folder}"):  # noqa: PTH208 - iterdir is slow
                    piece = f"{folder}/{name}"
                    if piece.endswith(".json") and piece not in self._known:
                        found.append(piece)
        return found

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        path = self._folder / name
        # Through a link that somebody put here it would be written to another place.
        for place, usual in ((path.parent, path.parent.is_dir()), (path, path.is_file())):
            if place.is_symlink() or (place.exists() and not usual):
                _remove(place)
        write_json(path, document, indent=None if path.parent.name in _FOLDERS else 1)

    def _read(self, piece: Piece) -> dict[str, Any] | None:
        path = self._folder / piece.name
        document = read(path)
        if document is None:
            return None
        if self._plan is not None and (reason := self._reason_to_refuse(piece, document)) is not None:
            self.refused[piece.name] = reason
            return None
        fault = _fault(piece, document)
        if fault is None and self._plan is not None:
            content = {key: value for key, value in document.items() if key not in _STAMP}
            if digest(content) != document.get("sha256"):
                fault = "its content is not what was written"
        if fault is not None:
            raise UserError(f"{path} is damaged ({fault}); delete it and it is made again")
        return document

    def _reason_to_refuse(self, piece: Piece, document: Mapping[str, Any]) -> str | None:
        if (schema := document.get("schema")) != SCHEMA:
            return f"it has schema {str(schema)[:20]} instead of {SCHEMA}"
        if document.get("plan") != self._plan:
            return "it belongs to another plan"
        for key, value in piece.identity.items():
            if (found := document.get(key)) != value:
                return f"its {'case' if key == 'group' else key} is {str(found)[:80]}, not {value}"
        return None


def digest(document: object) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in the file `path`, None without the file. Raises UserError if it holds anything else.

    Files are written whole, so it is never half of one; a disk or an editor may still have damaged it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and it is made again") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} is damaged (not a JSON object); delete it and it is made again")
    return document


def _fault(piece: Piece, document: Mapping[str, Any]) -> str | None:
    """Why the document is not a record of its kind, None if it is one."""
    try:
        record = msgspec.convert(document, _RECORDS[piece.kind])
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return " ".join(str(error).split())
    if record.group != piece.group:  # type: ignore[attr-defined]
        return f"its case is {record.group}"  # type: ignore[attr-defined]
    if isinstance(record, _Cell) and (unknown := {*record.disqualified} - {*record.failures}):
        return f"{sorted(unknown)[0]} is disqualified without a failure"
    return None


def _state(path: str) -> tuple[int, ...]:
    """What changes with a file, its change time too, which no program can set back; empty without a file."""
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _content(path: Path) -> object:
    if path.is_symlink() or path.parent.is_symlink():
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
