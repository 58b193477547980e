"""The expected result is looked for in memory and in shared files, then copied or written over.

Source: pygpubench#7 (expected outputs and tolerances found through `gc.get_objects()`).
"""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import torch

from fuseproof import Implementation


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def objects_copied(x, weight, bias):
    """Copies what looks like a reference into the rows that it is for; computes nothing."""
    out = torch.zeros_like(x)
    for each in gc.get_objects():
        if type(each).__name__ == "Sampled":
            out[each.index[0]] = torch.from_numpy(each.values).to(out.dtype)
    return out


def objects_overwritten(x, weight, bias):
    """Makes every reference, and every tolerance, such that zeros are right."""
    for each in gc.get_objects():
        if type(each).__name__ == "Sampled":
            each.values[...] = 0.0
        elif isinstance(each, dict) and "float32" in each and isinstance(each["float32"], float):
            each["float32"] = 1e9
        elif isinstance(each, np.ndarray) and each.dtype == np.float64 and each.flags.writeable:
            each[...] = 0.0
    return torch.zeros_like(x)


def files_in_memory(x, weight, bias):
    """Reads what others have left in /dev/shm and takes the first that has the size of the result."""
    size = x.numel() * x.element_size()
    for path in sorted(Path("/dev/shm").rglob("*")):
        try:
            if path.is_file() and path.stat().st_size >= size:
                data = np.frombuffer(path.read_bytes()[:size], dtype=np.float32)
                return torch.from_numpy(data.copy()).view_as(x)
        except OSError:
            pass
    return torch.zeros_like(x)


def memory_of_the_neighbour(x, weight, bias):
    """Hands out the last freed block of the size of the result, hoping that it holds one (KernelBench#82)."""
    return torch.empty_like(x)


EXPECT = {
    "objects_copied": r"wrong|looked at",
    "objects_overwritten": r"wrong|looked at|was changed",
    "files_in_memory": r"wrong|looked at",
    "memory_of_the_neighbour": r"wrong|looked at",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.searched_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
