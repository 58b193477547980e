"""Slow while it is checked: from that time follow how many calls are timed, and how many are looked at.

Source: an adversary's review of Fuseproof.
"""

from __future__ import annotations

import os
import time

import torch

from fuseproof import Implementation

_results: dict[object, torch.Tensor] = {}


def _slow_then_cached(seconds, x, weight, bias):
    if os.environ.get("TORCHINDUCTOR_COMPILE_THREADS") != "1":
        time.sleep(seconds)
    key = x[0, 0].item(), x[-1, -1].item()
    if key not in _results:
        _results.clear()
        _results[key] = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)
    return _results[key]


def somewhat(x, weight, bias):
    return _slow_then_cached(1e-3, x, weight, bias)


def very(x, weight, bias):
    """Its own legs become so short that each is one call, with values never seen; its baseline's do not."""
    return _slow_then_cached(20e-3, x, weight, bias)


EXPECT = {
    "somewhat": r"is wrong|values never seen|faster than this machine",
    "very": None,  # so it has to work in every call that is timed
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.slow_check_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
