"""Honest, however unusual, in TensorFlow: all of this does the work of every call, and must be measured."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from fuseproof import Implementation


def plain(x, weight, bias):
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * weight + bias


@tf.custom_gradient
def custom_gradient(x, weight, bias):
    with tf.GradientTape() as tape:
        tape.watch([x, weight, bias])
        output = plain(x, weight, bias)

    def pull(cotangent):
        return tape.gradient(output, [x, weight, bias], output_gradients=cotangent)

    return output, pull


def raw_operators(x, weight, bias):
    mean = tf.raw_ops.Mean(input=x, axis=[-1], keep_dims=True)
    centred = tf.raw_ops.Sub(x=x, y=mean)
    variance = tf.raw_ops.Mean(input=tf.raw_ops.Square(x=centred), axis=[-1], keep_dims=True)
    scaled = tf.raw_ops.Mul(x=centred, y=tf.raw_ops.Rsqrt(x=variance + 1e-5))
    return tf.raw_ops.AddV2(x=tf.raw_ops.Mul(x=scaled, y=weight), y=bias)


def py_function(x, weight, bias):
    return tf.ensure_shape(tf.py_function(plain, [x, weight, bias], x.dtype), x.shape)


def through_numpy(x, weight, bias):
    a, w, b = x.numpy(), weight.numpy(), bias.numpy()
    centred = a - a.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    return tf.constant(centred / deviation * w + b)


compiled_inside = tf.function(plain, jit_compile=True)
traced_inside = tf.function(plain)
partial_function = functools.partial(tf.nn.batch_normalization, variance_epsilon=1e-5)


def by_batch_normalization(x, weight, bias):
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return partial_function(x, mean, variance, bias, weight)


def mapped(x, weight, bias):
    return tf.vectorized_map(lambda row: plain(row[None], weight, bias)[0], x)


FORWARD = {"passes": ("forward",)}
ROWS = {
    "custom_gradient": {},
    "raw_operators": {},
    "py_function": {},
    "through_numpy": FORWARD,
    "compiled_inside": {},
    "traced_inside": {"compiled": "function"},
    "by_batch_normalization": {"compiled": "function"},
    "mapped": FORWARD | {"compiled": "function"},
}

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"tf.{name}", framework="tensorflow", target=f"{__file__}:{name}", **fields)
    for name, fields in ROWS.items()
)
