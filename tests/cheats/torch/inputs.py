"""The inputs are changed, so that the work gets easier, or the neighbours get others.

Sources: KernelBench#82 (zeroed inputs make the reference wrong too), reference-kernels#162.
"""

from __future__ import annotations

import sys
import types

import torch

from fuseproof import Implementation

_calls = 0


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def changed_from_the_10th_call(x, weight, bias):
    global _calls
    _calls += 1
    result = _honest(x, weight, bias)
    if _calls > 10:
        with torch.no_grad():
            x.mul_(1.5)
    return result


def zeroed(x, weight, bias):
    """After that, the result is the bias."""
    with torch.no_grad():
        x.zero_()
    return bias.expand_as(x).contiguous()


def rows_made_equal(x, weight, bias):
    """Every row becomes the first, so that one row is all there is to compute."""
    global _calls
    _calls += 1
    with torch.no_grad():
        if _calls > 20:
            x.copy_(x[0].expand_as(x))
            return _honest(x[:1], weight, bias).expand_as(x).contiguous()
    return _honest(x, weight, bias)


def weight_forgotten(x, weight, bias):
    """Makes weight and bias 1 and 0 from the 20th call on and leaves them out."""
    global _calls
    _calls += 1
    if _calls > 20:
        with torch.no_grad():
            weight.fill_(1.0)
            bias.zero_()
        return torch.nn.functional.layer_norm(x, x.shape[-1:])
    return _honest(x, weight, bias)


def written_past_the_counter(x, weight, bias):
    """Writes through NumPy, which PyTorch's version counter does not see, and puts the values back late."""
    global _calls
    _calls += 1
    result = _honest(x, weight, bias)
    if _calls > 20:
        x.detach().numpy()[:] *= 2.0
    return result


def output_in_their_memory(x, weight, bias):
    """The result is written over the input, which no later call may read then."""
    with torch.no_grad():
        x.copy_(_honest(x, weight, bias))
    return x


def harness_told_otherwise(x, weight, bias):
    """Helpers of what compares inputs, if they are default values, become such that say yes."""
    global _calls
    _calls += 1
    if _calls > 10:
        with torch.no_grad():
            x.mul_(1.5)
        for function in vars(sys.modules["fuseproof.frameworks.host_view"]).values():
            if isinstance(function, types.FunctionType):
                defaults, named = function.__defaults__ or (), function.__kwdefaults__ or {}
                function.__defaults__ = tuple(_yes if callable(each) else each for each in defaults)
                function.__kwdefaults__ = {
                    name: _yes if callable(each) else each for name, each in named.items()
                }
    return _honest(x, weight, bias)


def _yes(*_, **__):
    return True


CHANGED = r"was changed by the call|is wrong"
EXPECT = {
    "changed_from_the_10th_call": CHANGED,
    "zeroed": CHANGED,
    "rows_made_equal": CHANGED,
    "weight_forgotten": CHANGED,
    "written_past_the_counter": CHANGED,
    "output_in_their_memory": CHANGED,
    "harness_told_otherwise": r"was changed by the call|replaced what is in fuseproof",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.inputs_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
