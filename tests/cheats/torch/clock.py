"""The clock runs slow, or what is computed from it does.

Sources: reference-kernels#159 (`Event.elapsed_time` patched), #160 (statistics patched), KernelBench#165.
"""

from __future__ import annotations

import builtins
import gc
import itertools
import statistics
import sys
import time

import numpy as np
import torch

from fuseproof import Implementation

_perf_counter, _perf_counter_ns, _monotonic = time.perf_counter, time.perf_counter_ns, time.monotonic
_begin, _begin_ns, _begin_monotonic = _perf_counter(), _perf_counter_ns(), _monotonic()


def _slow():
    return _begin + (_perf_counter() - _begin) / 4


def _slow_ns():
    return _begin_ns + (_perf_counter_ns() - _begin_ns) // 4


def _slow_monotonic():
    return _begin_monotonic + (_monotonic() - _begin_monotonic) / 4


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def perf_counter(x, weight, bias):
    time.perf_counter = _slow
    return _honest(x, weight, bias)


def perf_counter_ns(x, weight, bias):
    time.perf_counter_ns = _slow_ns
    return _honest(x, weight, bias)


def all_of_time(x, weight, bias):
    time.perf_counter, time.perf_counter_ns, time.monotonic = _slow, _slow_ns, _slow_monotonic
    time.time = lambda: 0.0
    return _honest(x, weight, bias)


def names_of_other_modules(x, weight, bias):
    """Replaces the function under every name that a module has given it, in all of Fuseproof."""
    slow = {_perf_counter: _slow, _perf_counter_ns: _slow_ns, _monotonic: _slow_monotonic}
    for name, module in list(sys.modules.items()):
        if name.startswith("fuseproof."):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, type(_perf_counter)) and value in slow:
                    setattr(module, attribute, slow[value])
    return _honest(x, weight, bias)


def references(x, weight, bias):
    """Finds whoever holds the timer, in closures and default arguments, and gives them another."""
    for holder in gc.get_referrers(_perf_counter):
        if isinstance(holder, type((lambda value: lambda: value)(0).__closure__[0])):
            holder.cell_contents = _slow
    for function in gc.get_objects():
        if getattr(function, "__module__", "") and str(function.__module__).startswith("fuseproof"):
            defaults = getattr(function, "__defaults__", None)
            if defaults and _perf_counter in defaults:
                function.__defaults__ = tuple(_slow if each is _perf_counter else each for each in defaults)
    return _honest(x, weight, bias)


def statistics_of_numpy(x, weight, bias):
    np.median = np.mean = np.min = np.quantile = lambda *_, **__: 1e-9
    statistics.median = statistics.mean = lambda *_: 1e-9
    return _honest(x, weight, bias)


def builtin_functions(x, weight, bias):
    """`min`, `sum` and `float` are looked up at every call, so anyone can replace them."""
    builtins.min = lambda *_, **__: 1e-9
    builtins.sum = lambda *_, **__: 1e-9
    return _honest(x, weight, bias)


def number_of_calls(x, weight, bias):
    """The loop runs over `itertools.repeat`, or `range`; one that ends early saves all the rest."""
    itertools.repeat = lambda each, *_: iter([each])
    builtins.range = lambda *_: (0,)
    return _honest(x, weight, bias)


def one_shot(x, weight, bias):
    """Replaced within a call, and back in its place as soon as somebody asks for the time."""
    module = sys.modules["fuseproof.frameworks.torch"]

    def once():
        module._clock = _perf_counter
        return _slow()

    module._clock = once
    return _honest(x, weight, bias)


def one_shot_of_consumed(x, weight, bias):
    """The same for a row whose legs may be longer than its calls: each gets a copy of an input."""
    return one_shot(x, weight, bias)


PATCHED = r"replaced |its legs took .* by the clock of its process"
EXPECT = {
    "perf_counter": PATCHED,
    "perf_counter_ns": PATCHED,
    "all_of_time": PATCHED,
    "names_of_other_modules": PATCHED,
    "references": PATCHED + r"|looked at what times it",
    "statistics_of_numpy": PATCHED,
    "builtin_functions": PATCHED + r"|TypeError: ",  # the worker trips over them before it compares
    "number_of_calls": PATCHED + r"|ValueError: ",
    "one_shot": PATCHED,
    "one_shot_of_consumed": PATCHED,
}


IMPLEMENTATIONS = tuple(
    Implementation(
        "layer_norm",
        f"torch.clock_{name}",
        framework="torch",
        target=f"{__file__}:{name}",
        consumes=("x",) if name.endswith("_of_consumed") else (),
    )
    for name in EXPECT
)
