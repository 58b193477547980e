"""Others are disturbed while they are timed: cores, memory and caches are taken, processes are slowed.

Sources: KernelBench#165, arXiv 2606.08960. None of them makes its own number better; `None` says that the row
may be measured, as long as its neighbours' numbers are those of a run without it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import torch

from fuseproof import Implementation

_kept: list[object] = []
# A minute, so that no failed defence leaves them on the machine for good.
_SPIN = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def spinning_threads(x, weight, bias):
    """Two threads that never rest and do without the interpreter's lock most of the time."""
    if not _kept:
        data = torch.ones(256, 256)

        def spin():
            while True:
                torch.mm(data, data)

        for _ in range(2):
            _kept.append(thread := threading.Thread(target=spin, daemon=True))
            thread.start()
    return _honest(x, weight, bias)


def child_that_spins(x, weight, bias):
    if not _kept:
        _kept.append(subprocess.Popen([sys.executable, "-c", _SPIN]))
    return _honest(x, weight, bias)


def daemon_that_spins(x, weight, bias):
    """Leaves session and group, and its parent ends at once: nobody's child."""
    if not _kept:
        _kept.append(True)
        code = f"import os\nif os.fork(): os._exit(0)\nos.setsid()\n{_SPIN}"
        subprocess.run([sys.executable, "-c", code], check=True)
    return _honest(x, weight, bias)


def memory(x, weight, bias):
    """A gibibyte, written so that it is there."""
    if not _kept:
        _kept.append(torch.ones(2**28))
    return _honest(x, weight, bias)


def _siblings():
    """The other processes that the same runner has started; those of other runs are left alone."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getppid() and int(path.name) != os.getpid():
            yield int(path.name)


def niceness_of_others(x, weight, bias):
    """Every other worker of this run, and the referee, get the lowest priority."""
    for pid in _siblings():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, 19)
    return _honest(x, weight, bias)


def affinity_of_others(x, weight, bias):
    """All threads of every other worker are put on the last core, where they crowd."""
    last = {max(range(os.cpu_count() or 1))}
    for pid in _siblings():
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), last)
    return _honest(x, weight, bias)


def others_stopped(x, weight, bias):
    """A neighbour that is sent SIGSTOP in a timed leg looks slow in its own, or dead."""
    _kept.append(True)
    if len(_kept) > 50 and os.environ.get("TORCHINDUCTOR_COMPILE_THREADS") == "1":
        for pid in _siblings():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
    return _honest(x, weight, bias)


EXPECT = {
    "spinning_threads": None,
    "child_that_spins": None,
    "daemon_that_spins": None,
    "memory": None,
    "niceness_of_others": r"changed the CPU affinity or the priority of",
    "affinity_of_others": r"changed the CPU affinity or the priority of",
    "others_stopped": r"stopped the process of",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.neighbours_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
