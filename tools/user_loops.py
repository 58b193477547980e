"""The loops that users write to time a function of three tensors, in each framework.

Each function here gives a `Loop`: it makes so many calls of an implementation and returns their seconds.
Results are kept as in a user's loop: PyTorch and TensorFlow discard them, JAX keeps the last, to wait for it.
"""

from __future__ import annotations

import time
import types
from collections.abc import Mapping, Sequence
from typing import Any

from fuseproof.implementations import Implementation, resolve_function
from fuseproof.measure.neutrality import Loop


def copies_of(
    framework: Any, inputs: Mapping[str, Any], consumes: Sequence[str], calls: int
) -> list[dict[str, Any]]:
    """The inputs of so many calls, each with new copies of what a call consumes."""
    copies = [{name: framework.copy(inputs[name]) for name in consumes} for _ in range(calls)]
    for each in copies:
        framework.synchronize(each)
    return [{**inputs, **each} for each in copies]


def own_copy(function: Any) -> Any:
    """The same function with a code object of its own, as in a process that compiles it once.

    PyTorch keeps what it compiled by code object, and tries one after the other at each call: the second
    `torch.compile` of a function is 4 % slower at 40 µs.
    """
    copy = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def torch_loop(
    framework: Any, implementation: Implementation, pass_: str, inputs: Mapping[str, Any], cotangent: Any
) -> Loop:
    import torch

    function = resolve_function(implementation.target)
    if implementation.compiled is not None:
        function = torch.compile(own_copy(function), mode=implementation.compiled)
    x, weight, bias = inputs.values()

    def forward(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            function(x, weight, bias)
        return time.perf_counter() - started

    # A function that returns the output and its gradients, as those of JAX and TensorFlow below do. Where the
    # output outlives its call instead, the next call finds other memory free: 1 µs less of 37, or 4 % more.
    def step() -> Any:
        output = function(x, weight, bias)
        return output, torch.autograd.grad(output, (x, weight, bias), cotangent)

    def forward_backward(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            step()
        return time.perf_counter() - started

    return forward if pass_ == "forward" else forward_backward


def jax_loop(
    framework: Any, implementation: Implementation, pass_: str, inputs: Mapping[str, Any], cotangent: Any
) -> Loop:
    import jax

    operator = resolve_function(implementation.target)

    def with_gradients(x: Any, weight: Any, bias: Any, cotangent: Any) -> Any:
        output, pullback = jax.vjp(operator, x, weight, bias)
        return output, pullback(cotangent)

    function = operator if pass_ == "forward" else with_gradients
    if implementation.compiled is not None:
        function = jax.jit(function, donate_argnums=0 if implementation.consumes else ())
    x, weight, bias = inputs.values()

    def forward(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            output = function(x, weight, bias)
        output.block_until_ready()
        return time.perf_counter() - started

    def forward_backward(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            result = function(x, weight, bias, cotangent)
        jax.block_until_ready(result)
        return time.perf_counter() - started

    def forward_donated(calls: int) -> float:
        copies = [each["x"] for each in copies_of(framework, inputs, ["x"], calls)]
        started = time.perf_counter()
        for x in copies:
            output = function(x, weight, bias)
        output.block_until_ready()
        return time.perf_counter() - started

    def forward_backward_donated(calls: int) -> float:
        copies = [each["x"] for each in copies_of(framework, inputs, ["x"], calls)]
        started = time.perf_counter()
        for x in copies:
            result = function(x, weight, bias, cotangent)
        jax.block_until_ready(result)
        return time.perf_counter() - started

    if implementation.consumes:
        return forward_donated if pass_ == "forward" else forward_backward_donated
    return forward if pass_ == "forward" else forward_backward


def tensorflow_loop(
    framework: Any, implementation: Implementation, pass_: str, inputs: Mapping[str, Any], cotangent: Any
) -> Loop:
    import tensorflow as tf

    operator = resolve_function(implementation.target)

    def with_gradients(x: Any, weight: Any, bias: Any, cotangent: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((x, weight, bias))
            output = operator(x, weight, bias)
        return output, tape.gradient(output, (x, weight, bias), output_gradients=cotangent)

    # A user's function has these parameters. One more with a default, such as the residual of our operators,
    # costs 80 µs a call, because tf.function binds it each time.
    def plain(x: Any, weight: Any, bias: Any) -> Any:
        return operator(x, weight, bias)

    function = operator
    if pass_ != "forward":
        function = with_gradients
    elif implementation.compiled is not None:
        function = plain
    if implementation.compiled is not None:
        function = tf.function(function, jit_compile=implementation.compiled == "xla")
    x, weight, bias = inputs.values()

    def forward(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            function(x, weight, bias)
        return time.perf_counter() - started

    def forward_backward(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            function(x, weight, bias, cotangent)
        return time.perf_counter() - started

    return forward if pass_ == "forward" else forward_backward


LOOPS = {"torch": torch_loop, "jax": jax_loop, "tensorflow": tensorflow_loop}
