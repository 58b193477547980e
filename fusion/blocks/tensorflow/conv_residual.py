"""The residual block in TensorFlow: fuseproof.workloads.blocks.conv_residual."""

from __future__ import annotations

import tensorflow as tf

from fuseproof.fusion.blocks.tensorflow.module import module_of
from fuseproof.fusion.blocks.tensorflow.parts import (
    Parameters,
    Tensor,
    convolution,
    normalised,
    with_statistics,
)
from fuseproof.workloads.blocks.conv_residual import ConvResidual


@module_of(ConvResidual)
def conv_residual(parameters: Parameters, x: Tensor, *statistics: Tensor) -> Tensor:
    """statistics: means and variances of both norms, of frozen ones."""
    h = tf.nn.silu(_normed(x, parameters, "first", *statistics[:2]))
    return tf.nn.silu(_normed(h, parameters, "second", *statistics[2:]) + x)


def _normed(
    x: Tensor, p: Parameters, name: str, mean: Tensor | None = None, variance: Tensor | None = None
) -> Tensor:
    """A convolution and batch norm, by default by the statistics of the batch."""
    h, scale, bias = convolution(x, p, name), p[f"{name}_scale"], p[f"{name}_bias"]
    if mean is None:
        return normalised(h, scale, bias, axes=[0, 1, 2])
    wide = tf.cast(h, tf.float32)
    return with_statistics(wide, mean, variance, scale, bias, h.dtype)
