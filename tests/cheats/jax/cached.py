"""The result of an earlier call is given back: by identity, by pointer, by a few elements, as a constant.

Sources: tensara#238, flashinfer-bench-starter-kit#21, KernelBench#165.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fuseproof import Implementation

_results: dict[object, jax.Array] = {}
_calls = 0


@jax.jit
def _honest(x, weight, bias):
    return jax.nn.standardize(x, epsilon=1e-5) * weight + bias


def _cached(key, x, weight, bias):
    if key not in _results:
        _results[key] = _honest(x, weight, bias)
    return _results[key]


def by_id(x, weight, bias):
    return _cached(id(x), x, weight, bias)


def by_pointer(x, weight, bias):
    return _cached(x.unsafe_buffer_pointer(), x, weight, bias)


def by_shape(x, weight, bias):
    return _cached(x.shape, x, weight, bias)


def by_few_elements(x, weight, bias):
    """Read on the host, where the array's memory lies already.

    Without jit, as its baseline is: where a leg is one call, its values are new and it does the work.
    """
    values = np.asarray(x)
    key = (values[0, 0], values[-1, -1])
    if key not in _results:
        _results[key] = jax.nn.standardize(x, epsilon=1e-5) * weight + bias
    return _results[key]


def as_constants(x, weight, bias):
    """A program compiled with the first inputs as constants, which XLA folds into the result."""
    if "program" not in _results:
        result = _honest(x, weight, bias)
        _results["program"] = jax.jit(lambda: result + 0)
    return _results["program"]()


def behind_pure_callback(x, weight, bias):
    """The compiled program asks the host, which has the answer already."""

    def answer(*arrays):
        if "answer" not in _results:
            _results["answer"] = np.asarray(_honest(*map(jnp.asarray, arrays)))
        return _results["answer"]

    return _called_back(answer)(x, weight, bias)


@functools.cache
def _called_back(answer):
    def call(x, *others):
        return jax.pure_callback(answer, jax.ShapeDtypeStruct(x.shape, x.dtype), x, *others)

    return call


def every_second_call(x, weight, bias):
    global _calls
    _calls += 1
    if _calls % 2 or _calls < 20:
        _results["last"] = _honest(x, weight, bias)
    return _results["last"]


STALE = r"wrong|values never seen|faster than this machine"
EXPECT = dict.fromkeys(
    (
        "by_id",
        "by_pointer",
        "by_shape",
        "as_constants",
        "behind_pure_callback",
        "every_second_call",
    ),
    STALE,
) | {"by_few_elements": None}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"jax.cached_{name}", framework="jax", target=f"{__file__}:{name}")
    for name in EXPECT
)
