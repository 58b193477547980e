"""The launches that a function of a user makes, seen by calling it once on tensors without memory.

Triton's `run` is replaced meanwhile, so nothing is launched: the arguments of every launch are kept. They are
on PyTorch's meta device, which has shapes and strides and no values. A kernel that `triton.autotune` tunes is
kept with each of its configs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import torch
import triton
from triton.runtime.autotuner import Autotuner

from fuseproof.cases import Case
from fuseproof.child_process import PlainError, described
from fuseproof.frameworks import calling
from fuseproof.frameworks.calling import Signature
from fuseproof.implementations import Implementation, resolve_function
from fuseproof.kernels.triton.launch import Launch, is_interpreted
from fuseproof.workloads.tensor import INDEX, MODULE_PASSES, tensor_dtype

# What a launch takes beside the kernel's parameters; further options, such as maxnreg, go to the compiler.
_WARPS, _STAGES = 4, 3  # Triton's own, where a launch names none
_NOT_OPTIONS = ("grid", "warmup", "num_warps", "num_stages", "debug", "instrumentation_mode")


def launches_of(implementation: Implementation, case: Case) -> list[Launch]:
    """The launches of one call, of both passes where the case has both, each label once.

    Raises PlainError if the target cannot be called like this, NotImplementedError if it launches nothing.
    """
    if case.pass_ in MODULE_PASSES:
        raise NotImplementedError("a module: give a function that launches its kernels")
    function = resolve_function(implementation.target)
    found: list[Launch] = []
    try:
        with _recorded(found):
            _call(function, case)
    except Exception as error:
        raise PlainError(
            f"cannot be called with tensors of PyTorch's meta device, which are on no GPU: {described(error)}"
        ) from None
    if not found:
        raise NotImplementedError(
            "launches no Triton kernel in this case (of a torch.library.custom_op only the fake is called: "
            "name the function beneath it)"
        )
    labels: dict[str, Launch] = {}
    for launch in found:
        label = f"{launch.kernel.__name__}{launch.label} {case.group} {implementation.name}"
        known = labels.setdefault(label, launch.labelled(label))
        number = 2
        while not _are_alike(known, launch):
            numbered = f"{launch.kernel.__name__}-{number}{launch.label} {case.group} {implementation.name}"
            known = labels.setdefault(numbered, launch.labelled(numbered))
            number += 1
    return list(labels.values())


def _call(function: Callable[..., Any], case: Case) -> None:
    workload = case.workload
    signature = Signature.of(workload)
    backward = case.pass_ == "forward_backward"
    tensors = {}
    for name, tensor in workload.inputs_by_name.items():
        dtype = tensor.dtype or tensor_dtype(case.dtype)
        made = torch.empty(
            tensor.shape, dtype=torch.int64 if dtype == INDEX else getattr(torch, dtype), device="meta"
        )
        tensors[name] = made.requires_grad_(backward and name in signature.differentiable)
    arguments = signature.filled(tensors)
    taken = calling.by_position(function, list(arguments))
    output = calling.bound(function, taken, arguments, signature.options)()
    if backward:
        started = signature.started(output)
        torch.autograd.grad(
            started,
            [tensors[name] for name in signature.differentiable],
            [torch.empty_like(each) for each in started],
            allow_unused=True,
        )


@contextlib.contextmanager
def _recorded(found: list[Launch]) -> Iterator[None]:
    """Every launch within is kept in `found` and not made."""

    def run(kernel: Any, *given: Any, grid: Any = None, **named: Any) -> None:
        found.append(_launch(kernel, given, named, label=named.pop("_fuseproof_config", "")))

    def tuned(tuner: Any, *given: Any, **named: Any) -> None:
        configs = _legal(tuner, given, named)
        for config in configs:
            label = f"[{config}]" if len(configs) > 1 else ""
            chosen = {name: value for name, value in config.all_kwargs().items() if value is not None}
            tuner.fn.run(*given, **named, **chosen, _fuseproof_config=label)

    with (
        mock.patch.object(triton.runtime.JITFunction, "run", run),
        mock.patch.object(Autotuner, "run", tuned),
    ):
        yield


def _legal(tuner: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> list[Any]:
    """The configs that the tuner would try here; all where its own pruning needs more than shapes."""
    tuner.nargs = dict(zip(tuner.arg_names, given, strict=False))
    try:
        return list(tuner.prune_configs(dict(named))) or list(tuner.configs)
    except Exception:
        return list(tuner.configs)
    finally:
        tuner.nargs = None


def _launch(kernel: Any, given: tuple[Any, ...], named: Mapping[str, Any], *, label: str) -> Launch:
    if is_interpreted(kernel):
        raise RuntimeError("it was imported under TRITON_INTERPRET=1, and is interpreted")
    values = {parameter.name: parameter.default for parameter in kernel.params if parameter.has_default}
    values |= dict(zip(kernel.arg_names, given, strict=False))
    values |= {name: value for name, value in named.items() if name in kernel.arg_names}
    if absent := [name for name in kernel.arg_names if name not in values]:
        raise TypeError(f"{kernel.__name__} is launched without {absent[0]}")
    constants = {each.name for each in kernel.params if each.is_constexpr}
    for name, value in values.items():
        if name not in constants and not isinstance(value, torch.Tensor | bool | int | float | None):
            raise TypeError(
                f"{name} of {kernel.__name__} is a {type(value).__name__}; tensors and numbers compile"
            )
    options = {
        name: value
        for name, value in named.items()
        if name not in (*_NOT_OPTIONS, *kernel.arg_names) and value is not None
    }
    return Launch(
        kernel=kernel,
        grid=(1,),  # nothing that is compiled depends on it
        arguments={name: value for name, value in values.items() if name not in constants},
        constants={name: value for name, value in values.items() if name in constants},
        num_warps=named.get("num_warps") or _WARPS,
        num_stages=named.get("num_stages") or _STAGES,
        options=options,
        label=label,
    )


def _are_alike(one: Launch, other: Launch) -> bool:
    """Whether they have the same numbers and options, and tensors of the same dtypes."""

    def of(launch: Launch) -> tuple[Any, ...]:
        plain = {
            name: (value.dtype, value.storage_offset())
            if isinstance(value, torch.Tensor)
            else (type(value), value)
            for name, value in launch.arguments.items()
        }
        return launch.kernel, plain, launch.constants, launch.num_warps, launch.num_stages, launch.options

    return of(one) == of(other)
