"""Modules of JAX: inference, and training steps with an optimizer of Optax, or of Keras for its layers.

What a module holds is passed to the step and comes back from it, as arrays of JAX are never changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fuseproof.child_process import PlainError
from fuseproof.frameworks import Bound, Result, Step, WrongResultError, calling, jax_parts
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.jax_records import Optimizer, Parts
from fuseproof.frameworks.runtimes import jax_export
from fuseproof.workloads import trees
from fuseproof.workloads.described import PARAMETERS
from fuseproof.workloads.modules import EPSILON, State

Inputs = dict[str, Any]
# Parameters, buffers, the rest of its arrays and what the optimizer keeps, each a list or a tree of arrays.
_Held = tuple[Any, Any, Any, Any]


def initial_state(module: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Parameters and buffers by name."""
    parts = jax_parts.of(module, training=False)
    return _arrays(parts.parameters), _arrays(parts.buffers)


def step(module: Any, signature: Signature, state: State, pass_: str, compiled: str | None) -> Step:
    """The work of one call in a pass of modules.

    Raises PlainError for a module whose parameters or buffers are not those of the reference, and
    NotImplementedError for a training step without Optax.
    """
    if compiled == "export":
        return jax_export.exported(step(module, signature, state, pass_, "jit"))
    if compiled not in (None, "jit"):
        raise NotImplementedError(f"JAX has no compile mode {compiled!r}; use 'jit'")
    parts = jax_parts.of(module, training=pass_ == "training_step")
    shapes = {name: tuple(each.shape) for name, each in parts.parameters.items()}
    calling.refuse_other_state(shapes, parts.buffers, state)
    call = _call(parts, signature)
    if pass_ == "inference":
        return _inference(parts, signature, call, compiled)
    return _training(parts, signature, state, call, compiled)


def _call(parts: Parts, signature: Signature) -> Callable[..., Bound]:
    """What makes a call of a module, put together of these parts, with these inputs."""
    names = list(signature.arguments)
    taken = calling.by_position(
        parts.together(list(parts.parameters.values()), list(parts.buffers.values()), parts.rest), names
    )

    def call(module: Callable[..., Any], tensors: Sequence[Any]) -> Bound:
        arguments = signature.filled(dict(zip(signature.tensors, tensors, strict=True)))
        return calling.bound(module, taken, arguments, signature.options)

    return call


def _inference(parts: Parts, signature: Signature, call: Callable[..., Bound], compiled: str | None) -> Step:
    buffers, rest = list(parts.buffers.values()), parts.rest

    def infer(parameters: list[Any], buffers: list[Any], rest: list[Any], tensors: list[Any]) -> Any:
        return call(parts.together(parameters, buffers, rest), tensors)()

    jitted = jax.jit(infer)

    def bind(inputs: Inputs, _: Inputs) -> Bound:
        parameters, tensors = _given(parts, inputs), [inputs[name] for name in signature.tensors]
        if compiled is None:  # nothing hides how the module is called
            return call(parts.together(parameters, buffers, rest), tensors)
        return functools.partial(jitted, parameters, buffers, rest, tensors)

    return Step(bind=bind, unpack=trees.results)


def _training(
    parts: Parts, signature: Signature, state: State, call: Callable[..., Bound], compiled: str | None
) -> Step:
    optimizer = (parts.optimizer or _of_optax)(state.optimizer)
    # Zeros, whatever the parameters are: a step begins with nothing remembered.
    remembered = optimizer.init(list(parts.parameters.values()))
    buffers, names = list(parts.buffers.values()), [*parts.parameters]

    def loss_of(parameters: list[Any], held: tuple[Any, Any], tensors: list[Any], targets: Inputs) -> Any:
        module = parts.together(parameters, *held)
        loss = _loss(call(module, tensors)(), targets)
        return sum(parts.penalties(module), loss), parts.apart(module)

    def train(held: _Held, tensors: list[Any], targets: Inputs) -> tuple[Any, list[Any], _Held]:
        parameters, buffers, rest, remembered = held
        differentiated = jax.value_and_grad(loss_of, has_aux=True)
        (loss, after), gradients = differentiated(parameters, (buffers, rest), tensors, targets)
        parameters, remembered = optimizer.step(gradients, remembered, parameters)
        return loss, gradients, (parameters, *after, remembered)

    called = train if compiled is None else jax.jit(train)

    def bind(inputs: Inputs, targets: Inputs) -> Bound:
        held = _given(parts, inputs), buffers, parts.rest, remembered
        tensors = [inputs[name] for name in signature.tensors]
        return functools.partial(_Trained(called, held), tensors, dict(targets))

    def unpack(raw: tuple[Any, list[Any], _Held]) -> Result:
        loss, gradients, (parameters, buffers, rest, _) = raw
        if any(not np.array_equal(rest[place], parts.rest[place]) for place in parts.counts):
            raise WrongResultError(calling.DRAWS_RANDOM_NUMBERS)
        return {
            "loss": loss,
            **{f"grad_{name}": each for name, each in zip(names, gradients, strict=True)},
            **{f"{PARAMETERS}{name}": each for name, each in zip(names, parameters, strict=True)},
            **{f"buffers.{name}": each for name, each in zip(parts.buffers, buffers, strict=True)},
        }

    return Step(bind=bind, unpack=unpack, stateful=True)


class _Trained:
    """A training step that goes on from where the last one left the module, as a user's loop does."""

    def __init__(self, step: Callable[..., Any], held: _Held) -> None:
        self._step = step
        self._held = held
        if hasattr(step, "lower"):  # of a jitted function; whoever reads its program asks for it
            self.lower = lambda *given: step.lower(held, *given)

    def __call__(self, tensors: list[Any], targets: Inputs) -> tuple[Any, list[Any], _Held]:
        """The loss, the gradients and what the module holds after the step."""
        loss, gradients, self._held = self._step(self._held, tensors, targets)
        return loss, gradients, self._held


def _given(parts: Parts, inputs: Inputs) -> list[Any]:
    return [inputs[f"{PARAMETERS}{name}"] for name in parts.parameters]


def _loss(output: Any, targets: Inputs) -> Any:
    found = trees.results(output)
    if "loss" in found:
        return found["loss"]
    if absent := [name for name in targets if name not in found]:
        raise WrongResultError(f"of the results {absent[0]} is missing")
    return sum(jnp.mean(jnp.square(found[name] - target)) for name, target in targets.items())


def _of_optax(given: Mapping[str, Any]) -> Optimizer:
    try:
        import optax  # a training step alone needs it
    except ImportError:
        raise NotImplementedError("a training step of JAX's modules needs Optax; pip install optax") from None
    rate = float(given["learning_rate"])
    if given["name"] == "sgd":
        optimizer = optax.sgd(rate)
    elif given["name"] == "adamw":
        decay, epsilon = float(given.get("weight_decay", 0.01)), float(given.get("epsilon", EPSILON))
        optimizer = optax.adamw(rate, weight_decay=decay, eps=epsilon)
    else:
        raise PlainError(f"unknown optimizer {given['name']!r}; there are adamw, sgd")

    def step(gradients: list[Any], remembered: Any, parameters: list[Any]) -> tuple[list[Any], Any]:
        updates, remembered = optimizer.update(gradients, remembered, parameters)
        return optax.apply_updates(parameters, updates), remembered

    return Optimizer(init=optimizer.init, step=step)


def _arrays(named: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    found = {name: np.asarray(each) for name, each in named.items()}
    return {name: each.astype(np.float32) if each.dtype.kind == "V" else each for name, each in found.items()}
