"""The work of the timed calls is done before, in calls that no clock counts, or in calls that are looked at.

Sources: pygpubench#7 (warm-up recognised by pointers), reference-kernels#104, KernelBench#165.
"""

from __future__ import annotations

import sys
import time

import torch

from fuseproof import Implementation

_results: dict[int, torch.Tensor] = {}
_ended = 0.0
_first: float | None = None


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def results_kept_from_it(x, weight, bias):
    """A pause of a millisecond before a call says that a new leg begins; then everything is computed anew."""
    global _ended
    if time.monotonic() - _ended > 1e-3 or x.data_ptr() not in _results:
        _results.clear()
        _results[x.data_ptr()] = _honest(x, weight, bias)
    _ended = time.monotonic()
    return _results[x.data_ptr()]


def results_kept_for_new_values(x, weight, bias):
    """Computed when the first element of the input is new, which it is in the warm-up of a leg."""
    global _first
    if (first := x[0, 0].item()) != _first:
        _first, _results[0] = first, _honest(x, weight, bias)
    return _results[0]


def callers_line(x, weight, bias):
    """The line of the caller tells warm-up and timing apart: the one that calls most often is timed."""
    frame = sys._getframe(1)
    line = (frame.f_code.co_filename, frame.f_lineno)
    _lines[line] = _lines.get(line, 0) + 1
    if _results and _lines[line] > 10 and _lines[line] == max(_lines.values()):
        return _results[0]
    _results[0] = _honest(x, weight, bias)
    return _results[0]


_lines: dict[tuple[str, int], int] = {}


def work_of_a_profiled_call(x, weight, bias):
    """Works while a profiler looks, and in the first calls."""
    _lines[("", 0)] = _lines.get(("", 0), 0) + 1
    if torch.autograd.profiler._is_profiler_enabled or _lines[("", 0)] < 30:
        return _honest(x, weight, bias)
    return torch.zeros_like(x)


BEFORE = r"wrong|values never seen|faster than this machine"
EXPECT = {
    "results_kept_from_it": BEFORE,
    "results_kept_for_new_values": BEFORE,
    "callers_line": BEFORE + r"|looked at what times it",
    "work_of_a_profiled_call": BEFORE,
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.warmup_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
