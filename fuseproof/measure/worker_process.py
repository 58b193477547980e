"""The runner's side of a worker: start it, ask it, and survive its death."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_TIMEOUT = 300.0


class WorkerError(Exception):
    """The worker answered that the request failed; the message is for the report."""


class WorkerSkip(Exception):
    """The worker answered that it cannot do this here; the message is the reason."""


class WorkerDied(Exception):
    """The worker crashed, hung or was killed; the message says which, and it needs a successor."""


class WorkerProcess:
    """One worker. `start` returns at once; `wait_ready` gives the framework's description."""

    def __init__(
        self,
        framework: str,
        *,
        device: str,
        threads: int,
        cpus: list[int],
        environment: Mapping[str, str],
        log: Path,
        module: str = "fuseproof.measure.worker",
    ) -> None:
        self.framework = framework
        settings = json.dumps({"device": device, "threads": threads, "cpus": cpus})
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("ab") as stderr:
            # A session of its own: Ctrl-C reaches the runner alone, which then ends its workers in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, framework, settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._buffer = b""
        self._ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> dict[str, Any]:
        """The framework's description. Raises WorkerSkip, WorkerError or WorkerDied."""
        description = self._read(START_TIMEOUT)
        self._ready = True
        return description

    def ask(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
        """The answer to one request. Raises WorkerSkip, WorkerError or WorkerDied."""
        if not self._ready:
            self.wait_ready()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerDied(self._epitaph()) from None
        return self._read(timeout)

    def close(self) -> None:
        """End the process, if need be by force."""
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            # An idle worker sees the end of its input; a busy one is not worth waiting for.
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self._kill()
                raise WorkerDied(f"gave no answer for {timeout:.0f} s and was ended")
            assert self._process.stdout is not None
            chunk = os.read(self._process.stdout.fileno(), 1 << 20)
            if not chunk:
                raise WorkerDied(self._epitaph())
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if "skipped" in answer:
            raise WorkerSkip(answer["skipped"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["ok"]  # type: ignore[no-any-return]

    def _epitaph(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"the process died of {signal.Signals(-code).name}; see {self._log}"
        return f"the process exited with status {code}; see {self._log}"
