"""The runner's side of a worker: start it, ask it, and survive its death."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fuseproof.child_process import Process, ProcessCheated, ProcessDied

START_TIMEOUT = 300.0

# An idle worker sees the end of its input within this time; a busy one is not worth waiting for.
_END_SECONDS = 0.5


class WorkerError(Exception):
    """The worker answered that the request failed; the message is for the report."""


class WorkerCheated(WorkerError):
    """The worker was ended because foreign code in it wrote to the pipe of answers; it needs a successor."""


class WorkerSkip(Exception):
    """The worker answered that it cannot do this here; the message is the reason."""


class WorkerDied(Exception):
    """The worker crashed, hung or was killed; the message says which, and it needs a successor."""


class WorkerProcess:
    """One worker. Creating it returns at once; `wait_ready` gives the framework's description."""

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
        log.parent.mkdir(parents=True, exist_ok=True)
        self._process = Process(module, framework, environment=environment, log=log, detached=True)
        self._process.send({"do": "start", "device": device, "threads": threads, "cpus": cpus})
        self._ready = False
        self._refusal: WorkerSkip | WorkerError | WorkerDied | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> dict[str, Any]:
        """The framework's description. Raises WorkerSkip, WorkerError or WorkerDied, the same each time."""
        if self._refusal is not None:
            raise self._refusal
        try:
            description = self._receive(START_TIMEOUT)
        except (WorkerSkip, WorkerError, WorkerDied) as refusal:
            self._refusal = refusal
            raise
        self._ready = True
        return description

    def ask(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
        """The answer to one request. Raises WorkerSkip, WorkerError or WorkerDied."""
        if not self._ready:
            self.wait_ready()
        with _as_worker_errors():
            self._process.send({"do": do, **arguments})
        return self._receive(timeout)

    def pause(self) -> None:
        """Stop the process and what it started, until `resume` or the next `ask`."""
        self._process.pause()

    def release(self) -> bool:
        """Let it run again if anyone else has stopped it; whether someone had."""
        return self._process.release()

    def resume(self) -> None:
        """Let it run again."""
        self._process.resume()

    def descendants(self) -> list[int]:
        """The process ids of what the worker started and is alive."""
        return self._process.descendants()

    def strays(self) -> list[str]:
        """What the worker started and is alive, by command line; empty for one that behaves.

        Raises WorkerCheated if something was written to the pipe of answers since the last answer.
        """
        with _as_worker_errors():
            return self._process.strays()

    def close(self) -> None:
        """End the process, if need be by force."""
        self._process.close(patience=_END_SECONDS)

    def _receive(self, timeout: float) -> dict[str, Any]:
        with _as_worker_errors():
            answer = self._process.receive(timeout)
        if "skipped" in answer:
            raise WorkerSkip(answer["skipped"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["ok"]  # type: ignore[no-any-return]


@contextlib.contextmanager
def _as_worker_errors() -> Iterator[None]:
    try:
        yield
    except ProcessCheated as cheating:
        raise WorkerCheated(str(cheating)) from None
    except ProcessDied as death:
        raise WorkerDied(str(death)) from None
