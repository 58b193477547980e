"""TensorFlow's calls in a deployment runtime: a SavedModel, called by its signature, or LiteRT made of it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf

from fuseproof.frameworks import Bound, Deployment, Step, calling
from fuseproof.frameworks.runtimes import deployed
from fuseproof.workloads import trees

Inputs = dict[str, Any]
# Binds a call to its inputs, in the order of the names.
Bind = Callable[[tuple[Any, ...]], Bound]

MODES = ("saved_model", "litert")


class Runtime(Protocol):
    """What the module of a runtime provides.

    BOUND_RESULTS: whether a call writes its results into memory that was bound before.
    """

    BOUND_RESULTS: bool

    def export(self, saved: Path, folder: Path) -> Path: ...
    def load(self, file: Path, results: tuple[Any, ...]) -> Bind: ...


def step(
    called: Callable[..., Any],
    names: tuple[str, ...],
    mode: str,
    *,
    variables: Sequence[Any] = (),
    ready: Callable[[Inputs], None] = lambda inputs: None,
) -> Step:
    """The work of one call in a runtime. It is exported when it is first bound.

    called: takes the tensors of these names by position.
    variables: that it reads.
    ready: called before the export with the inputs, of which a layer takes its parameters: the program has
        them for good, as they are the same in all draws of inference.
    """
    runtime: Runtime = importlib.import_module(f"fuseproof.frameworks.runtimes.{mode}")
    deployment = Deployment()
    outputs: list[str] = []
    loaded: list[Bind] = []

    def flat(*tensors: Any) -> dict[str, Any]:
        found = trees.results(called(*tensors))
        outputs[:] = found
        return {f"output_{place}": each for place, each in enumerate(found.values())}

    def bind(inputs: Inputs, _: Inputs) -> Bound:
        tensors = tuple(inputs[name] for name in names)
        if not loaded:
            ready(inputs)
            results = tuple(flat(*tensors).values())
            found = deployed(
                mode,
                deployment,
                lambda folder: runtime.export(_saved(flat, tensors, variables, folder), folder),
                lambda file: runtime.load(file, results),
            )
            loaded.append(found)
        return loaded[0](tensors)

    def unpack(raw: Any) -> dict[str, Any]:
        return {name: raw[f"output_{place}"] for place, name in enumerate(outputs)}

    return Step(bind=bind, unpack=unpack, deployment=deployment, bound_results=runtime.BOUND_RESULTS)


def _saved(
    flat: Callable[..., Any], tensors: tuple[Any, ...], variables: Sequence[Any], folder: Path
) -> Path:
    """A SavedModel with one signature of inputs `input_0`, … and outputs `output_0`, …"""
    named = [f"input_{place}" for place in range(len(tensors))]
    wanted = [tf.TensorSpec(each.shape, each.dtype, name) for name, each in zip(named, tensors, strict=True)]
    function = tf.function(calling.with_parameters(flat, named), input_signature=wanted, autograph=False)
    module = tf.Module()
    # The converter of LiteRT finds no variable that Keras alone holds, and its results are noise then.
    module.held, module.function = list(variables), function
    file = folder / "saved_model"
    tf.saved_model.save(module, str(file), signatures={"serving_default": function})
    return file


def signature_call(signature: Any, tensors: tuple[Any, ...]) -> Bound:
    """A call of a signature with these tensors."""
    return functools.partial(signature, **{f"input_{place}": each for place, each in enumerate(tensors)})
