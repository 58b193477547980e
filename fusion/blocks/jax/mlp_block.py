"""The feed-forward block in JAX: fuseproof.workloads.blocks.mlp_block."""

from __future__ import annotations

import jax
from jax import Array

from fuseproof.fusion.blocks.jax.parts import Parameters, layer_norm, linear


def mlp_block(x: Array, parameters: Parameters) -> Array:
    inner = jax.nn.gelu(linear(layer_norm(x, parameters, "norm"), parameters, "up"), approximate=True)
    return x + linear(inner, parameters, "down")
