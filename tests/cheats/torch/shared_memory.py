"""The folder through which results reach the referee: they are copied from there, or deleted.

Source: an adversary's review of Fuseproof. Only the folder of the run that measures these rows is touched.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import torch

from fuseproof import Implementation

_last: torch.Tensor | None = None


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _handed_over():
    return Path("/dev/shm").glob(f"fuseproof-results-{os.getppid()}-*/*.bin")


def results_of_others(x, weight, bias):
    """Whatever lies there with the right size is given back, else what was computed once."""
    global _last
    for path in _handed_over():
        with contextlib.suppress(OSError, ValueError):
            return torch.from_numpy(np.fromfile(path, np.float32)).view_as(x)
    if _last is None:
        _last = _honest(x, weight, bias)
    return _last


def results_deleted(x, weight, bias):
    for path in _handed_over():
        path.unlink(missing_ok=True)
    return _honest(x, weight, bias)


EXPECT = {
    "results_of_others": r"is wrong",
    "results_deleted": r"the result did not arrive|is wrong",
}


IMPLEMENTATIONS = tuple(
    Implementation(
        "layer_norm", f"torch.shared_memory_{name}", framework="torch", target=f"{__file__}:{name}"
    )
    for name in EXPECT
)
