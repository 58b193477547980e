"""The feed-forward block in JAX: fuseproof.workloads.blocks.mlp_block."""

from __future__ import annotations

import jax
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, layer_norm, linear
from fuseproof.workloads.blocks.mlp_block import MLPBlock


@module_of(MLPBlock)
def mlp_block(parameters: Parameters, x: Array) -> Array:
    inner = jax.nn.gelu(linear(layer_norm(x, parameters, "norm"), parameters, "up"), approximate=True)
    return x + linear(inner, parameters, "down")
