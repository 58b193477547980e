"""A module with the same parameters in three frameworks: fuseproof run --workloads own/three_frameworks.py"""

from fuseproof import Implementation, Module


class ThreeFrameworks(Module):
    """Two products and GELU, as a residual block; its parameters are `up` and `down` everywhere."""

    batch: int
    width: int
    named_shapes = {"small": {"batch": 16, "width": 64}}  # noqa: RUF012
    reference_by = "torch.eager"  # in float64 it is what all three are compared with
    # Keras's AdamW adds epsilon at another place: one beside which every gradient is large makes steps equal.
    optimizer = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01, "epsilon": 1e-16}  # noqa: RUF012

    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((self.batch, self.width))}


def initial(width):
    """What is measured is drawn with the mean and the spread of these."""
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = {"up": (width, 4 * width), "down": (4 * width, width)}
    return {
        name: (rng.standard_normal(shape) / shape[0] ** 0.5).astype("float32")
        for name, shape in shapes.items()
    }


def in_torch(width):
    import torch

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, values in initial(width).items():
                setattr(self, name, torch.nn.Parameter(torch.from_numpy(values)))

        def forward(self, x):
            return x + torch.nn.functional.gelu(x @ self.up) @ self.down

    return Block()


def in_jax(width):
    import jax

    def apply(parameters, x):
        return x + jax.nn.gelu(x @ parameters["up"], approximate=False) @ parameters["down"]

    return initial(width), apply


def in_tensorflow(width):
    import tensorflow as tf

    class Block(tf.Module):
        def __init__(self):
            super().__init__()
            for name, values in initial(width).items():
                setattr(self, name, tf.Variable(values))

        def __call__(self, x):
            return x + tf.nn.gelu(x @ self.up) @ self.down

    return Block()


OWN = [
    Implementation(
        "three_frameworks", name, framework=framework, target=target, compiled=compiled, baseline=baseline
    )
    for name, framework, target, compiled, baseline in (
        ("torch.eager", "torch", ":in_torch", None, "torch.eager"),
        ("torch.compile", "torch", ":in_torch", "default", "torch.eager"),
        ("jax.jit", "jax", ":in_jax", "jit", "torch.eager"),
        ("tf.function", "tensorflow", ":in_tensorflow", "function", "torch.eager"),
        ("tf.xla", "tensorflow", ":in_tensorflow", "xla", "tf.function"),
    )
]
