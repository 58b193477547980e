"""`fuseproof.check`: is a function right? In this process, without timing anything."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fuseproof.checking.inspection import CHECKS, Wish, inspect
from fuseproof.checking.reference import Reference
from fuseproof.checking.result import Checked, Point
from fuseproof.checking.subject import Subject, accepts, name_of
from fuseproof.errors import UserError, require_known

# Names of a grid that say how tensors are stored, whether or not `inputs` takes them.
_OF_TENSORS = ("dtype", "device")
_MOST_POINTS = 10_000


def check(
    function: Callable[..., Any],
    *,
    inputs: Any,
    reference: Callable[..., Any] | None = None,
    baseline: Callable[..., Any] | None = None,
    over: Mapping[str, Sequence[Any]] | None = None,
    gradients: bool | Sequence[str] | None = None,
    dtype: str | None = None,
    device: str | None = None,
    consumes: Sequence[str] = (),
    skip: Sequence[str] = (),
    seed: int = 0,
) -> Checked:
    """Whether a function is right, and if not, what is wrong and where. Nothing is timed.

    It is called a few dozen times in this process, with its inputs surrounded by NaN, with NaN in the memory
    that it allocates, and with other values. What is found: values that are further from float64 than twice
    the baseline's error, or single elements that are far outside; NaN and infinity; reads and writes outside
    the inputs; outputs that are not fully written; inputs that are changed; results that are kept from an
    earlier call or change with a later one; wrong gradients; memory that calls keep.

    inputs:     the arguments, a mapping by name or a tuple by position, of tensors (PyTorch, JAX, TensorFlow,
        NumPy) and of what is no tensor; nested in dictionaries, lists and tuples as you like. Or a function
        of a seed that returns them, and takes the names of `over` as keywords.
    reference:  what is right: a function of the same arguments, of NumPy or of the inputs' library; it is
        computed in float64. By default the baseline, or else the function before it was compiled, or else the
        function itself, which finds no fault that float64 has too.
    baseline:   what sets the limits: the function's error may be twice its own, in the same dtype. By default
        the reference (one of NumPy in float32, rounded to the dtype).
    over:       a grid: values by name, such as `{"rows": [1, 129], "dtype": ["float32", "tf32"]}`.
        Every combination is checked; `dtype` and `device` need not be known to `inputs`.
    gradients:  True or names of inputs (nested ones by `outer.inner`): the function must have them. False:
        they are not checked. By default they are, where the function has them.
    dtype:      that the inputs of real numbers are given in; by default their own, float32 for float64.
    device:     that they are put on: `cpu` or `cuda`; by default theirs.
    consumes:   names of inputs that the function may change.
    skip:       checks to leave out, of `fuseproof.checking.CHECKS`.
    seed:       of the inputs, and of the losses whose gradients are compared.

    Raises UserError, in one line, for what cannot be checked.
    """
    if not callable(function):
        raise UserError(f"check takes a function, not {type(function).__name__}")
    wish = _wish(gradients, consumes, skip)
    grid = _grid(inputs, over)
    points = []
    for at in grid:
        tensors = {"dtype": dtype or "", "device": device or ""}
        tensors |= {name: at[name] for name in _OF_TENSORS if name in at}
        point = _point(function, _drawing(inputs, at), reference, baseline, wish, tensors, seed)
        failures = tuple(dataclasses.replace(each, at=at) for each in point.failures)
        points.append(dataclasses.replace(point, at=at, failures=failures))
        if point.sought_leak and wish.memory:
            # A leak is one at every shape, and looking for it takes more calls than all else.
            wish = dataclasses.replace(wish, memory=False)
            if len(grid) > 1:
                notes = (*point.notes, f"memory: checked at {points[-1].label} only")
                points[-1] = dataclasses.replace(points[-1], notes=notes)
    return Checked(function=name_of(function), points=tuple(points))


def _point(
    function: Any,
    given: Any,
    reference: Any,
    baseline: Any,
    wish: Wish,
    tensors: Mapping[str, str],
    seed: int,
) -> Point:
    try:
        subject = Subject.of(function, given, **tensors, seed=seed)
        subject.first  # noqa: B018 - it is drawn here, where a missing device is a reason to skip
    except NotImplementedError as absent:
        return Point(at={}, skipped=str(absent), notes=(f"not checked: {absent}",))
    _require_inputs("consumes", wish.consumes, subject.first.tensors)
    return inspect(subject, Reference.of(subject, reference, baseline), wish)


def _wish(gradients: bool | Sequence[str] | None, consumes: Sequence[str], skip: Sequence[str]) -> Wish:
    require_known("check", skip, CHECKS)
    if "values" in skip:
        raise UserError("the check of values cannot be left out: the others compare with it")
    left_out = set(skip)
    if gradients is False:
        left_out.add("gradients")
    if isinstance(gradients, str) or isinstance(consumes, str):
        raise UserError("gradients and consumes are lists of names, such as ['x']")
    names = None if gradients is None or isinstance(gradients, bool) else tuple(gradients)
    return Wish(
        skip=frozenset(left_out),
        gradients=names,
        required=gradients is True,
        consumes=tuple(consumes),
        memory="memory" not in skip,
    )


def _grid(inputs: Any, over: Mapping[str, Sequence[Any]] | None) -> list[dict[str, Any]]:
    """The points, the first name varying slowest. Raises UserError for a grid that is none."""
    if over is None:
        return [{}]
    if not over:
        raise UserError("over has no names; give values by name, such as {'rows': [1, 127, 128]}")
    for name, values in over.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise UserError(f"over: {name} needs a list of values, not {values!r}")
    lists = {name: list(values) for name, values in over.items()}
    if empty := [name for name, values in lists.items() if not values]:
        raise UserError(f"over: {empty[0]} has no values")
    ours = [name for name in lists if name not in _OF_TENSORS]
    if ours and not callable(inputs):
        raise UserError(f"over has {ours[0]}, and inputs is no function that could take it")
    for name in ours:
        if not accepts(inputs, name):
            raise UserError(f"over has {name}, and inputs takes no such keyword")
    count = 1
    for values in lists.values():
        count *= len(values)
    if count > _MOST_POINTS:
        raise UserError(f"over has {count:,} points; check {_MOST_POINTS:,} at most")
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _drawing(inputs: Any, at: Mapping[str, Any]) -> Any:
    """The inputs of a point: of a seed alone, or fixed ones as they are."""
    if not callable(inputs):
        return inputs
    given = {
        name: value
        for name, value in at.items()
        if name not in _OF_TENSORS or accepts(inputs, name, by_name=True)
    }
    return lambda seed: inputs(seed, **given)


def _require_inputs(what: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    require_known(f"input in {what}", names, known)
