"""The descendants of a child process, also those that left its process group; on Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# An environment variable that a child process and all that it starts have.
MARK = "FUSEPROOF_CHILD"

_PROC = Path("/proc")
# A killed process is gone in milliseconds, unless a driver holds it; then waiting does not help.
_END_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A process: its ids, and clock ticks from boot to its start."""

    pid: int
    parent: int
    group: int
    session: int
    started: int


@dataclass(frozen=True, kw_only=True)
class Family:
    """A child process and what it started.

    pid:     of the child, which need not be alive.
    mark:    its value of MARK, like no other's.
    started: clock ticks from boot to its start: nothing older belongs to it.
    """

    pid: int
    mark: str
    started: int

    @classmethod
    def of(cls, pid: int, mark: str) -> Family:
        found = _read(pid)
        return cls(pid=pid, mark=mark, started=found.started if found else 0)

    def descendants(self) -> Iterator[Relative]:
        """Living processes that the child started, directly or not; a few milliseconds.

        By their parents, their group and session, and their environment: to be missed, a process has to leave
        the session, empty its environment and see the child die.
        """
        marked = f"{MARK}={self.mark}".encode()
        children: dict[int, list[Relative]] = defaultdict(list)
        found: dict[int, Relative] = {}
        for each in _all():
            if each.pid in (self.pid, os.getpid()):
                continue
            children[each.parent].append(each)
            if self.pid in (each.parent, each.group, each.session) or (
                each.started >= self.started and marked in _environment(each.pid)
            ):
                found[each.pid] = each
                yield each  # at once: it may fork and end in the next moment
        unvisited = list(found)
        while unvisited:
            new = [each for each in children.pop(unvisited.pop(), ()) if each.pid not in found]
            found.update((each.pid, each) for each in new)
            unvisited += [each.pid for each in new]
            yield from new

    def end(self, known: Iterable[Relative] = ()) -> None:
        """Kill the descendants, and those of `known` that are alive.

        The child should be stopped, not dead: while it is there, all are found.
        """
        remaining = list(known)  # without a parent they may be found in no other way, so they are waited for
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline:
            found = send(signal.SIGKILL, self.descendants())
            remaining = [each for each in remaining if _is_alive(each)]
            if not send(signal.SIGKILL, remaining) and not found:
                return
            time.sleep(0.001)


def send(number: signal.Signals, processes: Iterable[Relative]) -> int:
    """Send a signal to those that are alive. Returns how many there were, alive or not."""
    count = 0
    for each in processes:
        count += 1
        if _is_alive(each):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each.pid, number)
    return count


def is_stopped(pid: int) -> bool:
    """Whether a process stands still by a signal."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


def command(pid: int) -> str:
    """The command line of a process, empty if it has ended."""
    try:
        text = _PROC.joinpath(str(pid), "cmdline").read_bytes()
    except OSError:
        return ""
    return text.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def _all() -> Iterator[Relative]:
    """Every process that is not a zombie."""
    try:
        names = os.listdir(_PROC)  # noqa: PTH208 - names are all that is needed, of hundreds of processes
    except OSError:
        return
    for name in names:
        if name.isdecimal() and (entry := _read(int(name))) is not None:
            yield entry


def _read(pid: int) -> Relative | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - a third faster than Path
            text = file.read()
    except OSError:
        return None
    # The name of the program stands in parentheses and may hold any character.
    state, parent, group, session, *more = text.rpartition(b")")[2].split()
    if state in (b"Z", b"X"):
        return None
    return Relative(
        pid=pid, parent=int(parent), group=int(group), session=int(session), started=int(more[15])
    )


def _is_alive(process: Relative) -> bool:
    """Whether it is; another process may have the id of one that has ended."""
    found = _read(process.pid)
    return found is not None and found.started == process.started


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:  # ended, or another user's
        return b""
