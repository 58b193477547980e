"""An output that was kept is played again: from disk, from a buffer, from a recorded program.

Sources: flashinfer-bench-starter-kit#21 (outputs on disk and in static buffers), KernelBench#82.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from fuseproof import Implementation

_kept: dict[str, object] = {}


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def from_disk(x, weight, bias):
    """The process that times finds what the process that checks has stored."""
    path = Path(tempfile.gettempdir()) / f"replayed-{os.getppid()}.pt"
    if "disk" not in _kept:
        if not path.exists():
            torch.save(_honest(x, weight, bias), path)
        _kept["disk"] = torch.load(path)
    return _kept["disk"]


def from_a_static_buffer(x, weight, bias):
    """Filled for the first inputs and for those that have another first element; returned again for all."""
    if _kept.get("first") != (first := x[0, 0].item()) and _kept.setdefault("fills", 0) < 4:
        _kept["fills"] += 1
        _kept["first"], _kept["buffer"] = first, _honest(x, weight, bias)
    return _kept["buffer"]


def from_a_trace(x, weight, bias):
    """A program recorded with the inputs as constants, so that nothing is left to compute."""
    if "trace" not in _kept:
        result = _honest(x, weight, bias).detach()
        _kept["trace"] = torch.jit.trace(lambda zero: result + zero, torch.zeros(()))
    return _kept["trace"](torch.zeros(()))


def the_call_before(x, weight, bias):
    """Computes, but gives back what the call before has computed: a thread may take its time."""
    result = _honest(x, weight, bias)
    before, _kept["last"] = _kept.get("last", result), result
    return before


EXPECT = {
    "from_disk": r"wrong",
    "from_a_static_buffer": r"wrong",
    "from_a_trace": r"wrong",
    "the_call_before": r"wrong",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.replayed_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
