"""The lock of a run's folder: one process at a time measures into it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fuseproof.errors import UserError
from fuseproof.files import writing


class Lock:
    """`FOLDER/lock`, held by one process until `release`, or until it ends in whatever way.

    The file is neither truncated nor followed where it is a symbolic link.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def __del__(self) -> None:
        self.release()

    @property
    def held(self) -> bool:
        return self._file is not None

    def acquire(self) -> None:
        """Raises UserError if another process holds it, or if the file cannot be opened."""
        path = self._folder / "lock"
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link, which no run makes; remove it")
        with writing(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise UserError(f"{self._folder} is being measured by another process") from None
        self.release()
        self._file = file

    def release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def lost(self) -> bool:
        """Whether the file was deleted or replaced while the lock is held, so that others may lock theirs."""
        if self._file is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._file), (self._folder / "lock").lstat())
        except OSError:
            return True
