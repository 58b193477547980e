"""What users' workloads are at the shapes of a plan, found out in a process of their own.

It draws inputs twice and calls the reference twice, so that what its author got wrong is said before anything
is measured: `python -m fuseproof.measure.describing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fuseproof.cases import Case
from fuseproof.child_process import PlainError, Process, ProcessDied, serve
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.measure.opening import source_of
from fuseproof.measure.reference import ByImplementation, prepare
from fuseproof.workloads import distribution, trees
from fuseproof.workloads.declared import Declared
from fuseproof.workloads.described import PARAMETERS, Described
from fuseproof.workloads.modules import Module, State
from fuseproof.workloads.operators import Operator
from fuseproof.workloads.operators.base import rounded
from fuseproof.workloads.tensor import FIXED, Tensor, numpy_dtype
from fuseproof.workloads.workload import Arrays, whole

_TIMEOUT = 900.0
# A leg fills every tensor anew, and a case's page shows every one.
_MOST_TENSORS = 2000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A workload that a target names, at some shapes.

    reference: the implementation that is; None where there is a closed form.
    given: whether its author named what is right. notes: more of those that a description has.
    """

    target: str
    labels: tuple[str, ...]
    reference: Implementation | None
    given: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, workload: Declared, labels: Sequence[str], implementations: Sequence[Implementation]
    ) -> Wanted:
        """`implementations` are those of the workload. Raises UserError if nothing says what is right."""
        return cls(
            target=workload.target,
            labels=tuple(labels),
            reference=_reference_of(workload, implementations) if labels else None,
            given=workload.closed or bool(workload.reference_by),
        )

    def to_json(self) -> dict[str, Any]:
        reference = None if self.reference is None else self.reference.to_json()
        return {**asdict(self), "reference": reference}


def describe(workloads: Sequence[Wanted]) -> list[Described]:
    """The workloads at their shapes, found out in one process. Raises UserError."""
    asked = [each for each in workloads if each.labels]
    if not asked:
        return []
    targets = ", ".join(each.target for each in asked)
    process = Process(
        "fuseproof.measure.describing",
        name=f"the description of {targets}",
        environment={"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
        detached=True,
    )
    try:
        process.send({"workloads": [each.to_json() for each in asked]})
        answer = process.receive(_TIMEOUT)
    except ProcessDied as death:
        raise UserError(f"{targets}: {death}") from None
    finally:
        process.close()
    if "ok" not in answer:
        raise UserError(str(answer.get("error") or answer.get("skipped")))
    return [Described.from_json(fields) for fields in answer["ok"]["workloads"]]


def _reference_of(workload: Declared, implementations: Sequence[Implementation]) -> Implementation | None:
    """The implementation that is the reference; None where there is a closed form."""
    if not workload.reference_by:
        if workload.closed:
            return None
        if not implementations:
            raise UserError(
                f"{workload.target}: nothing says what is right; give the class `forward` (NumPy, in "
                "float64) or `reference_by`, the name of an implementation"
            )
        return implementations[0]
    for each in implementations:
        if each.name == workload.reference_by:
            return each
    known = ", ".join(each.name for each in implementations) or "none"
    raise UserError(
        f"{workload.target}: reference_by is {workload.reference_by!r}, which is no implementation of "
        f"{workload.name}; there are {known}"
    )


def _described(request: dict[str, Any]) -> dict[str, Any]:
    return {"workloads": [at for each in request["workloads"] for at in _at_its_shapes(**each)]}


def _at_its_shapes(
    target: str,
    labels: Sequence[str],
    reference: Mapping[str, Any] | None,
    given: bool,
    notes: Sequence[str],
) -> list[dict[str, Any]]:
    found = []
    for label in labels:
        try:
            prepare({"reference": reference})
            source = source_of(target, label)
            found.append(_at(source, target, reference, given=given, notes=notes).to_json())
        except UserError as error:
            text = str(error)
            raise PlainError(text if target in text else f"{target}: {text}") from None
        except NotImplementedError as error:
            raise PlainError(f"{target}: {error}") from None
        except Exception as error:
            raise PlainError(f"{target}: {type(error).__name__}: {error}") from None
    return found


def _at(
    source: Operator,
    target: str,
    reference: Mapping[str, Any] | None,
    *,
    given: bool,
    notes: Sequence[str],
) -> Described:
    inputs = source.inputs_by_name
    if len(inputs) > _MOST_TENSORS:
        raise UserError(f"{len(inputs):,} inputs; join them, so that there are at most {_MOST_TENSORS:,}")
    _refuse_odd(inputs, "input")
    drawn = _drawn(source, inputs)
    found = list(notes)
    dtype, state = "", None
    if source.random and reference is None:
        raise UserError(
            "its results are random, so an implementation has to be the reference: name it in reference_by"
        )
    if isinstance(source, Module) and reference is None:
        raise UserError("a module needs an implementation as its reference, not `forward`")
    if reference is None:
        outputs = source.outputs_by_name
        if outputs:
            _refuse_unsteady(source, drawn)
    else:
        name = reference["name"]
        outputs, dtype, state = _by_implementation(source, reference, drawn)
        if not given:
            found.append(f"{source.name} has no reference: {name} stands for what is right")
        if not dtype:
            found.append(
                f"{source.name}: results are compared with {name} in the same dtype; nothing else vouches "
                "for them"
            )
    if source.random:
        found.append(
            f"{source.name} is random: results are compared with the distribution of {distribution.DRAWS} "
            "draws of the reference, which shows another rate or scale and no error of a percent"
        )
    if not outputs:
        raise UserError("it has no output; what it computes must return at least one array")
    _refuse_odd(outputs, "output")
    return Described.describe(
        source,
        target,
        outputs=outputs,
        reference=reference or {},
        reference_dtype=dtype,
        notes=tuple(found),
        state=state,
    )


def _refuse_odd(tensors: Mapping[str, Tensor], kind: str) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype and tensor.dtype not in FIXED:
            raise UserError(f"the {kind} {name!r} is of {tensor.dtype}; there are {', '.join(FIXED)}")
        if 0 in tensor.shape:
            raise UserError(f"the {kind} {name!r} has the shape {tensor.shape}; no extent may be 0")
        if kind == "output" and name.startswith("grad_"):
            raise UserError(f"the output {name!r} is named like a gradient; rename it")


def _drawn(source: Operator, tensors: Mapping[str, Tensor]) -> Arrays:
    """Inputs in float64, after what can be wrong with them was looked for."""
    one, same, other = (trees.flatten(source.draw_inputs(np.random.default_rng(seed))) for seed in (1, 1, 2))
    for name, tensor in tensors.items():
        array = np.asarray(one[name])
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"the input {name!r} holds NaN or infinity; results could not be compared")
        if name not in same or not np.array_equal(array, same[name]):
            raise UserError(
                f"the input {name!r} differs from draw to draw with the same generator; draw it from the "
                "generator that draw_inputs is given, and from nothing else"
            )
        if name not in other or np.shape(other[name]) != tensor.shape:
            raise UserError(
                f"the input {name!r} has another shape in another draw; a shape is fixed in a case"
            )
        if tensor.dtype and tensor.dtype in FIXED and not tensor.floating:
            limits = np.iinfo(numpy_dtype(tensor.dtype)) if tensor.dtype != "bool" else None
            if limits is not None and (array.min() < limits.min or array.max() > limits.max):
                raise UserError(f"the input {name!r} has values that {tensor.dtype} cannot hold")
    return rounded(one, tensors, source.dtypes[0])


def _refuse_unsteady(source: Operator, drawn: Arrays) -> None:
    """Raise UserError for a reference that is not the same each time, or not finite."""
    generators = (np.random.default_rng(3), np.random.default_rng(3))
    first, second = (source.expected(drawn, {}, generator) for generator in generators)
    for name, found in first.items():
        if not np.isfinite(found.values).all():
            raise UserError(f"the reference's {name} holds NaN or infinity for inputs that are finite")
        if not np.array_equal(found.values, second[name].values):
            raise UserError(f"the reference's {name} differs from call to call with the same inputs")


def _by_implementation(
    source: Operator, reference: Mapping[str, Any], drawn: Arrays
) -> tuple[dict[str, Tensor], str, State | None]:
    """The outputs of the implementation that is the reference, the dtype it is computed in, and of a module
    what it holds.
    """
    wanted, state = source.reference_dtype, None
    try:
        right = ByImplementation(reference, dtype=wanted or source.dtypes[0])
        if isinstance(source, Module):
            if source.autocast not in ("", "bfloat16", "float16"):
                raise UserError(f"autocast is {source.autocast!r}; there are bfloat16, float16")
            if source.autocast and reference["framework"] != "torch":
                raise UserError(
                    "autocast is PyTorch's; elsewhere a module casts its inputs and weights itself"
                )
            state = right.state(source)
        forward = "forward" if state is None else "inference"
        # A workload that is only trained is called once without it.
        described = Described.describe(
            source,
            "",
            outputs={},
            reference=reference,
            reference_dtype=wanted,
            state=state,
            passes=(forward,),
        ).with_source(source)
        given = drawn
        if state is not None:
            generator = np.random.default_rng(4)
            given = drawn | {
                f"{PARAMETERS}{name}": state.draw(name, shape, generator)
                for name, (shape, _, _) in state.parameters.items()
            }
        found = right.of(Case(workload=described, dtype=source.dtypes[0], pass_=forward)).results(given, {})
    except (UserError, PlainError, NotImplementedError):
        raise
    except Exception as error:
        remedy = (
            'reference_dtype = "" compares in the dtype of the case'
            if wanted
            else "name another in reference_by"
        )
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{reference['name']}, the reference, failed{f' in {wanted}' if wanted else ''} ({reason}); "
            f"{remedy}"
        ) from None
    for name, values in found.items():
        if values.dtype.kind == "f" and not np.isfinite(whole(values).values).all():
            raise UserError(f"{reference['name']}, the reference, gives NaN or infinity in {name}")
    outputs = {name: Tensor(shape=values.shape, dtype=_dtype_of(values)) for name, values in found.items()}
    return outputs, wanted, state


def _dtype_of(values: np.ndarray[Any, Any]) -> str:
    if values.dtype.kind in "fV":
        return ""
    return "index" if values.dtype in (np.int64, np.int32) else values.dtype.name


if __name__ == "__main__":
    serve(_described)
