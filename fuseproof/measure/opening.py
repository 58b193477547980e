"""A case in a process that may run the code of its workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.frameworks import Framework, Step
from fuseproof.frameworks.calling import Signature
from fuseproof.implementations.loading import resolve
from fuseproof.workloads.described import PARAMETERS, Described
from fuseproof.workloads.operators import Operator
from fuseproof.workloads.tensor import INDEX, tensor_dtype
from fuseproof.workloads.workload import Workload


def planned(group: str, described: Mapping[str, Any] | None = None) -> Case:
    """The case of that name as the planning process knows it, without the code of its workload.

    described: its workload as `Described.to_json`, if that is from outside.
    """
    return Case.from_group(group, [] if described is None else [Described.from_json(described)])


def opened(group: str, described: Mapping[str, Any] | None = None) -> Case:
    """As `planned`, with the code of its workload, which it runs."""
    case = planned(group, described)
    if not isinstance(case.workload, Described):
        return case
    source = source_of(case.workload.target, case.workload.label)
    return replace(case, workload=case.workload.with_source(source))


def step(
    framework: Framework,
    target: Any,
    case: Case,
    compiled: str | None,
    consumes: Sequence[str] = (),
    *,
    dtype: str = "",
) -> Step:
    """The work of one call of a target in a case; `dtype`: of a module's parameters, if not the case's."""
    workload = case.workload
    if isinstance(workload, Described) and workload.state is not None:
        made = module(framework, target, workload, dtype or tensor_dtype(case.dtype))
        signature = Signature(arguments=workload.arguments, cotangents=tuple(workload.cotangents))
        return framework.module_step(made, signature, workload.state, case.pass_, compiled)
    return framework.step(target, Signature.of(workload), case.pass_, compiled, consumes=consumes)


def module(framework: Framework, target: Any, workload: Workload, dtype: str) -> Any:
    """The module that a target is or makes from the workload's fields, its real numbers in this dtype."""

    def example() -> dict[str, Any]:
        """Arguments of zeros, for a module that makes its parameters when it is first called."""
        tensors = {
            name: framework.from_numpy(
                np.zeros(tensor.shape), framework.INDEX if tensor.dtype == INDEX else tensor.dtype or dtype
            )
            for name, tensor in workload.inputs_by_name.items()
            if not name.startswith(PARAMETERS)
        }
        return Signature(arguments=workload.arguments).filled(tensors)

    return framework.module(target, workload.options, dtype, example)


def source_of(target: str, label: str) -> Operator:
    """The workload that a target names, at one shape. Runs the user's code. Raises UserError."""
    found = resolve(target)
    if isinstance(found, type) and issubclass(found, Operator):
        return found.from_label(label)
    if isinstance(found, Operator):
        return found
    raise UserError(f"{target} is no workload: a subclass of fuseproof.Operator")
