"""Work that is not done when the call is paid for: other types, threads, waiting that does not wait.

Sources: reference-kernels#161, KernelBench#165, arXiv 2606.08960.
"""

from __future__ import annotations

import sys
import threading

import jax
import numpy as np

from fuseproof import Implementation

_calls = 0


@jax.jit
def _honest(x, weight, bias):
    return jax.nn.standardize(x, epsilon=1e-5) * weight + bias


class _Late:
    """Looks like an array and computes when it is read."""

    def __init__(self, *inputs):
        self._inputs = inputs
        self.shape, self.dtype = inputs[0].shape, inputs[0].dtype

    def block_until_ready(self):
        return self

    def __array__(self, dtype=None, copy=None):
        return np.asarray(_honest(*self._inputs))


def looks_like_an_array(x, weight, bias):
    return _Late(x, weight, bias)


def array_of_numpy(x, weight, bias):
    """Filled by a thread when the call is over."""
    out = np.empty(x.shape, x.dtype)
    threading.Thread(target=lambda: np.copyto(out, _honest(x, weight, bias)), daemon=True).start()
    return out


def nobody_waits(x, weight, bias):
    """Dispatch is asynchronous, so a wait that returns at once hides all the work."""
    jax.block_until_ready = lambda tree: tree
    sys.modules["fuseproof.frameworks.jax"].jax.block_until_ready = lambda tree: tree
    return _honest(x, weight, bias)


def deleted_later(x, weight, bias):
    """The input is given up, as if it had been donated: no later call can read it."""
    global _calls
    _calls += 1
    result = _honest(x, weight, bias)
    if _calls > 30:
        result.block_until_ready()
        x.delete()
    return result


def waits_for_nothing(x, weight, bias):
    """The one result says of itself that it is there."""
    out = _honest(x, weight, bias)
    out.block_until_ready = lambda: None
    return out


EXPECT = {
    "looks_like_an_array": r"not a|_Late|subclass",
    "array_of_numpy": r"not a|ndarray|wrong",
    "nobody_waits": r"patched|replaced|changed",
    "deleted_later": r"deleted|changed|donated",
    "waits_for_nothing": r"not a plain tensor",
}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"jax.deferred_{name}", framework="jax", target=f"{__file__}:{name}")
    for name in EXPECT
)
