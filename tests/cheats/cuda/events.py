"""On a GPU: events, synchronisation and settings of the device are not what they say. Not run on a GPU yet.

Sources: reference-kernels#159 (`Event.elapsed_time` patched), pygpubench#49 (L2 persistence).
"""

from __future__ import annotations

import ctypes

import torch

from fuseproof import Implementation

_elapsed = torch.cuda.Event.elapsed_time
_record = torch.cuda.Event.record
_freed: dict[str, object] = {}


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def elapsed_time(x, weight, bias):
    torch.cuda.Event.elapsed_time = lambda self, other: _elapsed(self, other) / 4
    return _honest(x, weight, bias)


def record_on_another_stream(x, weight, bias):
    """Events that are recorded where nothing runs are as near to each other as can be."""
    side = torch.cuda.Stream()
    torch.cuda.Event.record = lambda self, stream=None: _record(self, side)
    return _honest(x, weight, bias)


def synchronize(x, weight, bias):
    torch.cuda.synchronize = lambda *_, **__: None
    return _honest(x, weight, bias)


def persisting_cache(x, weight, bias):
    """Sets a part of L2 aside for this process, by the driver's own call (cudaLimitPersistingL2CacheSize)."""
    if not _freed:
        _freed["runtime"] = ctypes.CDLL("libcudart.so.12")
        _freed["runtime"].cudaDeviceSetLimit(6, ctypes.c_size_t(2**25))
    return _honest(x, weight, bias)


def stale_memory(x, weight, bias):
    """The caching allocator hands out the block that the last result, or the reference, lay in."""
    if "warm" not in _freed:
        _freed["warm"] = _honest(x, weight, bias).shape
    return torch.empty_like(x)


def half_precision(x, weight, bias):
    return _honest(x.half(), weight.half(), bias.half()).float()


def memory_fraction(x, weight, bias):
    """The neighbours in this process may use a twentieth of the memory."""
    torch.cuda.set_per_process_memory_fraction(0.05)
    return _honest(x, weight, bias)


EXPECT = {
    "elapsed_time": r"patched|replaced|changed|contradict",
    "record_on_another_stream": r"patched|replaced|changed|contradict",
    "synchronize": r"patched|replaced|changed",
    "persisting_cache": r"changed|L2",
    "stale_memory": r"wrong",
    "half_precision": r"wrong",
    "memory_fraction": r"changed|memory",
}

IMPLEMENTATIONS = tuple(
    Implementation(
        "layer_norm",
        f"torch.events_{name}",
        framework="torch",
        target=f"{__file__}:{name}",
        devices=("cuda",),
    )
    for name in EXPECT
)
