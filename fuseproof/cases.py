"""A case: workload, shape, dtype, pass and cache regime, with the one name it has everywhere.

The grammar of the name is here and nowhere else: `WORKLOAD[SHAPE-DTYPE-PASS]`, with `-cold` before the
closing bracket for a cold cache. `Case.group` writes it, `parse_group` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fuseproof.errors import UserError
from fuseproof.workloads import builtin
from fuseproof.workloads.tensor import ALL_PASSES, DTYPES
from fuseproof.workloads.workload import Workload

CACHES = ("warm", "cold")

_PASS = "|".join(
    sorted((*ALL_PASSES, "backward"), key=len, reverse=True)
)  # `backward` in files of other tools
_GROUP = re.compile(
    rf"(?P<operator>\w+)\[(?P<shape>[^\]]+)-(?P<dtype>\w+)-(?P<pass_>{_PASS})(?P<cold>-cold)?\]"
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The parts of a case's name, whose operator, shape and dtype only a newer version may know."""

    operator: str
    shape: str
    dtype: str
    pass_: str
    cache: str


def parse_group(group: str) -> Group | None:
    """The parts of a case's name; None for any other text, such as a name in a pytest-benchmark file."""
    match = _GROUP.fullmatch(group)
    if match is None:
        return None
    operator, shape, dtype, pass_, cold = match.groups()
    return Group(operator=operator, shape=shape, dtype=dtype, pass_=pass_, cache="cold" if cold else "warm")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a suite. `float32` means IEEE: TF32 is off, as precision is part of a case's identity.

    Raises UserError for a dtype or pass that the workload does not have at this shape.
    """

    workload: Workload
    dtype: str = "float32"
    pass_: str = "forward"
    cache: str = "warm"

    def __post_init__(self) -> None:
        if (reason := self.workload.reason_against(self.dtype, self.pass_)) is not None:
            raise UserError(f"{self.group!r} is not a case: {reason}")

    @property
    def group(self) -> str:
        """The name of the case, and the group of its benchmarks: `layer_norm[1024x768-float32-forward]`."""
        return self._name()

    def reason_against_peak(self, peak: float) -> str | None:
        """Why a measured peak of one call, in bytes, is implausible, else None.

        A call that uses up no input adds its results to memory. Where they fit into pages that were resident
        before, resident memory does not grow by them.
        """
        least = self.workload.result_bytes(self.pass_, self.dtype)
        if peak >= least:
            return None
        return f"peak memory of {peak:,.0f} is less than the results, {least:,}: memory did not visibly grow"

    def refuse_absent_inputs(self, names: Iterable[str]) -> None:
        """Raise NotImplementedError if an implementation consumes an input that the case does not have."""
        if absent := [name for name in names if name not in self.workload.inputs_by_name]:
            raise NotImplementedError(f"consumes {', '.join(absent)}, which are not inputs of this case")

    def benchmark_name(self, implementation: str, metric: str) -> str:
        """The name of one implementation's benchmark in the run file."""
        return self._name(implementation, metric)

    def _name(self, *more: str) -> str:
        cold = ("cold",) if self.cache == "cold" else ()
        return (
            f"{self.workload.name}[{'-'.join((self.workload.label, self.dtype, self.pass_, *more, *cold))}]"
        )

    @classmethod
    def from_group(cls, group: str, described: Iterable[Workload] = ()) -> Case:
        """The inverse of `group`. Raises UserError for anything else.

        described: workloads from outside, each at one shape, among which the case's is looked for first.
        """
        parts = parse_group(group)
        if parts is None or parts.dtype not in DTYPES or parts.pass_ not in ALL_PASSES:
            raise UserError(
                f"{group!r} is not a case; write it like layer_norm[1024x768-float32-forward] "
                f"with a dtype of {', '.join(DTYPES)} and a pass of {', '.join(ALL_PASSES)}"
            )
        own = (each for each in described if (each.name, each.label) == (parts.operator, parts.shape))
        return cls(
            workload=next(own, None) or builtin.get(parts.operator).from_label(parts.shape),
            dtype=parts.dtype,
            pass_=parts.pass_,
            cache=parts.cache,
        )


def join_implementation(group: str, implementation: str) -> str:
    """`layer_norm[1024x768-float32-forward]-triton`, as a test id has it."""
    return f"{group}-{implementation}"


def split_implementation(text: str) -> tuple[str, str]:
    """The group and the implementation that `join_implementation` joined."""
    group, _, implementation = text.rpartition("]-")
    return f"{group}]", implementation
