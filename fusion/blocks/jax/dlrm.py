"""The recommendation model in JAX: fuseproof.workloads.blocks.dlrm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, linear
from fuseproof.workloads.blocks.dlrm import DLRM


@module_of(DLRM)
def dlrm(parameters: Parameters, x: Array, indices: Array) -> Array:
    p = parameters
    bottom = linear(jax.nn.silu(linear(x, p, "bottom_0")), p, "bottom_1")
    rows = [p[f"table_{number}"][indices[:, number]] for number in range(indices.shape[1])]
    vectors = jnp.stack([bottom, *rows], axis=1)
    products = vectors @ vectors.swapaxes(1, 2)
    i, j = np.tril_indices(products.shape[1], k=-1)
    together = jnp.concatenate([bottom, products[:, i, j]], axis=1)
    return linear(jax.nn.silu(linear(together, p, "top_0")), p, "top_1")[:, 0]
