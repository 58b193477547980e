"""Suites: named lists of cases with how long to measure them. One file each, named for the suite."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass

from fuseproof.cases import Case
from fuseproof.errors import UserError, require_known
from fuseproof.workloads.blocks.base import SCALES
from fuseproof.workloads.operators import OPERATORS

# What users of each framework reach for first, and the hand-written kernels.
USUAL = (
    "torch.eager",
    "torch.compile",
    "torch.eager-composed",
    "torch.compile-composed",
    "jax.eager",
    "jax.jit",
    "tf.eager",
    "tf.function",
    "tf.xla",
    "triton",
    "pallas",
)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """blocks are fresh processes; every block holds at least `palindromes` palindromes of each case.

    only:    the built-in implementations to measure, `NAME` or `OPERATOR:NAME`, unless the user says --only;
             empty means all. Implementations that the user adds are always measured.
    device:  the device it is made for, if on another it would take hours and say little.
    modules: names of cases of modules beside `cases`; what a module holds is found out when a run is planned.
    scale:   the size of a population's cases, one of SCALES; empty for a suite of one size.
    profile: count the kernels of a call after the timing.
    first_result: names of the cases of which the time from the start of a process is measured too: few, as
             it takes half a minute for each and all implementations.
    """

    name: str
    summary: str
    cases: tuple[Case, ...]
    modules: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    device: str = ""
    scale: str = ""
    blocks: int = 5
    max_blocks: int = 10
    palindromes: int = 20
    max_palindromes: int = 60
    leg_seconds: float = 0.006
    profile: bool = True
    first_result: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of all cases."""
        return (*(case.group for case in self.cases), *self.modules)


def names() -> list[str]:
    """The names of all suites: `demo` of demo.py, `claims-blocks` of claims/blocks.py."""
    modules = pkgutil.walk_packages(__path__, f"{__name__}.")
    return sorted(
        each.name.removeprefix(f"{__name__}.").replace(".", "-") for each in modules if not each.ispkg
    )


def get(name: str, scale: str = "") -> Suite:
    """The suite named `name`, of a population at this scale, by default for a CPU.

    Raises UserError for any other name, and for a scale of a suite that has one size.
    """
    require_known("suite", [name], names())
    module = importlib.import_module(f"{__name__}.{name.replace('-', '.')}")
    if hasattr(module, "at_scale"):
        suite = module.at_scale(scale or SCALES[0])
    elif scale:
        raise UserError(f"the suite {name!r} has one size; leave out --scale {scale}")
    else:
        suite = module.SUITE
    assert isinstance(suite, Suite)
    return suite


def cases(
    labels: Mapping[str, tuple[str, ...]],
    *,
    dtypes: tuple[str, ...],
    passes: tuple[str, ...],
    caches: tuple[str, ...] = ("warm",),
) -> tuple[Case, ...]:
    """Every shape label (named or written out, by operator) in every dtype, pass and cache regime.

    Left out are those that the operator has no case in.
    """
    return tuple(
        Case(workload=workload, dtype=dtype, pass_=pass_, cache=cache)
        for operator, operator_labels in labels.items()
        for workload in map(OPERATORS[operator].from_label, operator_labels)
        for dtype in dtypes
        for pass_ in passes
        if workload.reason_against(dtype, pass_) is None
        for cache in caches
    )
