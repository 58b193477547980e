"""How long a worker and the runner waited for a CPU because other programs used it, by the kernel's account.

A worker's clock cannot be believed, and the runner's is late where a message waits for a CPU. Nobody can
forge what the kernel says of a thread's waiting, but a worker could keep the CPUs busy itself, so that it has
to wait: only as much counts as others could have used of them meanwhile, and nothing where the kernel's
account of the CPUs says that no others ran.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Less is not worth looking for what a worker has started: a message takes about as long.
_LITTLE = 2e-4
# Others that use less of a CPU than this, on average, make nobody wait.
_OF_A_CPU = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Account:
    """The kernel's account of a worker's main thread and of the thread that asks, at one moment, in seconds.

    queued: since they began, the time that the two were ready to run and did not.
    used:   CPU time of the runner and of the worker, by process.
    busy:   of all CPUs, in steps of a hundredth of a second.
    """

    queued: float
    used: Mapping[int, float]
    busy: float = 0.0

    @classmethod
    def of(cls, worker: int, more: Iterable[int] = ()) -> Account:
        """Of the worker with that process id; `more`: processes that it started."""
        runner = threading.get_native_id()
        queued = _queued(f"/proc/{worker}/schedstat") + _queued(f"/proc/self/task/{runner}/schedstat")
        used = {process: _used(process) for process in (worker, *more)}
        return cls(queued=queued, used={0: time.process_time(), **used}, busy=_busy())


@dataclass(kw_only=True)
class Others:
    """How much others used the CPUs while legs ran: over all, as one is too short for that account."""

    seconds: float = 0.0
    used: float = 0.0

    def note(self, before: Account, after: Account, seconds: float) -> None:
        self.seconds += seconds
        self.used += after.busy - before.busy - own_use(before, after)

    @property
    def are_there(self) -> bool:
        return self.used > _OF_A_CPU * self.seconds


def own_use(before: Account, after: Account) -> float:
    """CPU time of the runner, the worker and what it started, between the two accounts."""
    return sum(used - before.used.get(process, 0.0) for process, used in after.used.items())


def waited(before: Account, after: Account, seconds: float, cpus: int) -> float:
    """Seconds between the two accounts, `seconds` apart, in which others had the CPU that was waited for.

    cpus: how many the worker may use.
    """
    return max(0.0, min(after.queued - before.queued, cpus * seconds - own_use(before, after)))


def is_worth_a_look(before: Account, after: Account) -> bool:
    """Whether it waited so long that what it has started must be counted too."""
    return after.queued - before.queued > _LITTLE


def _queued(place: str) -> float:
    """0 where the kernel keeps no account."""
    try:
        return 1e-9 * int(Path(place).read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0


def _busy() -> float:
    """Seconds that all CPUs have worked, also for other guests of the host; 0 where that is not told."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _used(process: int) -> float:
    """CPU time of all threads of a process; 0 if it is gone."""
    try:
        return time.clock_gettime((~process << 3) | 2)  # as clock_getcpuclockid(3) of Linux makes it
    except OSError:
        return 0.0
