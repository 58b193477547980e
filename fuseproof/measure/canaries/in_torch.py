"""The canaries in PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from fuseproof.measure.canaries import common

_layer_norm = torch.nn.functional.layer_norm
_streams: list[Any] = []
_modules: list[Any] = []


def _honest(x: Any, weight: Any, bias: Any) -> Any:
    return _layer_norm(x, x.shape[-1:], weight, bias)


def prepared(x: Any, weight: Any, bias: Any) -> Any:
    if not _modules:
        _modules.append(torch.jit.trace(_honest, (x, weight, bias), check_trace=False))
    return _modules[0](x, weight, bias)


def fewer_bits(x: Any, weight: Any, bias: Any) -> Any:
    return _honest(x.bfloat16(), weight.bfloat16(), bias.bfloat16()).to(x.dtype)


def fewer_rows(x: Any, weight: Any, bias: Any) -> Any:
    return _honest(x[::2], weight, bias).repeat_interleave(2, dim=0)


def side_stream(x: Any, weight: Any, bias: Any) -> Any:
    if not _streams:
        _streams.append(torch.cuda.Stream())
    with torch.cuda.stream(_streams[0]):
        return _honest(x, weight, bias)


class _Late(torch.Tensor):  # type: ignore[misc]
    """Has no elements; the first operator that takes it computes them."""

    @staticmethod
    def __new__(cls, *inputs: Any) -> Any:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inputs[0].shape, dtype=inputs[0].dtype, device=inputs[0].device
        )
        made.inputs = inputs
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        plain = [_honest(*each.inputs) if isinstance(each, cls) else each for each in arguments]
        return function(*plain, **(named or {}))


def other_type(x: Any, weight: Any, bias: Any) -> Any:
    return _Late(x, weight, bias)


refilled = common.refilled(_honest)
cached = common.cached(_honest)
fingerprinted = common.fingerprinted(_honest)
every_second = common.every_second(_honest)
later_zeros = common.later_zeros(_honest)
threaded = common.threaded(_honest, torch.empty_like, lambda output, result: output.copy_(result))
slow_clock = common.slow_clock(_honest)
forged = common.forged(_honest)
slow_baseline = common.slow_baseline(_honest, torch.nn.functional, "layer_norm")
core_taken = common.core_taken(_honest)
