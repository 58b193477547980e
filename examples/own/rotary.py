"""An operator in JAX, with nested inputs: fuseproof run --workloads examples/own/rotary.py"""

import numpy as np

from fuseproof import Implementation, Operator


class Rotary(Operator):
    """Rotary position embedding of queries (Su et al. 2021), halves rotated by angles of their position."""

    name = "own_rotary"
    batch: int
    length: int
    heads: int
    width: int
    named_shapes = {"small": {"batch": 2, "length": 128, "heads": 8, "width": 64}}  # noqa: RUF012
    differentiable = ("q",)

    def draw_inputs(self, rng):
        rates = 10_000.0 ** -(np.arange(0, self.width, 2) / self.width)
        angles = np.outer(np.arange(self.length), rates)[:, None, :]
        q = rng.standard_normal((self.batch, self.length, self.heads, self.width))
        return {"q": q, "angle": {"cos": np.cos(angles), "sin": np.sin(angles)}}

    def forward(self, q, angle):
        first, second = np.split(q, 2, axis=-1)
        cos, sin = angle["cos"], angle["sin"]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rotary(q, angle):
    import jax.numpy as jnp

    first, second = jnp.split(q, 2, axis=-1)
    cos, sin = angle["cos"], angle["sin"]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


OWN = [
    Implementation("own_rotary", "jax.eager", framework="jax", target=":rotary"),
    Implementation("own_rotary", "jax.jit", framework="jax", target=":rotary", compiled="jit"),
]
