"""PyTorch's calls in a deployment runtime: flat tensors in and out, exported with the weights they have."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import torch

from fuseproof.frameworks import Bound, Deployment, Step, calling
from fuseproof.frameworks.calling import Signature
from fuseproof.frameworks.runtimes import deployed
from fuseproof.workloads import trees

Inputs = dict[str, torch.Tensor]
# Binds a call to its inputs, in the order of the signature.
Bind = Callable[[tuple[torch.Tensor, ...]], Bound]

# The module of each mode of `Implementation.compiled`.
_RUNTIMES = {
    "torchscript": "torchscript",
    "torchscript-trace": "torchscript",
    "aotinductor": "aotinductor",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
MODES = tuple(_RUNTIMES)


class Runtime(Protocol):
    """What the module of a runtime provides.

    BOUND_RESULTS: whether a call writes its results into memory that was bound before.
    """

    BOUND_RESULTS: bool

    def export(self, program: Program, folder: Any) -> Any: ...
    def load(self, file: Any, program: Program) -> Bind: ...


class Program(torch.nn.Module):  # type: ignore[misc]
    """A function or a module as one of flat tensors, which gives the tuple of its results.

    called:   the function or the module.
    examples: the inputs it is exported with; only their shapes and dtypes count.
    names:    of the results; results: what the call gives for the examples.
    mode:     of the runtime.
    """

    def __init__(
        self,
        called: Callable[..., Any],
        taken: int,
        signature: Signature,
        examples: tuple[torch.Tensor, ...],
        mode: str,
    ) -> None:
        super().__init__()
        self.called = called
        self.mode = mode
        self.examples = examples
        self._taken = taken
        self._signature = signature
        with torch.no_grad():
            found = trees.results(self.bound(called, examples)())
        self.names = tuple(found)
        self.results = tuple(found.values())
        self.eval()

    def bound(self, called: Callable[..., Any], tensors: tuple[torch.Tensor, ...]) -> Bound:
        """A call of `called` as users of the function or the module make it."""
        arguments = self._signature.filled(dict(zip(self._signature.tensors, tensors, strict=True)))
        return calling.bound(called, self._taken, arguments, self._signature.options)

    def forward(self, *tensors: torch.Tensor) -> tuple[Any, ...]:
        return tuple(trees.results(self.bound(self.called, tensors)()).values())


def step(
    called: Callable[..., Any],
    taken: int,
    signature: Signature,
    mode: str,
    ready: Callable[[Inputs], None] = lambda inputs: None,
) -> Step:
    """The work of one call in a runtime. It is exported when it is first bound.

    taken: how many arguments `called` takes by position.
    ready: called before the export with the inputs, of which a module takes its parameters: the program has
        them for good, as they are the same in all draws of inference.
    """
    runtime: Runtime = importlib.import_module(f"fuseproof.frameworks.runtimes.{_RUNTIMES[mode]}")
    deployment = Deployment()
    loaded: list[tuple[Program, Bind]] = []

    def bind(inputs: Inputs, _: Inputs) -> Bound:
        tensors = tuple(inputs[name] for name in signature.tensors)
        if not loaded:
            ready(inputs)
            program = Program(called, taken, signature, tensors, mode)
            with torch.no_grad():
                found = deployed(
                    mode,
                    deployment,
                    lambda folder: runtime.export(program, folder),
                    lambda file: runtime.load(file, program),
                )
            loaded.append((program, found))
        return loaded[0][1](tensors)

    def unpack(raw: Any) -> dict[str, Any]:
        if mode == "torchscript":  # returns what the module returns; the others the tuple of `Program`
            return trees.results(raw)
        return dict(zip(loaded[0][0].names, raw, strict=True))

    return Step(bind=bind, unpack=unpack, deployment=deployment, bound_results=runtime.BOUND_RESULTS)


def refuse_other_order(tensors: tuple[torch.Tensor, ...], runtime: str) -> None:
    """Raise NotImplementedError for tensors that are not in C order, whose memory a runtime would misread."""
    if not all(each.is_contiguous() for each in tensors):
        raise NotImplementedError(f"{runtime} reads tensors in C order only, and this case has another")
