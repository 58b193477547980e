"""What the planning process knows of a workload that a user's module declares: names, and where it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fuseproof.errors import UserError
from fuseproof.workloads.builtin import MODULES, NAMES
from fuseproof.workloads.operators import Operator
from fuseproof.workloads.tensor import ALL_PASSES, DTYPES

# Part of a file name, a case and a test id, so nothing that any of them would read otherwise.
_NAME = re.compile(r"[A-Za-z]\w{0,63}", re.ASCII)
_NAMED_SHAPES = 200


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A user's workload, or a module that comes with Fuseproof.

    target: `module:NAME` or `path/to/file.py:NAME` of its class or object.
    named_shapes: labels by name.
    reference_by: the implementation that is the reference; empty if there is a closed form, or if the first
        implementation has to stand for one.
    closed: whether there is a closed form.
    """

    name: str
    target: str
    summary: str
    label_example: str
    named_shapes: Mapping[str, str]
    dtypes: tuple[str, ...]
    passes: tuple[str, ...]
    reference_by: str
    reference_dtype: str
    closed: bool

    @classmethod
    def of(cls, workload: type[Operator] | Operator, target: str) -> Declared:
        """What a class, or an object at its one shape, says. Raises UserError, naming the target."""
        kind = workload if isinstance(workload, type) else type(workload)
        shapes: dict[str, str]
        try:
            if isinstance(workload, type):
                shapes = {str(name): kind.from_label(name).label for name in kind.named_shapes}
            else:
                shapes = {workload.label: workload.label}
        except UserError as error:
            raise UserError(f"{target}: {error}") from None
        name = workload.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(
                f"{target}: {name!r} is no name of a workload; use letters, digits and underscores, a letter "
                "first"
            )
        if name in NAMES and MODULES.get(name) is not kind:
            raise UserError(f"{target}: {name!r} is the name of a built-in workload; choose another")
        if len(shapes) > _NAMED_SHAPES:
            raise UserError(f"{target}: {len(shapes):,} named shapes; name {_NAMED_SHAPES} at most")
        return cls(
            name=name,
            target=target,
            summary=(kind.__doc__ or "").strip().partition("\n")[0][:200],
            label_example=kind.label_example,
            named_shapes=shapes,
            dtypes=_words(workload.dtypes, "dtype", DTYPES, target),
            passes=_words(workload.passes, "pass", ALL_PASSES, target),
            reference_by=workload.reference_by,
            reference_dtype=workload.reference_dtype,
            closed=kind.forward is not Operator.forward or kind.reference is not Operator.reference,
        )

    @classmethod
    def of_builtin(cls, name: str) -> Declared:
        """A module that comes with Fuseproof."""
        kind = MODULES[name]
        return cls.of(kind, f"{kind.__module__}:{kind.__name__}")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; `Declared(**fields)` is the inverse."""
        return asdict(self)


def _words(given: Any, what: str, known: Iterable[str], target: str) -> tuple[str, ...]:
    words = (given,) if isinstance(given, str) else tuple(given)
    for word in words or ("",):
        if word not in known:
            raise UserError(f"{target}: unknown {what} {word!r}; there are {', '.join(known)}")
    return words
