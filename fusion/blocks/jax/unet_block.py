"""The U-Net block in JAX: fuseproof.workloads.blocks.unet_block."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, convolution, group_norm, linear
from fuseproof.workloads.blocks.unet_block import GROUP, UNetBlock


@module_of(UNetBlock)
def unet_block(parameters: Parameters, x: Array, skip: Array, time: Array) -> Array:
    p, groups = parameters, skip.shape[-1] // GROUP
    above = convolution(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2), p, "up")
    z = jnp.concatenate([above, skip], axis=-1)
    h = convolution(jax.nn.silu(group_norm(z, p, "first_norm", 2 * groups)), p, "first")
    h = h + linear(jax.nn.silu(time), p, "embed")[:, None, None]
    h = convolution(jax.nn.silu(group_norm(h, p, "second_norm", groups)), p, "second")
    return h + linear(z, p, "shortcut")
