"""The baseline is made slow or wrong: a speedup is a quotient, and has two ends.

Sources: KernelBench#165, arXiv 2606.08960.
"""

from __future__ import annotations

import time

import torch

from fuseproof import Implementation

_layer_norm = torch.nn.functional.layer_norm
_torch_layer_norm = torch.layer_norm


def _honest(x, weight, bias):
    return _layer_norm(x, x.shape[-1:], weight, bias)


def slower(x, weight, bias):
    def slow(*arguments, **named):
        end = time.monotonic() + 2e-3
        while time.monotonic() < end:
            pass
        return _layer_norm(*arguments, **named)

    torch.nn.functional.layer_norm = slow
    return _honest(x, weight, bias)


def wrong(x, weight, bias):
    torch.nn.functional.layer_norm = lambda x, *_, **__: torch.zeros_like(x)
    torch.layer_norm = lambda x, *_, **__: torch.zeros_like(x)
    return _torch_layer_norm(x, x.shape[-1:], weight, bias)


def its_module(x, weight, bias):
    """Fuseproof's own table of operators, where the baseline's target lies."""
    from fuseproof.fusion.ops import torch as operators

    operators.layer_norm = lambda x, *_, **__: torch.zeros_like(x)
    return _honest(x, weight, bias)


def dispatch(x, weight, bias):
    """A mode that every operator passes through from now on, and that takes its time."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Slow(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            return function(*arguments, **(named or {}))

    result = _honest(x, weight, bias)
    Slow().__enter__()
    return result


EXPECT = {
    "slower": r"patched|replaced|changed",
    "wrong": r"patched|replaced|changed",
    "its_module": None,  # it harms nobody but itself: the baseline has a process of its own
    "dispatch": r"mode|changed|state",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.baseline_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
