"""The harness's frames are read, or written to: which call counts, who is asking, what is waited for.

Sources: an adversary's review of Fuseproof; pygpubench#7 (the stage recognised by what surrounds it).
"""

from __future__ import annotations

import json
import operator
import os
import sys
import time

import numpy as np
import torch

from fuseproof import Implementation

_clock, _started, _copyto = time.perf_counter, time.perf_counter(), np.copyto
_last: torch.Tensor | None = None
_leg, _calls, _forged = None, 0, False


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _work(x, weight, bias):
    global _last
    _last = _honest(x, weight, bias)
    return _last


def _callers():
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _callers_by_an_error():
    """The same without asking for a frame: an error has one."""
    try:
        raise LookupError
    except LookupError as error:
        frame = error.__traceback__.tb_frame
    while frame is not None:
        yield frame
        frame = frame.f_back


def unguarded(x, weight, bias):
    """The worker forgets whom to compare its process with; then the clock runs slow."""
    for frame in _callers_by_an_error():
        worker = frame.f_locals.get("self")
        if type(worker).__name__ == "Worker" and worker._guard is not None:
            worker._guard = None
            sys.modules["fuseproof.frameworks.torch"]._clock = lambda: _started + (_clock() - _started) / 4
    return _honest(x, weight, bias)


def only_the_call_that_is_looked_at(x, weight, bias):
    """The round and the call whose result is kept stand in a local variable."""
    global _leg, _calls
    armed = next(
        (frame.f_locals["armed"] for frame in _callers_by_an_error() if "armed" in frame.f_locals), None
    )
    if armed is None or _last is None:
        return _work(x, weight, bias)
    if armed is not _leg:
        _leg, _calls = armed, 0
    _calls += 1
    looked_at = armed.part[0] * armed.calls + armed.part[1]
    return _work(x, weight, bias) if _calls == looked_at else _last


def only_the_last_call(x, weight, bias):
    """The loop's iterator tells how many calls are left."""
    calls = sys._getframe(1).f_locals.get("calls")
    if _last is None or calls is None or operator.length_hint(calls) == 0:
        return _work(x, weight, bias)
    return _last


def number_of_the_request(x, weight, bias):
    """The secret number waits in the buffer of the requests; an answer of its own carries it."""
    global _forged
    timed = False
    for frame in _callers():
        timed |= frame.f_code.co_name == "time"
        if timed and not _forged and "readline" in frame.f_locals and "answers" in frame.f_locals:
            _forged = True
            number = frame.f_locals["readline"].__self__.peek(64).decode().strip()
            line = json.dumps({"number": number, "ok": {"wall": [1e-7] * 3, "compilations": 0}})
            os.write(frame.f_locals["answers"], f"{line}\n".encode())
    return _honest(x, weight, bias)


def before_the_clock(x, weight, bias):
    """When single calls are due, the work is done while their inputs are written."""
    global _last
    if not any(frame.f_code.co_name == "inspect" for frame in _callers()):
        return _work(x, weight, bias)

    def copy_and_work(*arguments, **named):
        _copyto(*arguments, **named)
        _work(x, weight, bias)

    result, _last = (_honest(x, weight, bias) if _last is None else _last), None
    np.copyto = copy_and_work
    return result


LOOKED = r"looked at what times it"
EXPECT = {
    "unguarded": r"looked at what times it|compared nothing with how it was before",
    "only_the_call_that_is_looked_at": LOOKED,
    "only_the_last_call": LOOKED,
    "number_of_the_request": LOOKED,
    "before_the_clock": LOOKED,
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.frames_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
