"""Decoding with a static cache in JAX, a scan over the tokens: fuseproof.workloads.blocks.decode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters, after_attention, query_key_value
from fuseproof.fusion.ops import jax as ops
from fuseproof.workloads.blocks.decode import Decode


@module_of(Decode)
def decode(
    parameters: Parameters,
    x: Array,
    keys: Array,
    values: Array,
    cos: Array,
    sin: Array,
    *,
    heads: int,
    key_value_heads: int,
    prompt: int,
) -> Array:
    places = jnp.arange(keys.shape[2])

    def step(state: tuple[Array, Array], given: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        keys, values = state
        x, place, cos, sin = given
        q, k, v = query_key_value(x, cos[None], sin[None], parameters, heads, key_value_heads)
        keys = jax.lax.dynamic_update_slice_in_dim(keys, k, place, axis=1)
        values = jax.lax.dynamic_update_slice_in_dim(values, v, place, axis=1)
        attended = jax.nn.dot_product_attention(q, keys, values, mask=(places <= place)[None, None, None])
        y = ops.rms_norm(after_attention(x, attended, parameters), parameters["final_norm_scale"])
        return (keys, values), y[:, 0]

    # JAX's attention takes (batch, length, heads, head_dim).
    state = (keys.swapaxes(1, 2), values.swapaxes(1, 2))
    given = (x.swapaxes(0, 1)[:, :, None], prompt + jnp.arange(len(cos)), cos, sin)
    _, found = jax.lax.scan(step, state, given)
    return found.swapaxes(0, 1)
