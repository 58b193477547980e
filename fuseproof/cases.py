"""A case: operator, shape, dtype, pass and cache regime, with the one name it has everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuseproof.errors import UserError
from fuseproof.workloads import operators
from fuseproof.workloads.operators import DTYPES, PASSES, Operator

CACHES = ("warm", "cold")

_GROUP = re.compile(
    rf"(\w+)\[([^\]]+?)-({'|'.join(DTYPES)})-({'|'.join(sorted(PASSES, key=len, reverse=True))})(-cold)?\]"
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a suite. `float32` means IEEE: TF32 is off, as precision is part of a case's identity.

    Raises UserError for a dtype or pass that the operator does not have at this shape.
    """

    operator: Operator
    dtype: str = "float32"
    pass_: str = "forward"
    cache: str = "warm"

    def __post_init__(self) -> None:
        if (reason := self.operator.reason_against(self.dtype, self.pass_)) is not None:
            raise UserError(f"{self.group!r} is not a case: {reason}")

    @property
    def group(self) -> str:
        """The name of the case, and the group of its benchmarks: `layer_norm[1024x768-float32-forward]`."""
        return self._name()

    def reason_against_peak(self, peak: float) -> str | None:
        """Why a measured peak of one call, in bytes, is none; None if it may be right.

        Every call that uses no input up adds its results to memory: less is a measurement that failed, as
        where pages that were resident already took them.
        """
        least = self.operator.result_bytes(self.pass_, self.dtype)
        if peak >= least:
            return None
        return (
            f"peak memory of {peak:,.0f} does not even hold the results, {least:,}; it was not seen to grow"
        )

    def benchmark_name(self, implementation: str, metric: str) -> str:
        """The name of one implementation's benchmark in the run file."""
        return self._name(implementation, metric)

    def _name(self, *more: str) -> str:
        cold = ("cold",) if self.cache == "cold" else ()
        return (
            f"{self.operator.name}[{'-'.join((self.operator.label, self.dtype, self.pass_, *more, *cold))}]"
        )

    @classmethod
    def from_group(cls, group: str) -> Case:
        """The inverse of `group`. Raises UserError for anything else."""
        match = _GROUP.fullmatch(group)
        if match is None:
            raise UserError(
                f"{group!r} is not a case; write it like layer_norm[1024x768-float32-forward] "
                f"with a dtype of {', '.join(DTYPES)} and a pass of {', '.join(PASSES)}"
            )
        name, label, dtype, pass_, cold = match.groups()
        return cls(
            operator=operators.get(name).from_label(label),
            dtype=dtype,
            pass_=pass_,
            cache="cold" if cold else "warm",
        )
