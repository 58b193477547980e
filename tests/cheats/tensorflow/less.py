"""Less is computed, in other types, without gradients, by another clock; or others compute more.

Sources: KernelBench#165, arXiv 2509.14279, KernelBench#82.
"""

from __future__ import annotations

import time

import tensorflow as tf

from fuseproof import Implementation

_batch_normalization = tf.nn.batch_normalization
_clock, _started = time.perf_counter, time.perf_counter()


def _honest(x, weight, bias):
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * weight + bias


def bfloat16(x, weight, bias):
    return tf.cast(_honest(*(tf.cast(each, tf.bfloat16) for each in (x, weight, bias))), x.dtype)


def every_second_row(x, weight, bias):
    return tf.repeat(_honest(x[::2], weight, bias), 2, axis=0)


def array_of_numpy(x, weight, bias):
    return _honest(x, weight, bias).numpy()


def variable(x, weight, bias):
    """A variable may be written after it was handed over."""
    return tf.Variable(_honest(x, weight, bias))


def gradients_stopped(x, weight, bias):
    return _honest(x, tf.stop_gradient(weight), bias) + 0 * tf.reduce_sum(weight)


@tf.custom_gradient
def gradients_of_ones(x, weight, bias):
    """Its gradient takes any cotangent for ones."""
    with tf.GradientTape() as tape:
        tape.watch([x, weight, bias])
        output = _honest(x, weight, bias)
    found = tape.gradient(output, [x, weight, bias])
    return output, lambda cotangent: found


def slower_baseline(x, weight, bias):
    """Whoever normalises by TensorFlow's own functions waits for a millisecond."""

    def slow(*arguments, **named):
        time.sleep(1e-3)
        return _batch_normalization(*arguments, **named)

    tf.nn.batch_normalization = slow
    return _honest(x, weight, bias)


def functions_run_eagerly(x, weight, bias):
    """From now on no tf.function is compiled."""
    tf.config.run_functions_eagerly(True)
    return _honest(x, weight, bias)


def clock(x, weight, bias):
    time.perf_counter = lambda: _started + (_clock() - _started) / 4
    return _honest(x, weight, bias)


def reader_of_one_result(x, weight, bias):
    """Computes when it is read."""
    out = tf.identity(x)
    out.numpy = lambda: _honest(x, weight, bias).numpy()
    return out


EXPECT = {
    "bfloat16": r"wrong",
    "every_second_row": r"wrong",
    "array_of_numpy": r"not a|ndarray",
    "variable": r"not a|Variable",
    "gradients_stopped": r"wrong",
    "gradients_of_ones": r"wrong",
    "slower_baseline": r"patched|replaced|changed",
    "functions_run_eagerly": r"changed|state",
    "reader_of_one_result": r"not a plain tensor",
    "clock": r"patched|replaced|changed",
}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"tf.less_{name}", framework="tensorflow", target=f"{__file__}:{name}")
    for name in EXPECT
)
