"""What is right for a case: the workload's closed form, or one implementation computed in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof import frameworks
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.frameworks import Framework, Step
from fuseproof.implementations import Implementation, resolve_function
from fuseproof.measure import checks, opening, tensors
from fuseproof.workloads import distribution
from fuseproof.workloads.described import PARAMETERS, Described
from fuseproof.workloads.distribution import Drawn
from fuseproof.workloads.modules import EPSILON, Module, State
from fuseproof.workloads.operators.base import rms
from fuseproof.workloads.tensor import INDEX, tensor_dtype
from fuseproof.workloads.workload import Arrays, Sampled, Workload, whole


def of(case: Case) -> Workload | ByImplementation:
    """The reference of a case. Raises UserError if the implementation that is one cannot be loaded."""
    workload = case.workload
    if isinstance(workload, Described) and workload.reference:
        dtype = workload.reference_dtype or tensor_dtype(case.dtype)
        return ByImplementation(workload.reference, dtype=dtype).of(case)
    return workload


# Roundings of the usual gradient that one must exceed to have a direction.
_NOISE = 64.0
# AdamW divides a gradient g by |g| + ε, in Keras's first step by |g| + ε / √(1 - 0.999). An error δ of g is
# one of ε δ / (|g| + ε)² of the step: from |g| = √(a thousand ε · noise) on less than the parameters' own
# rounding. Seen without this in one of 60 draws of a bias of 64: a hundred times the error of the others.
_EPSILONS = 1300.0
_KERAS_EPSILONS = 32.0


class ByImplementation:
    """An implementation on the CPU, in `dtype`, which stands for what is right.

    implementation: its fields, as `Implementation.to_json`.
    """

    def __init__(self, implementation: Mapping[str, Any], *, dtype: str) -> None:
        self._implementation = Implementation.from_json(implementation)
        self._dtype = dtype
        self._framework = on_the_host(self._implementation.framework)
        function = resolve_function(self._implementation.target)
        self._function = self._framework.in_float64(function) if dtype == "float64" else function
        self._step: Step | None = None
        self._case: Case | None = None

    def of(self, case: Case) -> ByImplementation:
        """The same for a case, whose results it gives from then on."""
        self._case = case
        self._step = opening.step(self._framework, self._function, case, None, dtype=self._dtype)
        return self

    def state(self, source: Module) -> State:
        """What the module holds that the implementation is or makes from the fields of `source`."""
        module = opening.module(self._framework, self._function, source, self._dtype)
        return State.of(*self._framework.initial_state(module), source.optimizer, source.autocast)

    def expected(
        self,
        inputs: Arrays,
        cotangents: Arrays,
        generator: np.random.Generator | None = None,
        *,
        steps: int = 1,
    ) -> dict[str, Sampled]:
        """As `Workload.expected`; of a training step the results of the last of so many."""
        assert self._case is not None, "it was given no case"
        if self._case.workload.random:
            return self._drawn(inputs, cotangents, steps)
        if self._case.pass_ != "training_step":
            return {name: whole(array) for name, array in self.results(inputs, cotangents).items()}
        dtype = self._case.workload.computed_in(self._case.dtype)
        trained = Trained(noise=_NOISE * checks.unit_roundoff(dtype), epsilon=_EPSILONS * self._epsilon)
        found: dict[str, NDArray[Any]] = {}
        for found in self._calls(inputs, cotangents, steps):
            trained.note(found)
        return trained.compared(found)

    @property
    def _epsilon(self) -> float:
        """AdamW's, as it counts in the first step of the reference."""
        workload = self._case.workload if self._case is not None else None
        state = workload.state if isinstance(workload, Described) else None
        own = float(state.optimizer.get("epsilon", EPSILON)) if state is not None else EPSILON
        return own * (_KERAS_EPSILONS if self._implementation.framework == "tensorflow" else 1.0)

    def _drawn(self, inputs: Arrays, cotangents: Arrays, steps: int) -> dict[str, Sampled]:
        """What many draws of the results have in common."""
        assert self._case is not None, "it was given no case"
        if steps > distribution.MOST_STEPS:
            found = self.results(inputs, cotangents)
            return {name: replace(whole(array), scale=math.inf) for name, array in found.items()}
        draws: dict[str, list[NDArray[Any]]] = {}
        for _ in range(distribution.DRAWS if steps == 1 else distribution.DRAWS_OF_STEPS):
            *_, last = self._calls(inputs, cotangents, steps)
            for name, array in last.items():
                draws.setdefault(name, []).append(array)
        stepped = inputs if self._case.pass_ == "training_step" else {}
        return {
            name: replace(whole(of[0]), drawn=Drawn.of(of, stepped.get(name))) for name, of in draws.items()
        }

    def results(self, inputs: Arrays, cotangents: Arrays) -> dict[str, NDArray[Any]]:
        """What a call gives, by name."""
        (found,) = self._calls(inputs, cotangents, 1)
        return found

    def _calls(self, inputs: Arrays, cotangents: Arrays, count: int) -> Iterator[dict[str, NDArray[Any]]]:
        """What each of so many calls gives; a module that is trained goes on from one to the next."""
        assert self._case is not None and self._step is not None, "it was given no case"
        workload = self._case.workload
        described = workload.inputs_by_name
        given = {name: self._tensor(array, described[name].dtype) for name, array in inputs.items()}
        if cotangents:
            given = self._framework.differentiable(given, workload.differentiable)
        call = self._step.bind(given, {name: self._tensor(array, "") for name, array in cotangents.items()})
        for _ in range(count):
            yield {name: self._array(name, value) for name, value in self._step.unpack(call()).items()}

    def _array(self, name: str, value: Any) -> NDArray[Any]:
        own = self._implementation
        if not hasattr(value, "dtype"):
            kind = type(value).__name__
            raise UserError(f"{own.name}, the reference, gives {kind} for {name}, not a tensor")
        array = self._framework.to_numpy(value, None)
        if self._dtype == "float64" and array.dtype.kind == "f" and array.dtype != np.float64:
            raise UserError(
                f"{own.name}, the reference, gives {array.dtype} for {name} where its inputs are float64"
            )
        return tensors.to_layout(array, own.layout)

    def _tensor(self, array: NDArray[Any], dtype: str) -> Any:
        own = self._framework.INDEX if dtype == INDEX else dtype or self._dtype
        return self._framework.from_numpy(tensors.to_layout(array, self._implementation.layout), own)


def prepare(described: Mapping[str, Any] | None) -> None:
    """Load the framework of a reference before any code of a user does, which might start its threads."""
    if described and described.get("reference"):
        on_the_host(described["reference"]["framework"])


class Trained:
    """What the results of training steps are compared with.

    noise: the share of the usual gradient below which one is rounding alone. There AdamW makes a step of full
        size in a direction that says nothing, so what it made of such an element is not compared, nor of one
        so small that ε counts. A gradient that cancels, as that of a bias before a batch norm, is compared on
        the scale of the others.
    """

    def __init__(self, noise: float, epsilon: float = _EPSILONS * EPSILON) -> None:
        self._noise = noise
        self._epsilon = epsilon
        self._known: dict[str, NDArray[np.bool_]] = {}
        self._steps = 0

    def note(self, results: Mapping[str, NDArray[Any]]) -> None:
        """The results of one more step."""
        self._steps += 1
        least = self._noise * self._usual(results)
        least = max(least, math.sqrt(self._epsilon * least))
        for name, values in results.items():
            if name.startswith("grad_"):
                known = np.abs(values) > least
                self._known[name] = known & self._known.get(name, np.True_)

    def compared(self, results: Mapping[str, NDArray[Any]]) -> dict[str, Sampled]:
        """The part of the last step's results that others are compared with."""
        usual = self._usual(results)
        found = {}
        for name, values in results.items():
            exact = whole(values)
            if name.startswith("grad_"):
                found[name] = replace(exact, scale=max(rms(exact.values), usual))
            elif name.startswith(PARAMETERS):
                known = self._known[f"grad_{name.removeprefix(PARAMETERS)}"]
                places = np.nonzero(known) if known.ndim else ()
                kept = exact.values[places] if known.any() else exact.values
                found[name] = Sampled(
                    index=places if known.any() else exact.index,
                    values=kept,
                    scale=rms(exact.values) if known.any() else math.inf,
                )
            elif name.startswith("buffers.") and self._steps > 1 and values.dtype.kind == "f":
                # A statistic of what noise has moved: the mean before a batch norm whose bias is arbitrary.
                found[name] = replace(exact, scale=math.inf)
            else:
                found[name] = exact
        return found

    def _usual(self, results: Mapping[str, NDArray[Any]]) -> float:
        gradients = [values for name, values in results.items() if name.startswith("grad_")]
        count = sum(values.size for values in gradients)
        return math.sqrt(sum(float((values**2).sum()) for values in gradients) / max(1, count))


@cache
def on_the_host(framework: str) -> Framework:
    """The framework, configured once: it takes its number of threads only before it has computed anything."""
    try:
        loaded = frameworks.load(framework)
    except ImportError as error:
        raise UserError(
            f"the reference needs {framework}: {error}; pip install 'fuseproof[{framework}]'"
        ) from None
    loaded.configure(device="cpu", threads=1)
    return loaded
