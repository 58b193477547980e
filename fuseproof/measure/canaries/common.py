"""The canaries that no framework matters to: each cheats around a given honest function."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Function = Callable[..., Any]
# Calls that are right before a canary begins to cheat, where it waits until it was checked.
_PATIENCE = 50

_clock = time.perf_counter


def refilled(honest: Function) -> Function:
    """Honest: a pool of threads of its own computes, and the call waits for it."""
    pools: list[ThreadPoolExecutor] = []

    def call(x: Any, weight: Any, bias: Any) -> Any:
        if not pools:
            pools.append(ThreadPoolExecutor(1))
        return pools[0].submit(honest, x, weight, bias).result()

    return call


def cached(honest: Function) -> Function:
    results: dict[int, Any] = {}

    def call(x: Any, weight: Any, bias: Any) -> Any:
        if id(x) not in results:
            results[id(x)] = honest(x, weight, bias)
        return results[id(x)]

    return call


def fingerprinted(honest: Function) -> Function:
    results: dict[tuple[float, float], Any] = {}

    def call(x: Any, weight: Any, bias: Any) -> Any:
        key = float(x[0, 0]), float(x[-1, -1])
        if key not in results:
            results.clear()
            results[key] = honest(x, weight, bias)
        return results[key]

    return call


def every_second(honest: Function) -> Function:
    calls, last = 0, None

    def call(x: Any, weight: Any, bias: Any) -> Any:
        nonlocal calls, last
        calls += 1
        if calls % 2 or calls < _PATIENCE:
            last = honest(x, weight, bias)
        return last

    return call


def later_zeros(honest: Function) -> Function:
    calls, zeros = 0, None

    def call(x: Any, weight: Any, bias: Any) -> Any:
        nonlocal calls, zeros
        calls += 1
        if calls <= _PATIENCE:
            zeros = 0 * x
            return honest(x, weight, bias)
        return zeros

    return call


def threaded(honest: Function, empty: Function, fill: Callable[[Any, Any], object]) -> Function:
    """`empty(x)` makes the output, `fill(output, result)` writes into it."""

    def call(x: Any, weight: Any, bias: Any) -> Any:
        output = empty(x)

        def work() -> None:
            time.sleep(0.01)
            fill(output, honest(x, weight, bias))

        threading.Thread(target=work, daemon=True).start()
        return output

    return call


class Late:
    """Has the attributes of a tensor, and computes when NumPy reads it."""

    def __init__(self, compute: Callable[[], Any], like: Any) -> None:
        self._compute = compute
        self.shape, self.dtype = like.shape, like.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._compute().__array__()

    def block_until_ready(self) -> Late:
        return self


def other_type(honest: Function) -> Function:
    def call(x: Any, weight: Any, bias: Any) -> Any:
        return Late(functools.partial(honest, x, weight, bias), x)

    return call


def slow_clock(honest: Function) -> Function:
    started = _clock()

    def slow() -> float:
        return started + (_clock() - started) / 4

    def call(x: Any, weight: Any, bias: Any) -> Any:
        time.perf_counter = time.monotonic = slow
        return honest(x, weight, bias)

    return call


def forged(honest: Function) -> Function:
    def call(x: Any, weight: Any, bias: Any) -> Any:
        for path in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if int(path.name) > 2 and "pipe" in str(path.readlink()):
                    os.write(int(path.name), b'{"ok": {"wall": [1e-9, 1e-9, 1e-9]}}\n')
        return honest(x, weight, bias)

    return call


def slow_baseline(honest: Function, owner: Any, name: str) -> Function:
    """`name` of `owner` is what the baseline calls."""
    own = getattr(owner, name)

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(1e-3)
        return own(*arguments, **named)

    def call(x: Any, weight: Any, bias: Any) -> Any:
        setattr(owner, name, slow)
        return honest(x, weight, bias)

    return call


def core_taken(honest: Function) -> Function:
    def call(x: Any, weight: Any, bias: Any) -> Any:
        if os.getpriority(os.PRIO_PROCESS, 0) < 5:
            os.setpriority(os.PRIO_PROCESS, 0, 5)
        return honest(x, weight, bias)

    return call
