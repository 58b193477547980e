"""Was a benchmark measured under the same conditions in base and head? What is unknown is not equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fuseproof.runs import environment
from fuseproof.runs.records import Benchmark, Run

Difference = tuple[str, Any, Any]  # field, value in base, value in head; None is unknown

_PACKAGES = "packages"


def differences(base: Run, head: Run, benchmark: Benchmark) -> tuple[Difference, ...]:
    """The fields that differ or that a side does not know; of packages those that the benchmark uses."""
    before, after = _fields(base, benchmark), _fields(head, benchmark)
    found = tuple(
        (name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) or _is_unknown(before.get(name))
    )
    if not found and not before:
        return (("fingerprint", base.fingerprint, head.fingerprint),)
    return found


def _fields(run: Run, benchmark: Benchmark) -> Mapping[str, Any]:
    """A package that is not installed in either run is no field; in one of them it is."""
    fields = {name: value for name, value in run.fingerprint_fields.items() if name != _PACKAGES}
    packages = run.fingerprint_fields.get(_PACKAGES)
    if isinstance(packages, Mapping):
        used = environment.packages_used(benchmark.framework, benchmark.device)
        fields |= {f"{_PACKAGES}.{name}": packages[name] for name in used if name in packages}
    return fields


def _is_unknown(value: Any) -> bool:
    return value is None or value == ""


def in_words(difference: Difference) -> str:
    """`cpu was 'A' in base, is 'B' in head`, or who does not know it."""
    name, before, after = difference
    unknown = [where for where, value in (("base", before), ("head", after)) if _is_unknown(value)]
    if name.startswith(f"{_PACKAGES}.") and len(unknown) == 1:
        return f"{name} {before or after} is in {'head' if unknown == ['base'] else 'base'} only"
    if unknown:
        return f"{name} is not known of {' and '.join(unknown)}, and what is unknown is not equal"
    return f"{name} was {before!r} in base, is {after!r} in head"
