"""What an implementation could change in its process: settings, and functions that others call.

Recorded before its code is loaded and compared after every leg. Only differences count, so whatever a
framework or the user's environment sets beforehand is as good as any other setting.
"""

from __future__ import annotations

import builtins
import gc
import json
import operator
import os
import signal
import statistics
import sys
import time
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# Where a replaced function could falsify a measurement in any framework.
_EVERYWHERE: tuple[Any, ...] = (builtins, gc, json, os, statistics, sys, time, np, np.random)
_OF_CLASSES = (classmethod, property)  # not callable themselves
_HARNESS = "fuseproof"
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_CODE = operator.attrgetter("__code__", "__defaults__", "__kwdefaults__")


def of_process() -> dict[str, Any]:
    """Settings of the process that change the speed of what runs in it or beside it."""
    found: dict[str, Any] = {
        "garbage collector": gc.isenabled(),
        "switch interval": sys.getswitchinterval(),
        "trace function": sys.gettrace() is not None,
        "profile function": sys.getprofile() is not None,
        "denormal numbers": bool(np.float32(1e-40) * np.float32(0.5)),
        "timers": [signal.getitimer(which)[1] for which in _TIMERS],
    }
    if (scheduled := scheduling(os.getpid())) is not None:
        found["CPU affinity, niceness, scheduler"] = scheduled
    return found


# CPUs of the main thread, CPUs that any thread may use, the most niceness, the policy.
Scheduling = tuple[tuple[int, ...], tuple[int, ...], int, int]


def scheduling(process: int) -> Scheduling | None:
    """How all threads of a process are scheduled together; None if it is gone or the system does not tell."""
    try:
        threads = [int(name) for name in os.listdir(f"/proc/{process}/task")]  # noqa: PTH208
        return (
            tuple(sorted(os.sched_getaffinity(process))),
            tuple(sorted(set().union(*(os.sched_getaffinity(thread) for thread in threads)))),
            max(os.getpriority(os.PRIO_PROCESS, thread) for thread in threads),
            max(os.sched_getscheduler(thread) for thread in threads),
        )
    except (OSError, AttributeError):
        return None


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """`name: old → new` for each setting that is no longer the same."""
    return [
        f"{name}: {before[name]} → {after.get(name)}"
        for name in before
        if name not in after or not _same(before[name], after[name])
    ]


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _is_function(value: Any) -> bool:
    return callable(value) or isinstance(value, _OF_CLASSES)


def _is_constant(name: str) -> bool:
    return name.isupper()


class Functions:
    """The functions of modules and classes at one moment, and Fuseproof's constants, to find those replaced.

    watched: modules and classes of a framework, beside those of Python, NumPy and Fuseproof itself; each with
        names that do not count.
    """

    def __init__(self, watched: Mapping[Any, Iterable[str]]) -> None:
        harness = [
            module for name, module in sys.modules.items() if name.split(".")[0] == _HARNESS and module
        ]
        if (main := sys.modules.get("__main__")) is not None:
            harness.append(main)
        places: list[Any] = [*_EVERYWHERE, *watched]
        for module in harness:
            places.append(module)
            # A class of the harness may be changed in place, as its module still holds it.
            places += [
                each
                for each in vars(module).values()
                if isinstance(each, type) and each.__module__ == module.__name__
            ]
        self._known: list[tuple[Any, tuple[str, ...], tuple[Any, ...]]] = []
        for place in places:
            left_out = watched.get(place, ())
            own = {
                name: value
                for name, value in vars(place).items()
                if name not in left_out and (_is_function(value) or (place in harness and _is_constant(name)))
            }
            self._known.append((place, tuple(own), tuple(own.values())))
        functions = {
            value for _, _, values in self._known for value in values if isinstance(value, types.FunctionType)
        }
        self._functions = tuple(functions)
        self._code = tuple(map(_CODE, functions))

    def replaced(self) -> list[str]:
        """Names of the functions that are no longer what they were; a fraction of a millisecond."""
        found = []
        for place, names, values in self._known:
            now = tuple(map(vars(place).get, names))
            if now != values:  # compares identities first, so equal means the same
                found += [
                    f"{getattr(place, '__name__', place)}.{name}"
                    for name, one, other in zip(names, now, values, strict=True)
                    if one is not other
                ]
        if tuple(map(_CODE, self._functions)) != self._code:
            found += [
                f"what is in {function.__module__}.{function.__qualname__}"
                for function, code in zip(self._functions, self._code, strict=True)
                if _CODE(function) != code
            ]
        return found
