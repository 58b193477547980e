"""A child process that answers requests, one line of JSON each way, and may crash without harm.

Frameworks and compilers abort the process on an internal error and print to standard output; in a child both
cost one answer. The child's side is `serve`. The parent's is `Process`, one process until it ends, or
`Child`, which starts another when one has died.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# Characters of a message; a compiler's may hold a whole program.
_LONGEST = 500


class PlainError(Exception):
    """An error whose message says all: the answer leaves out the name of its type."""


class ProcessDied(Exception):
    """The process crashed, hung or was killed; the message says which."""


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer every line of standard input until it ends; see `answer`."""
    # The answers get a separate pipe; everything else that is printed goes to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(handle, json.loads(line))), file=answers)


def answer(handle: Callable[[dict[str, Any]], dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:
    """`ok`: what `handle` returns; else one line, `skipped` for NotImplementedError, `error` for others."""
    try:
        return {"ok": handle(request)}
    except NotImplementedError as error:
        return {"skipped": one_line(str(error)) or "not implemented"}
    except PlainError as error:
        return {"error": one_line(str(error))}
    except Exception as error:
        return {"error": one_line(f"{type(error).__name__}: {error}")}


def one_line(text: str) -> str:
    """`text` in one line, cut after 500 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


class Process:
    """A running `python -m MODULE ARGUMENTS…` whose module calls `serve`. Starting it returns at once.

    name: what messages call it.
    log: the file for what it prints. Without one, what it printed is searched for the cause of its death.
    detached: it leads its own session, so that Ctrl-C reaches only the parent, which then ends it with
        all that it has started.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        name: str = "the process",
        environment: Mapping[str, str],
        log: Path | None = None,
        detached: bool = False,
    ) -> None:
        self._name = name
        self._log = log
        self._detached = detached
        self._printed: IO[bytes] = (  # closed with the process
            tempfile.TemporaryFile() if log is None else log.open("ab")  # noqa: SIM115
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env={**os.environ, **environment},
            start_new_session=detached,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._received = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request without waiting for its answer; if the process is dead, `receive` says so."""
        with contextlib.suppress(OSError):
            self._input.write(json.dumps(request).encode() + b"\n")
            self._input.flush()

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer, a mapping with `ok`, `skipped` or `error`.

        Raises ProcessDied if the process ends, or sends nothing for `timeout` seconds and is killed for it.
        """
        deadline = time.monotonic() + timeout
        while b"\n" not in self._received:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self._kill()
                raise ProcessDied(f"gave no answer for {timeout:.0f} s and was ended")
            part = os.read(self._output.fileno(), 1 << 20)
            if not part:
                raise ProcessDied(self._epitaph())
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        received: dict[str, Any] = json.loads(line)
        return received

    def close(self, *, patience: float = 0.0) -> None:
        """End the process; it may take `patience` seconds to end by itself, as it does when it is idle."""
        self._selector.close()
        for pipe in (self._input, self._output):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self._kill()
        self._printed.close()

    def _kill(self) -> None:
        if self._detached:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()

    def _epitaph(self) -> str:
        """How the process died; then its log or, without one, a printed line that may be the cause."""
        status = self._process.wait()
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        if self._log is not None:
            return f"{self._name} {how}; see {self._log}"
        return one_line(": ".join([f"{self._name} {how}", *self._cause(died_of_signal=status < 0)]))

    def _cause(self, *, died_of_signal: bool) -> Sequence[str]:
        self._printed.seek(0)
        text = self._printed.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        # A failed check of a compiler is marked F and followed by a stack trace; Python's error stands last.
        checks = [line for line in lines if re.match(r"F\d{4} |.*Check failed", line)]
        return checks[:1] or ([] if died_of_signal else lines[-1:])


class Child:
    """A compiler's `python -m MODULE`; a new one is started when a request finds none alive."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._module = module
        self._environment = environment
        self._process: Process | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def ask(self, request: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        """The answer, a mapping with `ok`, `error` or `skipped`; the death of the process is an `error`."""
        if self._process is None:
            self._process = Process(self._module, name="the compiling process", environment=self._environment)
        self._process.send(request)
        try:
            return self._process.receive(timeout)
        except ProcessDied as death:
            self._close()
            return {"error": str(death)}

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()
