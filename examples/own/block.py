"""A module, in inference and training: fuseproof run --workloads examples/own/block.py"""

from fuseproof import Implementation, Module


class Block(Module):
    """The feed-forward part of a transformer's block."""

    batch: int
    width: int
    named_shapes = {"small": {"batch": 16, "width": 64}}  # noqa: RUF012

    def draw_inputs(self, rng):
        return {"input": rng.standard_normal((self.batch, self.width))}


def block(width):
    from torch import nn

    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
    )


OWN = [
    Implementation("block", "torch.eager", framework="torch", target=":block"),
    Implementation("block", "torch.compile", framework="torch", target=":block", compiled="default"),
]
