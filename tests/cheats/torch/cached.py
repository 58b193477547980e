"""The result of an earlier call is given back, found again by something that is cheap to look at.

Sources: flashinfer-bench-starter-kit#21 (weights cached behind a light fingerprint), tensara#238 (results
cached by pointer), KernelBench#165.
"""

from __future__ import annotations

import functools

import torch

from fuseproof import Implementation

_results: dict[object, torch.Tensor] = {}


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _cached(key, x, weight, bias):
    if key not in _results:
        _results[key] = _honest(x, weight, bias)
    return _results[key]


def by_id(x, weight, bias):
    return _cached((id(x), id(weight), id(bias)), x, weight, bias)


def by_pointer(x, weight, bias):
    return _cached(x.data_ptr(), x, weight, bias)


def by_shape(x, weight, bias):
    return _cached(x.shape, x, weight, bias)


def by_version(x, weight, bias):
    """A new result only where PyTorch's own counter says that the input was written."""
    return _cached((x.data_ptr(), x._version, weight._version), x, weight, bias)


def by_few_elements(x, weight, bias):
    return _cached((x[0, 0].item(), x[-1, -1].item()), x, weight, bias)


def by_sum_of_a_row(x, weight, bias):
    return _cached(x[x.shape[0] // 2].sum().item(), x, weight, bias)


def by_sum(x, weight, bias):
    """A fingerprint that sees every value, and still costs less than the work."""
    return _cached((x.sum().item(), weight[0].item()), x, weight, bias)


def by_copy_of_the_input(x, weight, bias):
    """Not even a guess: the inputs are compared. Here that costs more than to normalise them."""
    if "x" not in _results or not torch.equal(_results["x"], x):
        _results["x"], _results["y"] = x.detach().clone(), _honest(x, weight, bias)
    return _results["y"]


@functools.lru_cache(maxsize=1)
def _remembered(x, weight, bias):
    return _honest(x, weight, bias)


def by_lru_cache(x, weight, bias):
    return _remembered(x, weight, bias)


def as_attribute_of_the_input(x, weight, bias):
    if not hasattr(x, "_normalised"):
        x._normalised = _honest(x, weight, bias)
    return x._normalised


STALE = r"is wrong|values never seen|faster than this machine"
EXPECT = {
    "by_id": STALE,
    "by_pointer": STALE,
    "by_shape": STALE,
    "by_version": STALE,
    "by_few_elements": STALE,
    "by_sum_of_a_row": STALE,
    "by_sum": STALE,
    "by_copy_of_the_input": None,
    "by_lru_cache": STALE,
    "as_attribute_of_the_input": STALE,
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.cached_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
