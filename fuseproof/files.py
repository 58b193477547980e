"""Writing files: whole or not at all, and one line that says why not."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from fuseproof.errors import UserError


def make_directory(path: Path) -> None:
    """Make a directory that will be written to. Raises UserError, before any work is done, if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}; choose a writable folder") from None


def write_json(path: Path, document: object, *, indent: int | None = None) -> None:
    """Write `document` so that a reader sees the old file or the new one, never half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent}: {error.strerror}; choose a writable folder"
        ) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, allow_nan=False, indent=indent)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {path}: {error.strerror}; make room and go on") from None
        raise
