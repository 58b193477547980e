"""Writing files: whole or not at all, and one line that says why a file could not be written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fuseproof.errors import UserError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What file systems that have no hard links answer.
_WITHOUT_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an OSError of the block into a UserError that names the file, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error, "choose a writable place") from None


@contextlib.contextmanager
def writing_to(folder: str | Path) -> Iterator[None]:
    """As `writing`, for a folder."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(f"to {folder}", error, "choose a writable folder") from None


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file beside `path` to write to; it takes the place of `path` when the block ends without error.

    A reader sees the old file or the new one, never half of it. A device or a pipe is written to directly.
    Raises UserError if the file cannot be written.
    """
    given = Path(path)
    with writing(given):
        # Only a regular file may be replaced, not /dev/null, /dev/stdout, a named pipe or a folder.
        if given.absolute().parts[1:2] == ("dev",) or (given.exists() and not given.is_file()):
            with given.open("wb") as file:
                yield file
            return
        target = given.resolve()  # a symbolic link stays one
        temporary = target.with_name(f".{target.name[:200]}.{os.urandom(4).hex()}")
        try:
            with temporary.open("xb") as file:
                if target.exists():
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
                yield file
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises UserError if that fails.

    A lone surrogate, which a foreign message may hold and UTF-8 has not, is written as its escape.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def append_text(path: str | Path, text: str) -> None:
    """Write to the end of a file that others write to as well. Raises UserError if that fails."""
    with writing(path), Path(path).open("a", encoding="utf-8") as file:
        file.write(text)


def write_json(path: str | Path, document: object, *, indent: int | None = None) -> None:
    """Write `document`, whole or not at all, in a folder that is made where it is missing.

    Raises UserError if that fails, and ValueError for NaN and infinity, which JSON does not have.
    """
    text = json.dumps(document, allow_nan=False, indent=indent)
    with writing_to(Path(path).parent):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def create_json(path: str | Path, document: object) -> None:
    """As `write_json`, for a file that must not be there yet: of several writers one succeeds.

    Raises FileExistsError if it is there, UserError if it cannot be written.
    """
    given = Path(path)
    temporary = given.with_name(f".{given.name}.{os.urandom(4).hex()}")
    write_json(temporary, document, indent=1)
    try:
        os.link(temporary, given)  # unlike renaming, fails where another came first
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise _cannot_write(given, error, "choose a writable place") from None
        if given.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(given)) from None
        temporary.replace(given)
    finally:
        temporary.unlink(missing_ok=True)


def make_directory(path: str | Path) -> None:
    """Make a folder that will be written to. Raises UserError, before any work is done, if that fails."""
    with writing_to(path):
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def require_writable(path: str | Path) -> None:
    """Raises UserError, before any work is done, unless the file `path` can be written."""
    given = Path(path)
    if given.is_dir():
        raise UserError(f"{path} is a folder: name the file itself")
    folder = given.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UserError(f"cannot write {path}: choose a folder that exists and is writable")


def _cannot_write(what: str | Path, error: OSError, remedy: str) -> UserError:
    remedy = "make room and go on" if error.errno in _FULL else remedy
    return UserError(f"cannot write {what}: {error.strerror or error}; {remedy}")
