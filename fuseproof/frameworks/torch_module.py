"""Modules of PyTorch: inference, and training steps with an optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fuseproof.child_process import PlainError
from fuseproof.frameworks import Bound, Result, Step, WrongResultError, calling
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.runtimes import in_torch
from fuseproof.workloads import trees
from fuseproof.workloads.described import PARAMETERS
from fuseproof.workloads.modules import EPSILON, State

Inputs = dict[str, torch.Tensor]


def make(target: Any, fields: Mapping[str, object], dtype: str, device: torch.device) -> torch.nn.Module:
    """The module that a target is or makes, with parameters of the dtype on the device."""
    torch.manual_seed(0)  # the same initial buffers in every process
    module = calling.made(
        target, fields, lambda given: isinstance(given, torch.nn.Module), "a torch.nn.Module"
    )
    if module is target:
        module = deepcopy(module)  # what one case makes of it must not meet the next
    found: torch.nn.Module = module
    return found.to(device=device, dtype=getattr(torch, dtype))


def initial_state(module: torch.nn.Module) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Parameters and buffers by name."""
    parameters = {name: _array(tensor) for name, tensor in module.named_parameters()}
    return parameters, {name: _array(tensor) for name, tensor in module.named_buffers()}


def step(
    module: torch.nn.Module,
    signature: Signature,
    state: State,
    pass_: str,
    call: Callable[..., Any],
) -> Step:
    """The work of one call in a pass of modules; `call` is the module, compiled or not."""
    kept = _Kept(module, state)
    call = _cast(module, call, state.autocast)
    module.train(pass_ == "training_step")
    taken = calling.by_position(module.forward, list(signature.arguments))

    def arguments(inputs: Inputs) -> Bound:
        _take_order(module, inputs)
        kept.load(inputs)
        given = {name: value for name, value in inputs.items() if not name.startswith(PARAMETERS)}
        return calling.bound(call, taken, signature.filled(given), signature.options)

    if pass_ == "inference":
        return Step(bind=lambda inputs, _: functools.partial(_infer, arguments(inputs)), unpack=trees.results)
    optimizer = _optimizer(module, state.optimizer)

    def bind(inputs: Inputs, targets: Inputs) -> Bound:
        bound = arguments(inputs)
        for moments in optimizer.state.values():
            for tensor in moments.values():
                tensor.zero_()
        optimizer.zero_grad()
        return functools.partial(_train, bound, optimizer, targets)

    return Step(bind=bind, unpack=lambda raw: {"loss": raw, **kept.results()}, stateful=True)


def deployed_step(module: torch.nn.Module, signature: Signature, state: State, mode: str) -> Step:
    """The work of one call of a module in a deployment runtime, which keeps the first parameters given."""
    if state.autocast:
        raise NotImplementedError("a program is exported as it is written, and autocast is around it")
    kept = _Kept(module, state)

    def ready(inputs: Inputs) -> None:
        _take_order(module, inputs)
        kept.load(inputs)
        module.eval()

    taken = calling.by_position(module.forward, list(signature.arguments))
    return in_torch.step(module, taken, signature, mode, ready)


def _cast(module: torch.nn.Module, call: Callable[..., Any], dtype: str) -> Callable[..., Any]:
    """The call under autocast; the reference in float64 is not cast."""
    first = next(iter(module.parameters()), None)
    if not dtype or (first is not None and first.dtype == torch.float64):
        return call
    device = "cpu" if first is None else first.device.type
    own = getattr(torch, dtype)

    @functools.wraps(call, updated=())
    def cast(*given: Any, **named: Any) -> Any:
        with torch.autocast(device, own):
            return call(*given, **named)

    return cast


def _take_order(module: torch.nn.Module, inputs: Inputs) -> None:
    """Have the module's memory in the order of the inputs': both are channels-last or neither is."""
    images = [each for each in inputs.values() if each.dim() == 4]
    last = torch.channels_last
    if any(each.is_contiguous(memory_format=last) and not each.is_contiguous() for each in images):
        for held in (*module.parameters(), *module.buffers()):
            if held.dim() == 4:  # in place, unlike Module.to: others hold the buffers
                held.data = held.data.contiguous(memory_format=last)


def _infer(bound: Bound) -> Any:
    with torch.no_grad():
        return bound()


def _train(bound: Bound, optimizer: torch.optim.Optimizer, targets: Inputs) -> torch.Tensor:
    optimizer.zero_grad()
    loss = _loss(bound(), targets)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _loss(output: Any, targets: Inputs) -> torch.Tensor:
    if isinstance(output, torch.Tensor):  # the usual case without the cost of names
        return torch.nn.functional.mse_loss(output, targets[trees.OUTPUT])
    found = trees.results(output)
    if "loss" in found:
        return found["loss"]
    if absent := [name for name in targets if name not in found]:
        raise WrongResultError(f"of the results {absent[0]} is missing")
    return torch.stack(
        [torch.nn.functional.mse_loss(found[name], target) for name, target in targets.items()]
    ).sum()


class _Kept:
    """The state of a module, in its own memory: what is given is copied there."""

    def __init__(self, module: torch.nn.Module, state: State) -> None:
        self._parameters = dict(module.named_parameters())
        self._buffers = dict(module.named_buffers())
        shapes = {name: tuple(each.shape) for name, each in self._parameters.items()}
        calling.refuse_other_state(shapes, self._buffers, state)
        self._initial = {name: buffer.clone() for name, buffer in self._buffers.items()}

    def load(self, inputs: Inputs) -> None:
        """Parameters with the values given, buffers with those that they began with."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(inputs[f"{PARAMETERS}{name}"])
            for name, buffer in self._buffers.items():
                buffer.copy_(self._initial[name])

    def results(self) -> Result:
        """Gradients, parameters and buffers as they are now, in the module's own memory."""
        without = [
            name for name, each in self._parameters.items() if each.grad is None and each.requires_grad
        ]
        if without:
            raise WrongResultError(f"the parameter {without[0]} has no gradient after a training step")
        zeros = torch.zeros_like
        return {
            **{f"grad_{n}": zeros(p) if p.grad is None else p.grad for n, p in self._parameters.items()},
            **{f"parameters.{name}": each.detach() for name, each in self._parameters.items()},
            **{f"buffers.{name}": each.detach() for name, each in self._buffers.items()},
        }


def _optimizer(module: torch.nn.Module, given: Mapping[str, Any]) -> torch.optim.Optimizer:
    parameters = list(module.parameters())
    rate = float(given["learning_rate"])
    if given["name"] == "sgd":
        return torch.optim.SGD(parameters, lr=rate)
    if given["name"] == "adamw":
        decay, epsilon = float(given.get("weight_decay", 0.01)), float(given.get("epsilon", EPSILON))
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, eps=epsilon)
    raise PlainError(f"unknown optimizer {given['name']!r}; there are adamw, sgd")


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    copy = tensor.detach().cpu()
    return np.asarray(copy.float() if copy.is_floating_point() else copy)
