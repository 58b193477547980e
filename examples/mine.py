import torch

from fuseproof import Implementation


def layer_norm(x, weight, bias, *, residual=None):
    s = x if residual is None else x + residual
    return torch.nn.functional.layer_norm(s, s.shape[-1:], weight, bias)


IMPLEMENTATIONS = (
    Implementation("layer_norm", "torch.mine", framework="torch", target="mine.py:layer_norm"),
)
