"""The inputs of a case on the device, and an implementation that is ready to be called with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fuseproof.cases import Case
from fuseproof.frameworks import Bound, Framework, Result, Step, WrongResultError
from fuseproof.implementations import CUDA_GRAPHS, Implementation
from fuseproof.measure import tensors
from fuseproof.measure.values import Values, cotangent_of
from fuseproof.workloads.described import Described

# Sets of inputs the cold regime rotates through: together at least twice the last-level cache.
COLD_FACTOR = 2
# More would take minutes to make, and objects and pointers would push out more of the cache than the inputs.
MAX_INPUT_SETS = 4096
# Copies of consumed inputs that wait for one batch of calls.
_MAX_COPIES_BYTES = 256 * 2**20

_Set = tuple[dict[str, Any], dict[str, Any]]  # inputs and cotangents


class Inputs:
    """The sets of inputs of a case: one in the warm regime, more than the cache holds in the cold.

    All implementations go through the sets with one counter: none finds the set that the last one used.
    """

    def __init__(self, framework: Framework, case: Case, seed: int, last_level_cache: int) -> None:
        self.framework = framework
        self.case = case
        self.count = 1
        if case.cache == "cold":
            tensors_of_set = (*case.workload.inputs_by_name.values(), *case.workload.outputs_by_name.values())
            one_set = max(1, sum(tensor.bytes(case.dtype) for tensor in tensors_of_set))
            self.count += -(-COLD_FACTOR * last_level_cache // one_set)
        if self.count > MAX_INPUT_SETS:
            raise NotImplementedError(
                f"a cold cache would need {self.count:,} sets of inputs as small as these; "
                "choose a larger shape"
            )
        self.values = Values(case, seed)
        self._pools = tensors.Pools(framework, case, self.values)
        self._sets: dict[str, list[_Set]] = {}  # by layout
        self._last = 0

    def of_layout(self, layout: str) -> list[_Set]:
        """The sets in this order of axes, made when first asked for."""
        if layout not in self._sets:
            self._sets[layout] = [self.new(index, layout) for index in range(self.count)]
        return self._sets[layout]

    def new(self, draw: int, layout: str) -> _Set:
        """New tensors with the values of a draw."""
        return tensors.to_device(self.framework, self.case, *self.values.arrays(draw), layout)

    def advance(self) -> int:
        """Go on to the next set."""
        self._last = self.upcoming(1)
        return self._last

    def upcoming(self, steps: int) -> int:
        """The set that is used after so many steps."""
        return (self._last + steps) % self.count

    def refill(self, index: int, draw: int, layout: str) -> bool:
        """Give a set the values of a draw; whether that took new tensors."""
        before = self.of_layout(layout)[index]
        refilled = self._pools.refill(*before, draw, layout)
        self.of_layout(layout)[index] = refilled
        return any(
            tensors[name] is not old[name]
            for tensors, old in zip(refilled, before, strict=True)
            for name in old
        )

    def refuse_changed(self, given: _Set, draw: int, implementation: Implementation) -> None:
        """Raise WrongResultError if a call changed an input that it does not consume."""
        inputs, cotangents = given
        kept = {name: tensor for name, tensor in inputs.items() if name not in implementation.consumes}
        kept |= {cotangent_of(name): tensor for name, tensor in cotangents.items()}
        if changed := self._pools.changed(kept, draw, implementation.layout):
            raise WrongResultError(f"the input {changed[0]!r} was changed by the call")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One implementation of a case, ready to be called.

    calls: one for each set of inputs.
    some:  some elements of a tensor.
    """

    implementation: Implementation
    step: Step
    inputs: Inputs
    calls: list[Bound]
    some: Callable[[Any], Any]

    @classmethod
    def bind(
        cls, implementation: Implementation, step: Step, inputs: Inputs, some: Callable[[Any], Any]
    ) -> Prepared:
        """Ready for all sets of inputs."""
        calls = [step.bind(*each) for each in inputs.of_layout(implementation.layout)]
        return cls(implementation=implementation, step=step, inputs=inputs, calls=calls, some=some)

    def bind_again(self, index: int) -> None:
        """Take the tensors that a set has now."""
        self.calls[index] = self.step.bind(*self.inputs.of_layout(self.implementation.layout)[index])

    @property
    def holds_copies(self) -> bool:
        """Whether it has copies of its inputs, which new values have to be copied to."""
        workload = self.inputs.case.workload
        return isinstance(workload, Described) and workload.state is not None

    def witness(self, raw: Any) -> Any:
        """Some elements of the first output of a call."""
        return self.some(self.first_of(self.step.unpack(raw)))

    def first_of(self, result: Result) -> Any:
        """The first result by the workload's order; a call may return them in any."""
        case = self.inputs.case
        return result.get(next(iter(case.workload.results(case.pass_))))

    def first(self, count: int) -> Bound:
        """A call with the first set of inputs; it may be made `count` times."""
        if not self.implementation.consumes:
            return self.calls[0]
        unused = self._unused(count)
        return lambda: unused.pop()()

    def next(self, count: int) -> Iterable[Bound]:
        """The next `count` calls."""
        if self.implementation.consumes:
            return self._unused(count)
        if len(self.calls) == 1:
            return itertools.repeat(self.calls[0], count)
        return [self.calls[self.inputs.advance()] for _ in range(count)]

    def kept(self, raw: Any) -> Result:
        """The result; a copy where later calls of a leg, with other inputs, may write into its memory."""
        result = self.step.unpack(raw)
        mode = (self.implementation.compiled or "").partition("+")[0]
        overwritten = mode in CUDA_GRAPHS or self.step.stateful or self.step.bound_results
        if len(self.calls) == 1 and not overwritten:
            return result
        framework = self.inputs.framework
        return {
            name: framework.copy(tensor) if framework.is_plain(tensor) else tensor
            for name, tensor in result.items()
        }

    @property
    def most_at_once(self) -> int | None:
        """Calls whose copies of consumed inputs may wait together; None if it consumes nothing."""
        case = self.inputs.case
        inputs = case.workload.inputs_by_name
        consumed = sum(inputs[name].bytes(case.dtype) for name in self.implementation.consumes)
        return max(1, _MAX_COPIES_BYTES // consumed) if consumed else None

    def _unused(self, count: int) -> list[Bound]:
        """`count` calls, each with new copies of what the implementation consumes."""
        framework, sets = self.inputs.framework, self.inputs.of_layout(self.implementation.layout)
        calls = []
        for _ in range(count):
            inputs, cotangents = sets[self.inputs.advance()]
            copies = {name: framework.copy(inputs[name]) for name in self.implementation.consumes}
            framework.synchronize(list(copies.values()))
            calls.append(self.step.bind(inputs | copies, cotangents))
        return calls
