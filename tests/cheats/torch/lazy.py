"""Nothing is computed before somebody looks, which is after the clock has stopped.

Sources: KernelBench#165 and arXiv 2606.08960 (tensor subclasses that compute when they are compared),
reference-kernels#161 (deferral into the untimed check).
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from fuseproof import Implementation

_pool = None
_calls = 0


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


class _Wrapper(torch.Tensor):
    """Holds no elements; the first operator that takes it computes them."""

    @staticmethod
    def __new__(cls, *inputs):
        made = torch.Tensor._make_wrapper_subclass(cls, inputs[0].shape, dtype=inputs[0].dtype)
        made.inputs = inputs
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), named=None):
        plain = [
            _honest(*(each.detach() for each in argument.inputs)) if isinstance(argument, cls) else argument
            for argument in arguments
        ]
        return function(*plain, **(named or {}))


class _Late(torch.Tensor):
    """Has elements, which are filled in when a function of PyTorch is called on it."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), named=None):
        with torch._C.DisableTorchFunctionSubclass():
            for argument in arguments:
                if isinstance(argument, cls) and (inputs := argument.__dict__.pop("inputs", None)):
                    argument.copy_(_honest(*(each.detach() for each in inputs)))
            return function(*arguments, **(named or {}))


def wrapper(x, weight, bias):
    return _Wrapper(x, weight, bias)


def filled_when_used(x, weight, bias):
    late = torch.empty_like(x.detach()).as_subclass(_Late)
    late.__dict__["inputs"] = (x, weight, bias)
    return late


def by_a_thread(x, weight, bias):
    """A thread computes while the caller believes that the call is done."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(1)
    out = torch.empty_like(x)
    _pool.submit(lambda: out.copy_(_honest(x, weight, bias)))
    return out


def by_a_thread_that_waits(x, weight, bias):
    """The thread begins when the batch is likely to be over."""
    out = torch.empty_like(x)

    def work():
        time.sleep(0.02)
        out.copy_(_honest(x, weight, bias))

    threading.Thread(target=work, daemon=True).start()
    return out


def by_a_hook_of_numpy(x, weight, bias):
    """An instance attribute takes the place of the method that a check reads the elements by."""
    out = torch.empty_like(x)
    out.detach = lambda: _honest(x, weight, bias)
    out.numpy = lambda **_: _honest(x, weight, bias).numpy()
    return out


def by_a_method_of_one_result(x, weight, bias):
    """From the 30th call on, what takes elements out of the result computes it first."""
    global _calls
    _calls += 1
    if _calls < 30:
        return _honest(x, weight, bias)
    out = torch.empty_like(x)
    out.detach = lambda: _honest(x, weight, bias)
    return out


EXPECT = {
    "wrapper": r"not a (plain )?tensor|_Wrapper|subclass",
    "filled_when_used": r"not a (plain )?tensor|_Late|subclass",
    "by_a_thread": r"wrong",
    "by_a_thread_that_waits": r"wrong|thread",
    "by_a_hook_of_numpy": r"not a plain tensor",
    "by_a_method_of_one_result": r"not a plain tensor",
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.lazy_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
