"""Is a function right, at the edges of its blocks too? python examples/check.py"""

import numpy as np
import torch

import fuseproof


def inputs(seed, rows=5, columns=257):
    return {"x": torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))}


def in_numpy(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def blocks(x, block=128):
    """Softmax as a kernel computes it: block by block, each row in two passes."""
    out = torch.empty_like(x)
    starts = range(0, x.shape[-1], block)
    most = torch.stack([x[..., start : start + block].amax(-1) for start in starts]).amax(0)
    total = sum(torch.exp(x[..., start : start + block] - most[..., None]).sum(-1) for start in starts)
    for start in starts:
        part = x[..., start : start + block]
        out[..., start : start + block] = torch.exp(part - most[..., None]) / total[..., None]
    return out


def whole_blocks(x, block=128):
    """The same with a mistake: what is left of the last block is not written."""
    out = torch.empty_like(x)
    whole = x.shape[-1] // block * block or x.shape[-1]
    out[..., :whole] = blocks(x)[..., :whole]
    return out


if __name__ == "__main__":
    over = {"columns": [1, 127, 128, 129], "dtype": ["float32", "bfloat16"]}
    for function in (blocks, whole_blocks):
        print(fuseproof.check(function, inputs=inputs, reference=in_numpy, over=over), end="\n\n")
