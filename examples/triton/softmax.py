"""A Triton kernel from the first line to the GPU; docs/tutorial/your-first-kernel.md goes through it."""

import numpy as np
import torch
import triton
import triton.language as tl

import fuseproof
from fuseproof import Implementation, Operator


@triton.jit
def softmax_kernel(x, y, row_stride, columns, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * row_stride + at, mask=inside, other=-float("inf")).to(tl.float32)
    exponentials = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + row * columns + at, exponentials / tl.sum(exponentials, axis=0), mask=inside)


def kernel(x):
    if x.stride(1) != 1:
        x = x.contiguous()
    rows, columns = x.shape
    y = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    softmax_kernel[(rows,)](x, y, x.stride(0), columns, BLOCK=triton.next_power_of_2(columns))
    return y


def library(x):
    return torch.softmax(x, -1)


class OwnSoftmax(Operator):
    """Softmax of each row."""

    rows: int
    columns: int
    named_shapes = {  # noqa: RUF012
        "attention": {"rows": 4096, "columns": 1024},
        "ragged": {"rows": 513, "columns": 999},
    }
    passes = ("forward",)

    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((self.rows, self.columns))}

    def forward(self, x):  # what is right, in NumPy and float64
        exponentials = np.exp(x - x.max(-1, keepdims=True))
        return exponentials / exponentials.sum(-1, keepdims=True)

    def minimum_bytes(self, pass_, dtype):
        return 2 * self.rows * self.columns * (4 if dtype == "float32" else 2)


OWN = [
    Implementation("own_softmax", "torch.eager", framework="torch", target=":library"),
    Implementation("own_softmax", "torch.compile", framework="torch", target=":library", compiled="default"),
    Implementation(
        "own_softmax",
        "triton",
        framework="torch",
        target=":kernel",
        compiled="kernel",
        devices=("cuda",),
        interpreted=("cpu",),
    ),
]


def inputs(seed, rows=3, columns=5):
    return {"x": torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))}


if __name__ == "__main__":  # TRITON_INTERPRET=1 python softmax.py
    over = {"columns": [1, 2, 127, 128, 129], "dtype": ["float32", "float16"]}
    print(fuseproof.check(kernel, inputs=inputs, baseline=library, over=over, gradients=False))
