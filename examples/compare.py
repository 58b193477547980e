"""Two functions of a script or a notebook, compared: python examples/compare.py"""

import torch

import fuseproof


def inputs(seed):
    drawn = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(seed))
    return {"x": drawn[0], "w": drawn[1] / 16}


def eager(x, w):
    return torch.nn.functional.gelu(x @ w)


if __name__ == "__main__":
    compiled = torch.compile(eager)
    found = fuseproof.compare({"eager": eager, "compiled": compiled}, inputs=inputs, baseline="eager")
    print(found)
