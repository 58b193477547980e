"""A workload from outside as plain data: what the planning and reporting processes know of it.

Its own code runs in workers and in the referee only, where `with_source` adds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from fuseproof.errors import UserError
from fuseproof.workloads.modules import State
from fuseproof.workloads.tensor import Tensor
from fuseproof.workloads.trees import Skeleton
from fuseproof.workloads.workload import Arrays, Sampled, Workload

# Before the names of a module's parameters among its inputs.
PARAMETERS = "parameters."


class _Document(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The fields of a Described as JSON has them."""

    name: str
    label: str
    target: str
    dtypes: tuple[str, ...]
    passes: tuple[str, ...]
    inputs: tuple[tuple[str, tuple[int, ...], str], ...]
    outputs: tuple[tuple[str, tuple[int, ...], str], ...]
    differentiable: tuple[str, ...]
    arguments: dict[str, Any]
    options: dict[str, Any]
    flops: dict[str, int | None]
    bytes: dict[str, dict[str, int | None]]
    reference: dict[str, Any]
    reference_dtype: str
    longest: int = 0
    notes: tuple[str, ...] = ()
    random: bool = False
    # Of a module.
    autocast: str = ""
    parameters: dict[str, tuple[tuple[int, ...], float, float]] = {}
    buffers: dict[str, tuple[tuple[int, ...], str]] = {}
    optimizer: dict[str, Any] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Described(Workload):
    """What `describe` found out.

    target: `module:NAME` or `path/to/file.py:NAME` of the class or the object that says what is computed.
    source: that, at this shape; None where its code must not run.
    notes: what a reader of its numbers must know, such as that nothing but a baseline vouches for a result.
    """

    document: _Document
    source: Workload | None = None

    @classmethod
    def describe(
        cls,
        workload: Workload,
        target: str,
        *,
        outputs: Mapping[str, Tensor],
        reference: Mapping[str, Any],
        reference_dtype: str,
        notes: tuple[str, ...] = (),
        state: State | None = None,
        passes: tuple[str, ...] = (),
    ) -> Described:
        """The description of a workload.

        passes: if not the workload's own.
        outputs: given, because an implementation may be what tells them.
        state: of a module.
        reference: the fields of the implementation that is the reference; empty if there is a closed form.
        """
        document = _Document(
            name=workload.name,
            label=workload.label,
            target=target,
            dtypes=tuple(workload.dtypes),
            passes=passes or tuple(workload.passes),
            inputs=_listed(workload.inputs_by_name),
            outputs=_listed(outputs),
            differentiable=tuple(workload.differentiable),
            arguments=dict(workload.arguments),
            options=dict(workload.options),
            flops={pass_: workload.flops(pass_) for pass_ in workload.passes},
            bytes={
                pass_: {dtype: workload.minimum_bytes(pass_, dtype) for dtype in workload.dtypes}
                for pass_ in workload.passes
            },
            reference=dict(reference),
            reference_dtype=reference_dtype,
            longest=workload.longest_axis,
            notes=notes,
            random=workload.random,
            autocast="" if state is None else state.autocast,
            parameters={} if state is None else dict(state.parameters),
            buffers={}
            if state is None
            else {name: (tensor.shape, tensor.dtype) for name, tensor in state.buffers.items()},
            optimizer={} if state is None else dict(state.optimizer),
        )
        return cls(document=document)

    @classmethod
    def unknown(cls, workload: Workload, target: str) -> Described:
        """Of a module that cannot be made here: without results, for cases that are skipped."""
        return cls.describe(workload, target, outputs={}, reference={}, reference_dtype="")

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` is the inverse."""
        found: dict[str, Any] = msgspec.to_builtins(self.document)
        return found

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Described:
        """The inverse of `to_json`. Raises UserError for anything else."""
        try:
            return cls(document=msgspec.convert(fields, _Document))
        except msgspec.ValidationError as error:
            raise UserError(f"the description of a workload is damaged ({error})") from None

    def with_source(self, source: Workload) -> Described:
        return replace(self, source=source)

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def label(self) -> str:
        return self.document.label

    @property
    def target(self) -> str:
        return self.document.target

    @property
    def reference(self) -> Mapping[str, Any]:
        """The fields of the implementation that is the reference; empty if there is a closed form."""
        return self.document.reference

    @property
    def reference_dtype(self) -> str:
        """What that is computed in; empty for the dtype of the case."""
        return self.document.reference_dtype

    @property
    def notes(self) -> tuple[str, ...]:
        return self.document.notes

    @property
    def random(self) -> bool:
        return self.document.random

    def computed_in(self, dtype: str) -> str:
        return self.document.autocast or dtype

    @property
    def dtypes(self) -> tuple[str, ...]:
        return self.document.dtypes

    @property
    def passes(self) -> tuple[str, ...]:
        return self.document.passes

    @cached_property
    def state(self) -> State | None:
        """What a module holds; None of an operator."""
        if not self.document.optimizer:
            return None
        return State(
            parameters=self.document.parameters,
            buffers={
                n: Tensor(shape=shape, dtype=dtype) for n, (shape, dtype) in self.document.buffers.items()
            },
            optimizer=self.document.optimizer,
            autocast=self.document.autocast,
        )

    @property
    def inputs_by_name(self) -> Mapping[str, Tensor]:
        found = _by_name(self.document.inputs)
        return found | {
            f"{PARAMETERS}{name}": Tensor(shape=shape)
            for name, (shape, _, _) in self.document.parameters.items()
        }

    def results(self, pass_: str) -> dict[str, Tensor]:
        if pass_ == "training_step" and self.state is not None:
            return self.state.results
        return super().results("forward" if self.state is not None else pass_)

    @property
    def outputs_by_name(self) -> Mapping[str, Tensor]:
        return _by_name(self.document.outputs)

    @property
    def differentiable(self) -> tuple[str, ...]:
        return () if self.state is not None else self.document.differentiable

    @property
    def longest_axis(self) -> int:
        return max(self.document.longest, super().longest_axis)

    @property
    def arguments(self) -> Mapping[str, Skeleton]:
        return self.document.arguments

    @property
    def options(self) -> dict[str, object]:
        return dict(self.document.options)

    def flops(self, pass_: str) -> int | None:
        return self.document.flops.get(pass_)

    def minimum_bytes(self, pass_: str, dtype: str) -> int | None:
        return self.document.bytes.get(pass_, {}).get(dtype)

    @property
    def module_parameters(self) -> tuple[str, ...]:
        return tuple(f"{PARAMETERS}{name}" for name in self.document.parameters)

    @property
    def pooled(self) -> bool:
        return self._source.pooled

    def draw_inputs(self, generator: np.random.Generator) -> Mapping[str, Any]:
        return self._source.draw_inputs(generator)

    def draw(self, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> Any:
        if self.state is not None and name.startswith(PARAMETERS):
            return self.state.draw(name.removeprefix(PARAMETERS), shape, generator)
        return self._source.draw(name, shape, generator)

    def in_order(self, inputs: Arrays, dtype: str) -> Arrays:
        return self._source.in_order(inputs, dtype)

    def expected(
        self, inputs: Arrays, cotangents: Arrays, generator: np.random.Generator | None = None
    ) -> dict[str, Sampled]:
        return self._source.expected(inputs, cotangents, generator)

    @property
    def _source(self) -> Workload:
        assert self.source is not None, "the code of a workload from outside does not run in this process"
        return self.source


def _listed(tensors: Mapping[str, Tensor]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    return tuple((name, tuple(map(int, each.shape)), each.dtype) for name, each in tensors.items())


def _by_name(listed: tuple[tuple[str, tuple[int, ...], str], ...]) -> dict[str, Tensor]:
    return {name: Tensor(shape=shape, dtype=dtype) for name, shape, dtype in listed}
