"""The process ends, is exchanged or stands still, and nobody is there to give a true answer.

Sources: pygpubench#23 (work at exit, with the descriptors that are left), KernelBench#165.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import torch

from fuseproof import Implementation

_calls = 0


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _late():
    global _calls
    _calls += 1
    return _calls > 30


def exits(x, weight, bias):
    if _late():
        os._exit(0)
    return _honest(x, weight, bias)


def forks_and_exits(x, weight, bias):
    """The parent ends, a child of the same memory keeps the pipe open and goes on."""
    if _late() and os.fork():
        os._exit(0)
    return _honest(x, weight, bias)


def becomes_another(x, weight, bias):
    """`exec` keeps the process and its descriptors, and replaces everything in it."""
    if _late():
        code = 'import sys; [print(\'{"ok": {"wall": [1e-9]}}\', flush=True) for _ in sys.stdin]'
        os.execv(sys.executable, [sys.executable, "-c", code])
    return _honest(x, weight, bias)


def raises_system_exit(x, weight, bias):
    if _late():
        raise SystemExit(0)
    return _honest(x, weight, bias)


def raises_interrupt(x, weight, bias):
    """Ctrl-C, which Python programs take for the user's."""
    if _late():
        raise KeyboardInterrupt
    return _honest(x, weight, bias)


def aborts(x, weight, bias):
    if _late():
        os.kill(os.getpid(), signal.SIGABRT)
    return _honest(x, weight, bias)


def a_forked_child_computes(x, weight, bias):
    """The child computes into shared memory while the parent has answered already."""
    if not _late():
        return _honest(x, weight, bias)
    out = torch.empty_like(x).share_memory_()
    if os.fork() == 0:
        out.copy_(_honest(x, weight, bias))
        os._exit(0)
    return out


def _is_inspected():
    """Whether a result was handed over just now: a call that comes after that is no timed one."""
    recent = time.time() - 0.05
    for path in Path("/dev/shm").glob(f"fuseproof-results-{os.getppid()}-*/*.bin"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime > recent:
                return True
    return False


def exits_when_inspected(x, weight, bias):
    """Garbage while it is timed, and no process is left to be asked about it."""
    if os.environ.get("TORCHINDUCTOR_COMPILE_THREADS") != "1":
        return _honest(x, weight, bias)
    if _is_inspected():
        os._exit(0)
    return torch.zeros_like(x)


DIED = r"exited|died of|closed its pipe|gave no answer|SystemExit|KeyboardInterrupt|inspected"
EXPECT = {
    "exits": DIED,
    "forks_and_exits": DIED,
    "becomes_another": DIED,
    "raises_system_exit": DIED,
    "raises_interrupt": DIED,
    "aborts": DIED,
    "a_forked_child_computes": r"is wrong|was not there yet|exited|gave no answer|inspected",
    "exits_when_inspected": r"while it was inspected, |is wrong",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.processes_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
