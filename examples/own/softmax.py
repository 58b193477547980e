"""An operator of one's own: fuseproof run --workloads examples/own/softmax.py"""

import numpy as np

from fuseproof import Implementation, Operator


class RowSoftmax(Operator):
    """Softmax over the last axis."""

    rows: int
    columns: int
    named_shapes = {"attention": {"rows": 128, "columns": 512}}  # noqa: RUF012

    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((self.rows, self.columns))}

    def forward(self, x):  # what is right, in NumPy and float64
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


def softmax(x):
    return x.softmax(-1)


OWN = [
    Implementation("row_softmax", "torch.eager", framework="torch", target=":softmax"),
    Implementation("row_softmax", "torch.compile", framework="torch", target=":softmax", compiled="default"),
]
