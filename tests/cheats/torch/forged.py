"""Lines on the pipe that the worker answers by, and what else a file descriptor is good for.

Source: pygpubench#23 (file descriptors taken over).
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import torch

from fuseproof import Implementation

_ANSWER = json.dumps({"ok": {"wall": [1e-9, 1e-9, 1e-9], "errors": {"output": 0.0}, "bytes": 0}}).encode()
_calls = 0


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _pipes():
    """Descriptors of pipes that can be written to."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if int(path.name) > 2 and "pipe" in str(path.readlink()):
                yield int(path.name)


def _write(line):
    for fd in _pipes():
        with contextlib.suppress(OSError):
            os.write(fd, line)


def answers(x, weight, bias):
    """An answer of its own comes before the true one."""
    _write(_ANSWER + b"\n")
    return _honest(x, weight, bias)


def answers_later(x, weight, bias):
    """The same, from the 30th call on."""
    global _calls
    _calls += 1
    if _calls >= 30:
        _write(_ANSWER + b"\n")
    return _honest(x, weight, bias)


def half_a_line(x, weight, bias):
    """What follows becomes a part of another line."""
    _write(_ANSWER[:-1])
    return _honest(x, weight, bias)


def bytes_that_are_no_text(x, weight, bias):
    _write(b"\xff\xfe\x00not json\n")
    return _honest(x, weight, bias)


def descriptors_closed(x, weight, bias):
    """Closes every pipe and reopens the first as a file of its own."""
    for fd in list(_pipes()):
        os.close(fd)
    return _honest(x, weight, bias)


EXPECT = {
    "answers": r"pipe|answer",
    "answers_later": r"pipe|answer",
    "half_a_line": r"pipe|answer",
    "bytes_that_are_no_text": r"pipe|answer",
    "descriptors_closed": r"pipe|answer|exited|ended",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.forged_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
