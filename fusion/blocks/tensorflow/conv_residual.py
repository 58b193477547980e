"""The residual block in TensorFlow: fuseproof.workloads.blocks.conv_residual."""

from __future__ import annotations

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.parts import (
    Parameters,
    Tensor,
    convolution,
    normalised,
    with_statistics,
)


def conv_residual(x: Tensor, parameters: Parameters, *, frozen: bool) -> Tensor:
    h = tf.nn.silu(_normed(x, parameters, "first", frozen))
    return tf.nn.silu(_normed(h, parameters, "second", frozen) + x)


def _normed(x: Tensor, p: Parameters, name: str, frozen: bool) -> Tensor:
    """A convolution and batch norm."""
    h, scale, bias = convolution(x, p, name), p[f"{name}_scale"], p[f"{name}_bias"]
    if not frozen:
        return normalised(h, scale, bias, axes=[0, 1, 2])
    wide = tf.cast(h, tf.float32)
    return with_statistics(wide, p[f"{name}_mean"], p[f"{name}_variance"], scale, bias, h.dtype)
