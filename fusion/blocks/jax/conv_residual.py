"""The residual block in JAX: fuseproof.workloads.blocks.conv_residual."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, convolution
from fuseproof.workloads.blocks.conv_residual import ConvResidual
from fuseproof.workloads.operators.layer_norm import EPSILON


@module_of(ConvResidual)
def conv_residual(parameters: Parameters, x: Array, *statistics: Array) -> Array:
    """statistics: means and variances of both norms, of frozen ones."""
    h = jax.nn.silu(_normed(x, parameters, "first", *statistics[:2]))
    return jax.nn.silu(_normed(h, parameters, "second", *statistics[2:]) + x)


def _normed(
    x: Array, p: Parameters, name: str, mean: Array | None = None, variance: Array | None = None
) -> Array:
    """A convolution and batch norm, by default by the statistics of the batch."""
    h = convolution(x, p, name).astype(jnp.float32)
    mean = h.mean(axis=(0, 1, 2)) if mean is None else mean
    variance = h.var(axis=(0, 1, 2)) if variance is None else variance
    normed = (h - mean) * (jax.lax.rsqrt(variance.astype(jnp.float32) + EPSILON) * p[f"{name}_scale"])
    return (normed + p[f"{name}_bias"]).astype(x.dtype)
