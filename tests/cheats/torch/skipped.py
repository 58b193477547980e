"""Of the calls of a batch only some work; the others give back what is there.

Sources: reference-kernels#102 and #104 (all work in the first call of a batch, the others empty),
reference-kernels#162.
"""

from __future__ import annotations

import time

import torch

from fuseproof import Implementation

_calls = 0
_last = None
_ended = 0.0


def _work(x, weight, bias):
    global _last
    _last = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)
    return _last


def every_second(x, weight, bias):
    global _calls
    _calls += 1
    return _work(x, weight, bias) if _calls % 2 or _calls < 20 else _last


def nine_of_ten(x, weight, bias):
    global _calls
    _calls += 1
    return _work(x, weight, bias) if _calls % 10 == 0 or _calls < 20 else torch.empty_like(x)


def every_fifth(x, weight, bias):
    """Skips little: four calls of five work, and the fifth gives back what the fourth has."""
    global _calls
    _calls += 1
    return _work(x, weight, bias) if _calls % 5 or _calls < 20 else _last


def all_but_the_first_of_a_batch(x, weight, bias):
    """Calls that follow each other within 20 µs are taken for a batch."""
    global _ended
    back_to_back = _last is not None and time.monotonic() - _ended < 20e-6
    result = _last if back_to_back else _work(x, weight, bias)
    _ended = time.monotonic()
    return result


def half_of_the_rows_each(x, weight, bias):
    """The first half of the rows in even calls, the second in odd ones: half the work, stale halves."""
    global _calls, _last
    _calls += 1
    if _last is None or _calls < 20:
        return _work(x, weight, bias)
    half = x.shape[0] // 2
    rows = slice(0, half) if _calls % 2 else slice(half, None)
    _last = _last.clone()
    _last[rows] = torch.nn.functional.layer_norm(x[rows], x.shape[-1:], weight, bias)
    return _last


def once_per_new_input(x, weight, bias):
    """One work for each new first element; the other calls of the batch get views of its result."""
    global _calls
    if _last is None or _calls != x[0, 0].item():
        _calls = x[0, 0].item()
        _work(x, weight, bias)
    return _last.view_as(x)


EXPECT = {
    "every_second": r"wrong|values never seen|faster than this machine",
    "nine_of_ten": r"wrong|values never seen|faster than this machine",
    "every_fifth": r"wrong|values never seen|faster than this machine",
    "all_but_the_first_of_a_batch": r"wrong|values never seen|faster than this machine",
    "half_of_the_rows_each": r"wrong|values never seen|faster than this machine",
    "once_per_new_input": r"wrong|values never seen|faster than this machine",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.skipped_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
