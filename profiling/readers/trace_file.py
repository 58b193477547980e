"""Reads a trace file in blocks, plain or gzip, within fixed limits of size and compression."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from fuseproof.errors import UserError

BLOCK_BYTES = 1 << 20
MAX_BYTES = 4 << 30  # uncompressed
# Real traces compress 5 to 60 times, DEFLATE at most 1032 times. A file beyond both numbers is refused.
MAX_RATIO = 200
RATIO_FREE_BYTES = 128 << 20
GZIP_MAGIC = b"\x1f\x8b"


class TraceFile:
    """A regular file, uncompressed while it is read.

    `cut_short` is set while reading if the gzip stream is cut short. Raises UserError if the file cannot be
    read, is not a regular file, or exceeds a limit.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.cut_short = False
        self.compressed = self._peek()[:2] == GZIP_MAGIC

    def _peek(self) -> bytes:
        try:
            # A pipe can be read only once, and may never end.
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise UserError(f"{self.path} is not a regular file; save the trace to one")
            with self.path.open("rb") as file:
                return file.read(64)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from None

    def blocks(self) -> Iterator[bytes]:
        """The uncompressed bytes in blocks of at most BLOCK_BYTES."""
        try:
            with self.path.open("rb") as file:
                raw = iter(lambda: file.read(BLOCK_BYTES), b"")
                yield from self._bounded(self._gunzip(raw) if self.compressed else raw)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from None

    def read(self) -> bytes:
        """All uncompressed bytes at once."""
        return b"".join(self.blocks())

    def _bounded(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        size = 0
        for block in blocks:
            size += len(block)
            if size > self.max_bytes:
                raise UserError(
                    f"{self.path} holds more than {self.max_bytes / 2**20:.0f} MiB uncompressed, "
                    "the limit here; record fewer steps"
                )
            yield block

    def _gunzip(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        decoder = zlib.decompressobj(wbits=31)
        consumed = produced = 0
        try:
            for block in blocks:
                consumed += len(block)
                while block:
                    if decoder.eof:
                        # Several gzip members are one stream; other bytes after the end are padding.
                        if not block.startswith(GZIP_MAGIC):
                            return
                        decoder = zlib.decompressobj(wbits=31)
                    out = decoder.decompress(block, BLOCK_BYTES)
                    block = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
                    produced += len(out)
                    if produced > max(RATIO_FREE_BYTES, MAX_RATIO * consumed):
                        raise UserError(
                            f"{self.path} grows more than {MAX_RATIO} times when uncompressed: refused as a "
                            "decompression bomb"
                        )
                    if out:
                        yield out
        except zlib.error as error:
            raise UserError(
                f"{self.path} is a damaged gzip file ({error}); copy or record it again"
            ) from None
        if not decoder.eof:
            self.cut_short = True
            tail = decoder.flush()
            if tail:
                yield tail
