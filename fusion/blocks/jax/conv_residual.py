"""The residual block in JAX: fuseproof.workloads.blocks.conv_residual."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.fusion.blocks.jax.parts import Parameters, convolution
from fuseproof.workloads.operators.layer_norm import EPSILON


def conv_residual(x: Array, parameters: Parameters, *, frozen: bool) -> Array:
    h = jax.nn.silu(_normed(x, parameters, "first", frozen))
    return jax.nn.silu(_normed(h, parameters, "second", frozen) + x)


def _normed(x: Array, p: Parameters, name: str, frozen: bool) -> Array:
    """A convolution and batch norm."""
    h = convolution(x, p, name).astype(jnp.float32)
    mean = p[f"{name}_mean"] if frozen else h.mean(axis=(0, 1, 2))
    variance = p[f"{name}_variance"] if frozen else h.var(axis=(0, 1, 2))
    normed = (h - mean) * (jax.lax.rsqrt(variance.astype(jnp.float32) + EPSILON) * p[f"{name}_scale"])
    return (normed + p[f"{name}_bias"]).astype(x.dtype)
