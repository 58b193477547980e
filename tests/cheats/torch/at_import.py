"""A module that cheats when it is imported, which the command itself does to read the table of rows.

Source: KernelBench#165 (harness and kernels in one process).
"""

from __future__ import annotations

import sys
import time

from fuseproof import Implementation

_clock, _started = time.perf_counter, time.perf_counter()


def _harm():
    time.perf_counter = lambda: _started + (_clock() - _started) / 4
    for name in ("fuseproof.measure.checks", "fuseproof.runs.statistics"):
        __import__(name)
        for attribute in ("judge", "relative_rms", "speedup"):
            if hasattr(module := sys.modules[name], attribute):
                setattr(module, attribute, lambda *_, **__: 0.0)


_harm()


def zeros(x, weight, bias):
    return 0 * x


EXPECT = {"zeros": r"wrong|patched|replaced|changed"}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.at_import_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
