"""Two layers of LSTM in JAX, a scan over the steps: fuseproof.workloads.blocks.lstm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fuseproof.fusion.blocks.jax.module import module_of
from fuseproof.fusion.blocks.jax.parts import Parameters
from fuseproof.workloads.blocks.lstm import LAYERS, LSTM


@module_of(LSTM)
def lstm(parameters: Parameters, x: Array) -> Array:
    h = x.swapaxes(0, 1)
    for layer in range(LAYERS):
        names = (f"{name}_{layer}{end}" for name in ("input", "hidden") for end in ("", "_bias"))
        h = _layer(h, *(parameters[name] for name in names))
    return h.swapaxes(0, 1)


def _layer(x: Array, into: Array, into_bias: Array, hidden: Array, hidden_bias: Array) -> Array:
    """x: (length, batch, hidden). The products with the inputs of all steps are one."""

    def step(state: tuple[Array, Array], given: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = state
        i, f, g, o = jnp.split(given + h @ hidden.T + hidden_bias, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros_like(x[0])
    _, found = jax.lax.scan(step, (zeros, zeros), x @ into.T + into_bias)
    return found
