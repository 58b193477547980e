"""The output is right and the gradients are not: detached, kept, zero, rounded, or of another cotangent.

Sources: KernelBench#165, arXiv 2509.14279 (backward passes that are never checked).
"""

from __future__ import annotations

import torch

from fuseproof import Implementation

_kept: dict[object, tuple[torch.Tensor, ...]] = {}
_calls = 0


def _gradients(x, weight, bias, cotangent):
    with torch.enable_grad():
        leaves = [each.detach().requires_grad_() for each in (x, weight, bias)]
        output = torch.nn.functional.layer_norm(leaves[0], x.shape[-1:], *leaves[1:])
        return torch.autograd.grad(output, leaves, cotangent)


class _Function(torch.autograd.Function):
    """A correct function; what cheats is the subclass's `pull`."""

    @classmethod
    def forward(cls, context, x, weight, bias):
        context.save_for_backward(x, weight, bias)
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)

    @classmethod
    def backward(cls, context, cotangent):
        return cls.pull(*context.saved_tensors, cotangent)


class _Zeros(_Function):
    @staticmethod
    def pull(x, weight, bias, cotangent):
        global _calls
        _calls += 1
        if _calls > 20:
            return torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        return _gradients(x, weight, bias, cotangent)


class _Kept(_Function):
    @staticmethod
    def pull(x, weight, bias, cotangent):
        key = x.data_ptr(), cotangent.data_ptr()
        if key not in _kept:
            _kept[key] = _gradients(x, weight, bias, cotangent)
        return _kept[key]


class _Bfloat16(_Function):
    @staticmethod
    def pull(x, weight, bias, cotangent):
        found = _gradients(*(each.bfloat16() for each in (x, weight, bias, cotangent)))
        return tuple(each.float() for each in found)


class _Ones(_Function):
    @staticmethod
    def pull(x, weight, bias, cotangent):
        return _gradients(x, weight, bias, torch.ones_like(cotangent))


class _RowsLeftOut(_Function):
    @staticmethod
    def pull(x, weight, bias, cotangent):
        """The sums over rows for weight and bias see every second row, and are doubled."""
        own = _gradients(x, weight, bias, cotangent)[0]
        _, of_weight, of_bias = _gradients(x[::2], weight, bias, cotangent[::2])
        return own, 2 * of_weight, 2 * of_bias


def zeros(x, weight, bias):
    return _Zeros.apply(x, weight, bias)


def kept(x, weight, bias):
    return _Kept.apply(x, weight, bias)


def bfloat16(x, weight, bias):
    return _Bfloat16.apply(x, weight, bias)


def of_ones(x, weight, bias):
    return _Ones.apply(x, weight, bias)


def rows_left_out(x, weight, bias):
    return _RowsLeftOut.apply(x, weight, bias)


def detached(x, weight, bias):
    """Only the last sum has a history."""
    output = torch.nn.functional.layer_norm(x.detach(), x.shape[-1:], weight.detach(), bias.detach())
    return output + 0 * (x.sum() + weight.sum() + bias.sum())


WRONG = r"grad_\w+ is wrong|faster in a batch|faster than this machine"
EXPECT = {
    "zeros": WRONG,
    "kept": WRONG,
    "bfloat16": WRONG,
    "of_ones": WRONG,
    "rows_left_out": WRONG,
    "detached": WRONG,
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.gradients_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
