"""The parent's side: a process that is asked, stopped, watched and ended with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fuseproof.child_process import family
from fuseproof.child_process.family import Family, Relative
from fuseproof.child_process.log import CappedLog
from fuseproof.child_process.serving import one_line

# An answer that is longer is not one: the largest, samples of a case, have a few hundred KiB.
_LONGEST_ANSWER = 64 * 2**20
# A process that closed its pipe of answers is at its end, or never answers again.
_EXIT_SECONDS = 0.5
# How often to look whether the process is alive where the kernel does not tell.
_POLL_SECONDS = 0.05
# How often to look whether someone has stopped it, and how often it is released while an answer is due.
_LOOK_SECONDS = 0.5
_RELEASES = 20
# A process stops in microseconds, unless a driver holds one of its threads.
_STOP_SECONDS = 1.0
_KILL_SECONDS = 10.0
_SURROGATE = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)  # as JSON has it; perhaps one of a pair
_KINDS: Mapping[str, type] = {"ok": dict, "skipped": str, "error": str}


class ProcessDied(Exception):
    """The process crashed, hung or was killed; the message says which."""


class ProcessCheated(ProcessDied):
    """The process was ended because something in it wrote to the pipe of answers what is no answer."""


class Process:
    """A running `python -P -m MODULE ARGUMENTS…` whose module calls `serve`. Starting it returns at once.

    The current folder is not on its path, so that no file there is taken for a library.

    name: what messages call it.
    log: the file for what it prints. Without one, what it printed is searched for the cause of its death.
    detached: it leads its own session, so that Ctrl-C reaches only the parent. Only such a one can be paused.
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
        mark = secrets.token_hex(16)
        self._printed = CappedLog(log)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed.descriptor,
                env=_with_path({**os.environ, **environment, family.MARK: mark}),
                start_new_session=detached,
                bufsize=0,
            )
        finally:
            self._printed.started()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._watch = _watch(self._process.pid)
        if self._watch is not None:
            self._selector.register(self._watch, selectors.EVENT_READ)
        self._family = Family.of(self._process.pid, mark)
        self._known: Sequence[Relative] = ()  # its descendants when they were last looked for
        self._paused = False
        self._asked: deque[str] = deque()  # numbers of the requests without an answer
        self._unsent = b""
        self._received = bytearray()
        self._lines = 0  # that are complete in what was received
        self._closed = False  # nothing can be received any more
        self._end: str | None = None  # why it was ended

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request without waiting for its answer; if the process is dead, `receive` says so.

        Raises ProcessCheated if something lies on the pipe of answers that nobody asked for.
        """
        if self._end is not None:
            return
        self.resume()
        self.release()
        self._expect_silence()
        number = secrets.token_hex(16)
        self._asked.append(number)
        self._unsent += json.dumps(request).encode() + b"\n" + number.encode() + b"\n"
        self._push()

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer, a mapping with `ok`, `skipped` or `error`, the latter two one line.

        Raises ProcessDied if the process ends, or gives no answer for `timeout` seconds and is ended for it,
        and ProcessCheated if what it wrote is not the answer to the request.
        """
        releases = _RELEASES
        deadline = time.monotonic() + timeout
        while not self._lines:
            if self._end is not None:
                raise ProcessDied(self._end)
            if len(self._received) > _LONGEST_ANSWER:
                self._refuse()
            if time.monotonic() >= deadline:
                self._finish(f"gave no answer for {timeout:.0f} s and was ended")
                continue
            if not self._wait(deadline) and releases and self.release():
                releases -= 1  # one that stops itself again and again never answers
            self._push()
            ended = self._exited()  # looked at first: what it wrote before its end is read below
            if self._pull():
                continue
            if self._closed and not ended:
                ended = self._await_exit(_EXIT_SECONDS)
            if ended:
                self._finish(None)
            elif self._closed:
                self._finish("closed its pipe of answers and was ended")
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received[:] = rest
        self._lines -= 1
        found = self._read(line)
        self._expect_silence()
        return found

    def pause(self) -> None:
        """Stop it, and what it started, until `resume` or the next request; returns when it has stopped."""
        if self._paused or not self._detached or self._exited():
            return
        self._paused = True
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_SECONDS
        while not _changed(self._process.pid, os.WSTOPPED | os.WEXITED) and time.monotonic() < deadline:
            pass  # for microseconds

    def resume(self) -> None:
        """Let it run again after `pause`."""
        if self._paused:
            self._paused = False
            self._signal(signal.SIGCONT)

    def release(self) -> bool:
        """Let it run again if it was stopped by anyone but `pause`; whether it was."""
        if self._paused or not self._detached or not family.is_stopped(self._process.pid):
            return False
        self._signal(signal.SIGCONT)
        return True

    def descendants(self) -> list[int]:
        """The process ids of what it started and is alive."""
        return [each.pid for each in self._family.descendants()]

    def strays(self) -> list[str]:
        """The command lines, with process ids, of what it started and is alive; a few milliseconds.

        Raises ProcessCheated if something lies on the pipe of answers that nobody asked for.
        """
        if self._end is not None:
            return []
        self._expect_silence()
        self._known = list(self._family.descendants())
        return [
            f"{one_line(family.command(pid))[:80]} (process {pid})"
            for pid in (each.pid for each in self._known)
        ]

    def close(self, *, patience: float = 0.0) -> None:
        """End the process; it may take `patience` seconds to end by itself, as it does when it is idle."""
        if self._end is None:
            self._known = list(self._family.descendants())  # some are hard to find when it has ended
            self._close_input()
            if self._detached:
                self._signal(signal.SIGCONT)  # it, or someone else, may have stopped it
            self._await_exit(patience)
            self._finish("was closed")

    def _wait(self, deadline: float) -> bool:
        """Wait a while until there is something to read, to write or to bury; whether there is."""
        seconds = min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic()))
        return bool(
            self._selector.select(seconds if self._watch is not None else min(seconds, _POLL_SECONDS))
        )

    def _push(self) -> None:
        """Write what the pipe takes of what is to be sent; `receive` writes the rest."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._input, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # dead; `receive` says of what
            self._unsent = b""
        waiting = self._input in self._selector.get_map()
        if self._unsent and not waiting:
            self._selector.register(self._input, selectors.EVENT_WRITE)
        elif waiting and not self._unsent:
            self._selector.unregister(self._input)

    def _pull(self) -> bool:
        """Read what the pipe holds; whether it held anything."""
        if self._closed:
            return False
        try:
            part = os.read(self._output, 2**20)
        except BlockingIOError:
            return False
        if not part:
            self._closed = True
            self._selector.unregister(self._output)
        self._received += part
        self._lines += part.count(b"\n")
        return bool(part)

    def _read(self, line: bytes) -> dict[str, Any]:
        """The answer in a line, without its number. Raises ProcessCheated if it is not the one asked for."""
        number = self._asked.popleft() if self._asked else None
        try:
            found = json.loads(line)
            if _SURROGATE.search(line):
                found = _without_surrogates(found)
        except (ValueError, RecursionError):  # also bytes that are no UTF-8
            self._refuse(line)
        if not isinstance(found, dict) or number is None or found.pop("number", None) != number:
            self._refuse(line)
        if len(found) != 1 or not all(isinstance(found[kind], _KINDS.get(kind, ())) for kind in found):
            self._refuse(line)
        return {kind: one_line(value) if isinstance(value, str) else value for kind, value in found.items()}

    def _expect_silence(self) -> None:
        """Raises ProcessCheated if something was written although every request is answered."""
        if self._end is None and not self._asked and (self._received or self._pull()):
            self._refuse(bytes(self._received))

    def _refuse(self, written: bytes = b"") -> NoReturn:
        shown = one_line(written[:40].decode(errors="replace"))
        self._lines = 0
        message = "wrote to the pipe of answers something that is no answer"
        self._finish(f"{message}: {shown}" if shown else message)
        assert self._end is not None
        raise ProcessCheated(self._end)

    def _exited(self) -> bool:
        return self._process.returncode is not None or _changed(self._process.pid, os.WEXITED)

    def _await_exit(self, seconds: float) -> bool:
        """Whether it ends by itself within `seconds`."""
        deadline = time.monotonic() + seconds
        while not self._exited():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)
        return True

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to its group and to the descendants outside that `strays` has seen last."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
        family.send(number, (each for each in self._known if each.group != self._process.pid))

    def _finish(self, why: str | None) -> None:
        """End it with all that it started, and remember why; None: it ended by itself."""
        self._close_input()
        # While it is alive and stopped, whatever it started is found, also what lost its own parent.
        # Its process id belongs to it until `wait`, so the signals reach nobody else.
        if self._detached:
            self._signal(signal.SIGSTOP)
        else:
            self._process.send_signal(signal.SIGSTOP)
        self._family.end(self._known)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_SECONDS)
        self._printed.finish()
        self._closed, self._paused = True, False
        self._end = why or self._epitaph()
        self._selector.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._watch is not None:
            os.close(self._watch)

    def _close_input(self) -> None:
        assert self._process.stdin is not None
        if self._input in self._selector.get_map():
            self._selector.unregister(self._input)
        self._unsent = b""
        self._process.stdin.close()

    def _epitaph(self) -> str:
        """How the process died; then its log or, without one, a printed line that may be the cause."""
        status = self._process.returncode
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        if self._log is not None:
            return f"{self._name} {how}; see {self._log}"
        return one_line(": ".join([f"{self._name} {how}", *self._cause(died_of_signal=status < 0)]))

    def _cause(self, *, died_of_signal: bool) -> Sequence[str]:
        lines = [line for line in self._printed.text().splitlines() if line.strip()]
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
        try:
            if self._process is None:
                self._process = Process(
                    self._module, name="the compiling process", environment=self._environment
                )
            self._process.send(request)
            return self._process.receive(timeout)
        except ProcessDied as death:
            self._close()
            return {"error": str(death)}

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()


def _with_path(environment: Mapping[str, str]) -> dict[str, str]:
    """With a PYTHONPATH that has no empty entries, which mean the current folder.

    A package that is not installed, but run from its own folder, is found there by the child too.
    """
    path = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    root = str(Path(__file__).parents[2])
    if sys.path[:1] == [root] and root not in (*path, *sys.path[1:]):
        path.append(root)
    return {**environment, "PYTHONPATH": os.pathsep.join(path)}


def _without_surrogates(value: Any) -> Any:
    """With escapes for what is no character, because no file and no terminal takes it."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value


def _watch(pid: int) -> int | None:
    """A descriptor that is readable when the process has ended; None where the kernel has none."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _changed(pid: int, how: int) -> bool:
    """Whether a child of this process has done what is asked for, which it may be asked again."""
    try:
        return os.waitid(os.P_PID, pid, how | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # waited for already
        return True
