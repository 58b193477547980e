"""A module of JAX, without a library: fuseproof run --workloads examples/own/block_jax.py"""

from fuseproof import Implementation, Module


class JaxBlock(Module):
    """The feed-forward part of a transformer's block."""

    batch: int
    width: int
    named_shapes = {"small": {"batch": 16, "width": 64}}  # noqa: RUF012

    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((self.batch, self.width))}


def block(width):
    """The parameters, and what takes them and the inputs; a module of Equinox or Flax NNX would do too."""
    import jax

    up, down = jax.random.split(jax.random.key(0))
    parameters = {
        "up": jax.random.normal(up, (width, 4 * width)) / width**0.5,
        "down": jax.random.normal(down, (4 * width, width)) / (4 * width) ** 0.5,
    }

    def apply(parameters, x):
        return x + jax.nn.gelu(x @ parameters["up"]) @ parameters["down"]

    return parameters, apply


OWN = [
    Implementation("jax_block", "jax.eager", framework="jax", target=":block"),
    Implementation("jax_block", "jax.jit", framework="jax", target=":block", compiled="jit"),
]
