"""The events of a Chrome trace JSON of any size, in lists of a few thousand; only one block is in memory.

A block is cut after an event and parsed alone. If the text from the start of an event to the cut parses as a
JSON list, the cut is between two events, whatever the strings contain; if not, a scan finds the right place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from fuseproof.errors import UserError

# A text with no complete event in this many bytes is not a trace.
MAX_EVENT_BYTES = 16 << 20
# Limit for the document before the list of events, and for that after it.
MAX_REST_BYTES = 64 << 20
_CHUNK_BYTES = 2 << 20
_SCAN_BYTES = 1 << 20
_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,(?=\s*\{)")
# Kineto escapes Windows paths wrongly in some versions.
_BAD_ESCAPE = re.compile(rb'(\\\\)|\\(?!["\\/bfnrtu])')
_TIME = re.compile(rb'("(?:ts|dur)"\s*:\s*)(-?[0-9][0-9.eE+-]*)')


class EventStream:
    """Iterates once over lists of events; afterwards `top` has the other keys of the document.

    Raises UserError, naming `name`, for a text that is not a trace.
    """

    def __init__(self, blocks: Iterable[bytes], name: str) -> None:
        self.name = name
        self.top: dict[str, Any] = {}
        self.cut_short = False
        self.quote_times = False  # give `ts` and `dur` as strings; a float would lose nanoseconds
        self._blocks = iter(blocks)
        self._buffer = b""
        self._ended = False  # the file
        self._done = False  # the list of events
        self._lenient = False
        self._offset = 0
        self._array = False

    def __iter__(self) -> Iterator[list[Any]]:
        self._open()
        while True:
            self._fill(_CHUNK_BYTES)
            if self._ended:
                yield from self._finish()
                return
            yield from self._next()
            if self._done:
                return

    def requoted(self) -> list[Any]:
        """The latest list again, with times as strings."""
        events = self._parse(_TIME.sub(rb'\1"\2"', self._latest))
        return events if isinstance(events, list) else events["traceEvents"]

    def _open(self) -> None:
        self._fill(_CHUNK_BYTES)
        # Whitespace of the first block only: stripping all of a long run could take forever.
        self._buffer = self._buffer.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not self._buffer:
            raise UserError(f"{self.name} is empty; record the trace again")
        if self._buffer[:1] == b"[":
            self._array = True
            self._advance(1)
            return
        if self._buffer[:1] != b"{":
            raise UserError(f"{self.name} is not JSON; give a Kineto (Chrome) trace")
        tried = 0
        while True:
            for found in list(_EVENTS_KEY.finditer(self._buffer))[tried : tried + 16]:
                tried += 1
                try:
                    self.top = self._loads(self._buffer[: found.start()] + b'"traceEvents":[]}')
                except ValueError:
                    continue  # the key is inside a string or a nested object
                self._advance(found.end())
                return
            if self._ended or len(self._buffer) >= MAX_REST_BYTES:
                raise UserError(f"{self.name} has no list `traceEvents`: not a Kineto (Chrome) trace")
            self._fill(2 * len(self._buffer))

    def _fill(self, size: int) -> None:
        parts, length = [self._buffer], len(self._buffer)
        while length < size and not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
            else:
                parts.append(block)
                length += len(block)
        self._buffer = b"".join(parts)

    def _advance(self, size: int) -> None:
        self._offset += size
        self._buffer = self._buffer[size:]

    def _next(self) -> Iterator[list[Any]]:
        """One list from the buffer, which does not have the end of the file yet."""
        if not self._lenient:
            window = max(0, len(self._buffer) - (64 << 10))
            for found in list(_BETWEEN.finditer(self._buffer, window))[-1:]:
                try:
                    events = self._strict(b"[" + self._buffer[: found.start() + 1] + b"]")
                except ValueError:
                    break
                self._advance(found.end())
                yield events
                return
        comma, end = self._scan()
        if end >= 0:
            yield from self._events(self._buffer[:end])
            self._advance(end)
            self._fill(MAX_REST_BYTES)
            self._trailer(self._buffer[1:])
            self._done = True
        elif comma >= 0:
            yield from self._events(self._buffer[:comma])
            self._advance(comma + 1)
        elif len(self._buffer) >= MAX_EVENT_BYTES:
            raise UserError(
                f"{self.name}: an event near byte {self._offset} is longer than {MAX_EVENT_BYTES >> 20} MiB; "
                "not a trace"
            )
        else:
            self._fill(2 * len(self._buffer))
            if self._ended:
                yield from self._finish()
                self._done = True

    def _finish(self) -> Iterator[list[Any]]:
        """The events in the rest of the file."""
        text = (b"[" if self._array else b'{"traceEvents":[') + self._buffer
        try:
            document = self._strict(text)
        except ValueError:
            pass
        else:
            events = document if self._array else document.pop("traceEvents")
            if not self._array:
                self.top.update(document)
            if isinstance(events, list):
                yield events
            return
        comma, end = self._scan()
        if end >= 0:
            yield from self._events(self._buffer[:end])
            self._trailer(self._buffer[end + 1 :])
            return
        self.cut_short = True
        if comma >= 0:
            yield from self._events(self._buffer[:comma])

    def _scan(self) -> tuple[int, int]:
        try:
            return scan(self._buffer)
        except ValueError:
            raise self._invalid() from None

    def _invalid(self) -> UserError:
        return UserError(f"{self.name} is not valid JSON near byte {self._offset}; copy or record it again")

    def _events(self, text: bytes) -> Iterator[list[Any]]:
        text = text.strip()
        text = text.removesuffix(b",")
        if text:
            yield self._parse(b"[" + text + b"]")

    def _trailer(self, text: bytes) -> None:
        if self._array:
            return
        try:
            self.top.update(self._loads(b'{"traceEvents":[]' + text))
        except ValueError:
            self.cut_short = True

    def _strict(self, text: bytes) -> Any:
        self._latest = text
        return orjson.loads(_TIME.sub(rb'\1"\2"', text) if self.quote_times else text)

    def _parse(self, text: bytes) -> Any:
        try:
            return self._strict(text)
        except ValueError:
            self._lenient = True
        try:
            return self._loads(_TIME.sub(rb'\1"\2"', text) if self.quote_times else text)
        except ValueError:
            raise self._invalid() from None

    def _loads(self, text: bytes) -> Any:
        """Parses strict JSON; else accepts NaN, Infinity, control characters, bad UTF-8 and bad escapes."""
        try:
            return orjson.loads(text)
        except ValueError:
            pass
        repaired = _BAD_ESCAPE.sub(lambda found: found[1] or rb"\\", text).decode("utf-8", "replace")
        try:
            return json.loads(repaired, strict=False)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def scan(text: bytes) -> tuple[int, int]:
    """Positions of the last comma between a list's elements and of the list's closing bracket, or -1.

    `text` starts at an element. Raises ValueError if the closing bracket is not `]`.
    """
    effect = np.zeros(256, np.int8)
    effect[[ord("{"), ord("[")]] = 1
    effect[[ord("}"), ord("]")]] = -1
    structural = effect != 0
    structural[ord(",")] = True
    plain = np.frombuffer(text.replace(rb"\\", b"  ").replace(rb"\"", b"  "), np.uint8)
    depth = quoted = 0
    comma = -1
    for begin in range(0, len(plain), _SCAN_BYTES):
        block = plain[begin : begin + _SCAN_BYTES]
        quotes = np.flatnonzero(block == ord('"'))
        places = np.flatnonzero(structural[block])
        places = places[(np.searchsorted(quotes, places) + quoted) % 2 == 0]  # outside strings
        quoted = (quoted + len(quotes)) % 2
        if len(places) == 0:
            continue
        depths = depth + np.cumsum(effect[block[places]], dtype=np.int64)
        below = np.flatnonzero(depths < 0)
        inside = int(below[0]) if len(below) else len(places)
        commas = places[:inside][(depths[:inside] == 0) & (block[places[:inside]] == ord(","))]
        if len(commas):
            comma = begin + int(commas[-1])
        if len(below):
            end = begin + int(places[inside])
            if plain[end] != ord("]"):
                raise ValueError("unbalanced brackets")
            return comma, end
        depth = int(depths[-1])
    return comma, -1
