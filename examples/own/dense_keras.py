"""A layer of Keras, in inference and training: fuseproof run --workloads examples/own/dense_keras.py"""

from fuseproof import Implementation, Module


class KerasDense(Module):
    """A dense layer with its activation."""

    batch: int
    width: int
    named_shapes = {"small": {"batch": 32, "width": 64}}  # noqa: RUF012

    def draw_inputs(self, rng):
        return {"inputs": rng.standard_normal((self.batch, self.width))}


def layer(width):
    from keras import layers

    return layers.Dense(2 * width, activation="gelu")


OWN = [
    Implementation(
        "keras_dense",
        name,
        framework="tensorflow",
        target=":layer",
        compiled=compiled,
        baseline="keras.eager",
    )
    for name, compiled in (("keras.eager", None), ("keras.function", "function"), ("keras.xla", "xla"))
]
