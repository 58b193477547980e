"""What a user's script does: import a framework, read the inputs, call once, have the result on the host.

    python first_result_script.py SPECIFICATION

`first_result` starts it and stops its clock when the line SAID is there; only then is the result written,
to be compared. Nothing of Fuseproof is imported meanwhile but the function that is called, what names the
parts of a nested argument, and their packages.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

SAID = "the first result is there"

Specification = Mapping[str, Any]
Found = dict[str, Any]  # arrays on the host, by name
Way = Callable[[Specification], Found]


def main(path: str) -> None:
    """Compute what the JSON file says: framework, target, compiled, device, dtype, inputs, arguments, …"""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a script has no use for pathlib
        specification = json.load(file)
    # What a framework prints must not be taken for the line.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    host = _WAYS[specification["framework"]](specification)
    answers.write(SAID + "\n")
    answers.flush()
    _write(specification, host)


def _torch(specification: Specification) -> Found:
    import torch

    function = _target(specification["target"])
    device = specification["device"]
    tensors = {
        name: torch.from_numpy(array).to(device, getattr(torch, dtype.replace("index", "int64")))
        for name, (array, dtype) in _arrays(specification).items()
    }
    leaves = [tensors[name].requires_grad_() for name in specification["differentiable"]]
    if specification["compiled"] not in (None, "kernel"):
        mode, _, shapes = specification["compiled"].partition("+")
        called = torch.compile(function, mode=mode, dynamic=True if shapes else None)
    else:
        called = function
    output = _call(called, function, specification, tensors)()
    found = _by_name(output)
    if leaves:
        gradients = torch.autograd.grad(output, leaves, tensors["cotangent"])
        found |= _gradients(specification, gradients)
    return {name: tensor.detach().to("cpu", torch.float32).numpy() for name, tensor in found.items()}


def _jax(specification: Specification) -> Found:
    import jax
    import numpy as np

    if specification["dtype"] == "float32":
        jax.config.update("jax_default_matmul_precision", "highest")
    function = _target(specification["target"])
    tensors = {
        name: jax.numpy.asarray(array, dtype.replace("index", "int32"))
        for name, (array, dtype) in _arrays(specification).items()
    }
    names = specification["differentiable"]

    def step(tensors: Found) -> Found:
        def forward(*leaves: Any) -> Any:
            given = tensors | dict(zip(names, leaves, strict=True))
            return _call(function, function, specification, given)()

        if not names:
            return _by_name(forward())
        output, pull = jax.vjp(forward, *(tensors[name] for name in names))
        return _by_name(output) | _gradients(specification, pull(tensors["cotangent"]))

    found = (step if specification["compiled"] is None else jax.jit(step))(tensors)
    return {name: np.asarray(array) for name, array in found.items()}


def _tensorflow(specification: Specification) -> Found:
    import tensorflow as tf

    if specification["dtype"] == "float32":
        tf.config.experimental.enable_tensor_float_32_execution(False)
    function = _target(specification["target"])
    tensors = {
        name: tf.constant(array, dtype.replace("index", "int32"))
        for name, (array, dtype) in _arrays(specification).items()
    }
    names, compiled = specification["differentiable"], specification["compiled"]

    def step(tensors: Found) -> Found:
        leaves = [tensors[name] for name in names]
        with tf.GradientTape() as tape:
            tape.watch(leaves)
            output = _call(function, function, specification, tensors)()
        if not names:
            return _by_name(output)
        gradients = tape.gradient(output, leaves, output_gradients=tensors["cotangent"])
        return _by_name(output) | _gradients(specification, map(tf.convert_to_tensor, gradients))

    called = step if compiled is None else tf.function(step, jit_compile=compiled == "xla")
    return {name: tensor.numpy() for name, tensor in called(tensors).items()}


_WAYS: Mapping[str, Way] = {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow}


def _target(reference: str) -> Callable[..., Any]:
    place, _, name = reference.rpartition(":")
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)  # type: ignore[no-any-return]
    found = importlib.util.spec_from_file_location("script", place)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return getattr(module, name)  # type: ignore[no-any-return]


def _arrays(specification: Specification) -> dict[str, tuple[Any, str]]:
    """The inputs and the cotangent, if there is one, as NumPy reads them, each with its dtype."""
    import numpy as np

    return {name: (np.load(file), dtype) for name, (file, dtype) in specification["tensors"].items()}


def _call(
    called: Callable[..., Any], function: Callable[..., Any], specification: Specification, tensors: Found
) -> Callable[[], Any]:
    """A call by keyword where the function has the inputs' names, else by position; options by keyword."""
    from fuseproof.workloads import trees

    arguments = {name: trees.fill(nest, tensors) for name, nest in specification["arguments"].items()}
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of one that is written in C
        known = {}  # type: ignore[assignment]
    if all(name in known and known[name].kind is not inspect.Parameter.POSITIONAL_ONLY for name in arguments):
        return functools.partial(called, **arguments, **specification["options"])
    return functools.partial(called, *arguments.values(), **specification["options"])


def _by_name(output: Any) -> Found:
    from fuseproof.workloads import trees

    return trees.results(output)


def _gradients(specification: Specification, gradients: Any) -> Found:
    names = (f"grad_{name}" for name in specification["differentiable"])
    return dict(zip(names, gradients, strict=True))


def _write(specification: Specification, host: Found) -> None:
    """Results and gradients as float32, one after the other, as the referee reads them."""
    import numpy as np

    if missing := {*specification["results"]} ^ host.keys():
        sys.exit(f"other results than those of the case: {', '.join(sorted(missing))}")
    with open(specification["file"], "wb") as file:  # noqa: PTH123
        for name in specification["results"]:
            file.write(np.ascontiguousarray(host[name], dtype=np.float32).data)


if __name__ == "__main__":
    main(sys.argv[1])
