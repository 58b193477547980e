"""Right while it is looked at, then anything: after so many calls, after a while, in the stage that times.

Sources: KernelBench#165, reference-kernels#160, pygpubench#7 (the stage recognised by what surrounds it).
"""

from __future__ import annotations

import os
import sys
import time

import torch

from fuseproof import Implementation

_calls = 0
_started = time.monotonic()
_zeros = None
_seen: set[int] = set()


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _nothing(x):
    global _zeros
    if _zeros is None:
        _zeros = torch.zeros_like(x)
    return _zeros


def after_50_calls(x, weight, bias):
    global _calls
    _calls += 1
    return _honest(x, weight, bias) if _calls <= 50 else _nothing(x)


def after_half_a_second(x, weight, bias):
    """Half a second after the process has loaded it."""
    return _honest(x, weight, bias) if time.monotonic() - _started < 0.5 else _nothing(x)


def in_the_timed_stage(x, weight, bias):
    """Recognises the stage by a variable that its processes get."""
    timed = os.environ.get("TORCHINDUCTOR_COMPILE_THREADS") == "1"
    return _nothing(x) if timed else _honest(x, weight, bias)


def in_a_loop(x, weight, bias):
    """Recognises the timed loop by the name of a function on the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "batch":
            return _nothing(x)
        frame = frame.f_back
    return _honest(x, weight, bias)


def for_inputs_seen_before(x, weight, bias):
    """Right when it meets memory for the first time, as a check does that makes its own inputs."""
    if x.data_ptr() in _seen:
        return _nothing(x)
    _seen.add(x.data_ptr())
    return _honest(x, weight, bias)


EXPECT = {
    "after_50_calls": r"wrong",
    "after_half_a_second": r"wrong",
    "in_the_timed_stage": r"wrong",
    "in_a_loop": r"wrong|looked at what times it",
    "for_inputs_seen_before": r"wrong",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.garbage_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
