"""What comes back is no result of its own: another type, another memory, memory that nothing was written to.

Sources: KernelBench#82 (uninitialised memory that still holds a result), reference-kernels#161, pygpubench#7.
"""

from __future__ import annotations

import torch

from fuseproof import Implementation

_calls = 0
_freed: torch.Tensor | None = None


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def parameter(x, weight, bias):
    """A subclass, if one of PyTorch's own."""
    return torch.nn.Parameter(_honest(x, weight, bias), requires_grad=False)


def array_of_numpy(x, weight, bias):
    return _honest(x, weight, bias).numpy()


def nothing(x, weight, bias):
    global _calls
    _calls += 1
    return _honest(x, weight, bias) if _calls < 30 else None


def float64(x, weight, bias):
    return _honest(x, weight, bias).double()


def no_elements(x, weight, bias):
    """A tensor on the device `meta` has a shape and no memory."""
    global _calls
    _calls += 1
    return _honest(x, weight, bias) if _calls < 30 else torch.empty_like(x, device="meta")


def sparse(x, weight, bias):
    global _calls
    _calls += 1
    return _honest(x, weight, bias) if _calls < 30 else torch.zeros_like(x).to_sparse()


def fewer_rows(x, weight, bias):
    global _calls
    _calls += 1
    return _honest(x, weight, bias) if _calls < 30 else _honest(x[:8], weight, bias)


def unwritten(x, weight, bias):
    """Memory that the allocator hands out again holds the result of the call before."""
    global _calls, _freed
    _calls += 1
    if _calls < 30:
        _freed = None
        return _honest(x, weight, bias)
    return torch.empty_like(x)


def the_input(x, weight, bias):
    """The input itself, from the 30th call on: right shape, right type, right memory order."""
    global _calls
    _calls += 1
    return _honest(x, weight, bias) if _calls < 30 else x


def a_row_for_all(x, weight, bias):
    """One row, with a stride of zero."""
    global _calls
    _calls += 1
    return _honest(x, weight, bias) if _calls < 30 else _honest(x[:1], weight, bias).expand_as(x)


TYPE = r"not a (plain )?tensor|instead of|is wrong"
EXPECT = {
    "parameter": TYPE,
    "array_of_numpy": TYPE,
    "nothing": TYPE,
    "float64": TYPE,
    "no_elements": TYPE,
    "sparse": TYPE,
    "fewer_rows": TYPE,
    "unwritten": TYPE,
    "the_input": TYPE,
    "a_row_for_all": TYPE,
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.results_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
