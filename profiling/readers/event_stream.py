"""The events of a Chrome trace JSON of any size, in lists of a few thousand: memory stays that of one block.

A block is cut after an event and parsed alone. If the text from the start of an event to the cut parses as a
JSON list, the cut is between two events, whatever the strings hold; if not, a scan finds the right place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from fuseproof.errors import UserError

# More than this without a complete event is not a trace.
MAX_EVENT_BYTES = 16 << 20
# What stands before and after the list of events.
MAX_REST_BYTES = 64 << 20
_CHUNK_BYTES = 2 << 20
_SCAN_BYTES = 1 << 20
_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,(?=\s*\{)")
# Kineto escapes Windows paths wrongly in some versions.
_BAD_ESCAPE = re.compile(rb'(\\\\)|\\(?!["\\/bfnrtu])')
_TIME = re.compile(rb'("(?:ts|dur)"\s*:\s*)(-?[0-9][0-9.eE+-]*)')


class EventStream:
    """Iterate over it once: lists of events. Afterwards `top` has the other keys of the document."""

    def __init__(self, blocks: Iterable[bytes], name: str) -> None:
        self.name = name
        self.top: dict[str, Any] = {}
        self.cut_short = False
        self.quote_times = False  # give `ts` and `dur` as strings, where a float would lose nanoseconds
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
        # Whitespace only within the first block: more is no trace, and stripping it all could go on for long.
        self._buffer = self._buffer.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not self._buffer:
            raise UserError(f"{self.name} is empty; record the trace again")
        if self._buffer[:1] == b"[":
            self._array = True
            self._advance(1)
            return
        if self._buffer[:1] != b"{":
            raise UserError(f"{self.name} is not JSON; expected a Kineto trace")
        tried = 0
        while True:
            for found in list(_EVENTS_KEY.finditer(self._buffer))[tried : tried + 16]:
                tried += 1
                try:
                    self.top = self._loads(self._buffer[: found.start()] + b'"traceEvents":[]}')
                except ValueError:
                    continue  # the key inside a string or a nested object
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
        """One list from the buffer, which does not yet hold the end of the file."""
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
        """The rest of the file."""
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
        """As strict JSON; else with NaN, Infinity, bare control characters, bad UTF-8 and bad escapes."""
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
    """Where a list's elements end: position of the last comma between them and of the closing bracket.

    `text` starts at an element. -1 where there is none; ValueError where another bracket closes than opened.
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
