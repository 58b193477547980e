"""The harness's own code is found in the process and given other functions, or other arguments.

Sources: reference-kernels#159 to #162, pygpubench#7, KernelBench#165.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import sys
import time

import torch
from torch._dynamo.utils import counters

from fuseproof import Implementation

_FAST = {"wall": [1e-7, 1e-7, 1e-7], "compilations": 0}
_dumps = json.dumps
_done = False
_fastest = float("inf")


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _worker():
    return next(each for each in gc.get_objects() if type(each).__name__ == "Worker")


def methods_of_the_worker(x, weight, bias):
    global _done
    if not _done:
        _done = True
        worker = _worker()
        type(worker).time = lambda self, **_: dict(_FAST)
        worker.time = lambda **_: dict(_FAST)
    return _honest(x, weight, bias)


def functions_of_the_framework(x, weight, bias):
    """`batch` of the framework's module calls once and divides by many."""
    module = sys.modules["fuseproof.frameworks.torch"]
    if not hasattr(module, "_batch"):
        module._batch = batch = module.batch

        def fast(*arguments):
            host, *rest = batch(*arguments)
            return (host / 10, *rest)

        module.batch = fast
    return _honest(x, weight, bias)


def synchronisation(x, weight, bias):
    torch.cuda.synchronize = lambda *_: None
    sys.modules["fuseproof.frameworks.torch"].synchronize = lambda *_: None
    return _honest(x, weight, bias)


def answers_in_json(x, weight, bias):
    """Every number in an answer is made small on its way out."""

    def small(value):
        if isinstance(value, float):
            return min(value, 1e-7)
        if isinstance(value, dict):
            return {key: small(each) for key, each in value.items()}
        return [small(each) for each in value] if isinstance(value, list | tuple) else value

    json.dumps = lambda value, *_, **named: _dumps(small(value), **named)
    json.JSONEncoder.encode = lambda self, value: _dumps(small(value))
    return _honest(x, weight, bias)


def writing(x, weight, bias):
    """Every line that leaves the process goes through `os.write`, or a file's own method."""
    if not hasattr(os, "_write"):
        os._write = os.write
        os.write = lambda fd, data: os._write(fd, data.replace(b"e-0", b"e-1"))
    return _honest(x, weight, bias)


def checks(x, weight, bias):
    """The error of any result is 0."""
    for name in ("relative_rms", "judge"):
        if (module := sys.modules.get("fuseproof.measure.checks")) is not None and hasattr(module, name):
            module.relative_rms = lambda *_: 0.0
    return torch.zeros_like(x)


def arguments_on_the_stack(x, weight, bias):
    """Walks up to the loop and tells it that it is through."""
    frame = sys._getframe(1)
    while frame is not None:
        if "fuseproof" in frame.f_code.co_filename and "calls" in frame.f_locals:
            local = frame.f_locals
            if isinstance(local["calls"], int):
                local["calls"] = local["calls"] * 10
            elif isinstance(local["calls"], itertools.repeat):
                for _ in itertools.islice(local["calls"], 1_000_000):
                    pass
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
        frame = frame.f_back
    return _honest(x, weight, bias)


def the_iterator_of_the_calls(x, weight, bias):
    """Exhausts the iterator that the loop runs over: one call is made, and many are paid for."""
    if not _done:
        for each in gc.get_objects():
            if isinstance(each, itertools.repeat):
                for _ in itertools.islice(each, 1_000_000):
                    pass
    return _honest(x, weight, bias)


def tracing(x, weight, bias):
    """A trace function sees every line of the harness, and skips what it likes."""
    sys.setprofile(lambda *_: None)
    return _honest(x, weight, bias)


def collection_of_garbage(x, weight, bias):
    """Work in a callback of the garbage collector, which the harness may run outside the clock."""
    out = torch.empty_like(x)

    class Later:
        def __del__(self):
            out.copy_(_honest(x, weight, bias))

    later = Later()
    later.itself = later  # freed by the collector only
    return out


def counter_of_compilations(x, weight, bias):
    """A leg in which something was compiled is taken again: those with a slow call are to be."""
    global _fastest
    started = time.perf_counter()
    result = _honest(x, weight, bias)
    seconds = time.perf_counter() - started
    if seconds > 1.02 * _fastest:
        counters["frames"]["total"] += 1
    _fastest = min(_fastest, seconds)
    return result


HARNESS = r"replaced |looked at what times it|changed the process that it is timed in"
EXPECT = {
    "methods_of_the_worker": HARNESS,
    "functions_of_the_framework": HARNESS,
    "synchronisation": HARNESS,
    "answers_in_json": HARNESS,
    "writing": HARNESS,
    "checks": r"is wrong",
    "arguments_on_the_stack": HARNESS,
    "the_iterator_of_the_calls": HARNESS,
    "tracing": HARNESS,
    "collection_of_garbage": r"is wrong|was not there yet",
    "counter_of_compilations": r"it was compiled again in",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.harness_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
