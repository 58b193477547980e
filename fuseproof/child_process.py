"""A child process that answers requests, one line of JSON each way, and may crash without harm.

Compilers abort the process on an internal error and print what they like to standard output; here both happen
where they cost one answer. The child's side is `serve`, the parent's `Child`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST = 300  # characters of a message; a compiler's may hold a whole program


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer every line of standard input with `{"ok": handle(request)}`, or `error` or `skipped`."""
    # The answers get a pipe of their own; what else is printed goes to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"ok": handle(json.loads(line))}
        except NotImplementedError as error:
            answer = {"skipped": one_line(str(error)) or "not implemented"}
        except Exception as error:
            answer = {"error": one_line(f"{type(error).__name__}: {error}")}
        print(json.dumps(answer), file=answers)


def one_line(text: str) -> str:
    """`text` in one line, cut where a compiler's message begins to repeat the program."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


class Child:
    """A process running `python -m MODULE`; a new one is started when a request finds none alive."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._module = module
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def ask(self, request: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        """The answer: a mapping with `ok`, `error` or `skipped`."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            return {"error": self._epitaph()}
        line = self._read_line(timeout)
        if line is None:
            self._end()
            return {"error": f"gave no answer for {timeout:.0f} s and was ended"}
        if not line:
            return {"error": self._epitaph()}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=self._environment,
        )

    def _read_line(self, timeout: float) -> bytes | None:
        """One line; empty if the process has ended, None if it took too long."""
        assert self._process is not None and self._process.stdout is not None
        pipe, line = self._process.stdout, b""
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                part = os.read(pipe.fileno(), 1 << 20)
                if not part:
                    return b""
                line += part
        return line

    def _epitaph(self) -> str:
        """Why the process died: its signal or exit status, and what it said that may be the cause."""
        assert self._process is not None
        status = self._process.wait()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._stderr.seek(0)
        printed = [line for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        self._end()
        # A failed check of a compiler is marked F and followed by a stack trace; Python's error stands last.
        causes = [line for line in printed if re.match(r"F\d{4} |.*Check failed", line)][:1]
        causes = causes or (printed[-1:] if status > 0 else [])
        return one_line(": ".join([f"the compiling process {how}", *causes]))

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdout.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
        self._stderr.close()
