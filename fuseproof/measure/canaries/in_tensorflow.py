"""The canaries in TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fuseproof.measure.canaries import common


def _honest(x: Any, weight: Any, bias: Any) -> Any:
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * weight + bias


prepared = tf.function(_honest)


def fewer_bits(x: Any, weight: Any, bias: Any) -> Any:
    return tf.cast(_honest(*(tf.cast(each, tf.bfloat16) for each in (x, weight, bias))), x.dtype)


def fewer_rows(x: Any, weight: Any, bias: Any) -> Any:
    return tf.repeat(_honest(x[::2], weight, bias), 2, axis=0)


refilled = common.refilled(_honest)
cached = common.cached(_honest)
fingerprinted = common.fingerprinted(_honest)
every_second = common.every_second(_honest)
later_zeros = common.later_zeros(_honest)
threaded = common.threaded(
    _honest,
    lambda x: np.empty(x.shape, x.dtype.as_numpy_dtype),
    lambda output, result: np.copyto(output, result.numpy()),
)
other_type = common.other_type(_honest)
slow_clock = common.slow_clock(_honest)
forged = common.forged(_honest)
slow_baseline = common.slow_baseline(_honest, tf.nn, "batch_normalization")
core_taken = common.core_taken(_honest)
