"""The result of an earlier call is given back: by identity, in a variable, as a constant of a graph.

Sources: tensara#238, flashinfer-bench-starter-kit#21, KernelBench#165.
"""

from __future__ import annotations

import tensorflow as tf

from fuseproof import Implementation

_results: dict[object, tf.Tensor] = {}
_calls = 0


def _honest(x, weight, bias):
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * weight + bias


def _cached(key, x, weight, bias):
    if key not in _results:
        _results[key] = _honest(x, weight, bias)
    return _results[key]


def by_id(x, weight, bias):
    return _cached(id(x), x, weight, bias)


def by_shape(x, weight, bias):
    return _cached(tuple(x.shape), x, weight, bias)


def by_few_elements(x, weight, bias):
    """Where a leg is one call, its values are new and it does the work."""
    return _cached((float(x[0, 0]), float(x[-1, -1])), x, weight, bias)


def in_a_variable(x, weight, bias):
    """State of a tf.function: written by its first call, read by all others."""
    if "variable" not in _results:
        _results["variable"] = tf.Variable(_honest(x, weight, bias))
        _results["read"] = tf.function(lambda: _results["variable"].read_value())
    return _results["read"]()


def as_a_constant(x, weight, bias):
    """A graph traced with the first result as its constant."""
    if "graph" not in _results:
        result = tf.constant(_honest(x, weight, bias).numpy())
        _results["graph"] = tf.function(lambda: tf.identity(result))
    return _results["graph"]()


def behind_py_function(x, weight, bias):
    def answer(*tensors):
        if "answer" not in _results:
            _results["answer"] = _honest(*tensors)
        return _results["answer"]

    return tf.ensure_shape(tf.py_function(answer, [x, weight, bias], x.dtype), x.shape)


def nine_of_ten(x, weight, bias):
    global _calls
    _calls += 1
    if _calls % 10 == 0 or _calls < 20:
        _results["last"] = _honest(x, weight, bias)
    return _results["last"]


EXPECT = dict.fromkeys(
    (
        "by_id",
        "by_shape",
        "in_a_variable",
        "as_a_constant",
        "behind_py_function",
        "nine_of_ten",
    ),
    r"wrong|values never seen|faster than this machine",
) | {"by_few_elements": None}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"tf.cached_{name}", framework="tensorflow", target=f"{__file__}:{name}")
    for name in EXPECT
)
