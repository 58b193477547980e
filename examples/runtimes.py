"""One network in every deployment runtime, against the frameworks' own calls.

    fuseproof run --workloads runtimes.py --blocks 2

What is not installed is skipped with the command that installs it.
"""

from __future__ import annotations

from fuseproof import Implementation, Module, runtime_rows


class SmallMLP(Module):
    """Two layers with a GELU between them, called for a batch of rows."""

    name = "small_mlp"
    passes = ("inference",)
    batch: int
    width: int
    named_shapes = {"small": {"batch": 8, "width": 64}}  # noqa: RUF012

    def draw_inputs(self, rng):
        return {"input": rng.standard_normal((self.batch, self.width))}


def mlp(width):
    from torch import nn

    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


OWN = [
    Implementation("small_mlp", "torch.eager", framework="torch", target=":mlp"),
    Implementation("small_mlp", "torch.compile", framework="torch", target=":mlp", compiled="default"),
    *runtime_rows("small_mlp", "torch", ":mlp"),
]
