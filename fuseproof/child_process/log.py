"""What a child process prints, up to a limit."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

HEAD_BYTES = 2**20
TAIL_BYTES = 2**16
# After the end of the process the rest arrives at once, unless something that escaped keeps the pipe open.
_END_SECONDS = 1.0


class CappedLog:
    """Keeps the first mebibyte of what is written to `descriptor`, and the last 64 KiB.

    A thread waits for it, which takes no time while nothing is printed, and never stops reading, so that a
    child that prints without end is not blocked. What it may not keep it counts.
    """

    def __init__(self, path: Path | None) -> None:
        """path: a file to append to, the head at once, the tail at the end; None keeps both in memory."""
        self._path = path
        self._head = bytearray()
        self._tail = bytearray()
        self._left = HEAD_BYTES
        if path is not None:
            path.touch()
            self._left = max(0, HEAD_BYTES - path.stat().st_size)  # a predecessor may have written to it
        self._dropped = 0
        self._source, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._read, name="fuseproof-log", daemon=True)
        self._thread.start()

    def started(self) -> None:
        """The child has its own `descriptor` now."""
        os.close(self.descriptor)

    def finish(self) -> None:
        """Wait until all that was printed is kept; the processes that print must have ended."""
        self._thread.join(_END_SECONDS)

    def text(self) -> str:
        """What was kept in memory."""
        return (self._head + self._tail).decode(errors="replace")

    def _read(self) -> None:
        while part := os.read(self._source, 2**16):
            if self._left:
                self._keep(part[: self._left])
                part, self._left = part[self._left :], max(0, self._left - len(part))
            self._tail += part
            self._dropped += max(0, len(self._tail) - TAIL_BYTES)
            del self._tail[:-TAIL_BYTES]
        os.close(self._source)
        if self._dropped:
            self._keep(f"\n… {self._dropped:,} bytes were left out here …\n".encode())
        if self._path is not None:
            self._keep(bytes(self._tail))

    def _keep(self, part: bytes) -> None:
        if self._path is None:
            self._head += part
            return
        with contextlib.suppress(OSError), self._path.open("ab") as file:  # a full disk stops no run
            file.write(part)
