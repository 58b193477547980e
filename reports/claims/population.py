"""Which cases of a run a claim speaks of, and why a run holds none of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fuseproof import suites
from fuseproof.cases import Case, parse_group
from fuseproof.errors import UserError, require_known
from fuseproof.runs.records import Run
from fuseproof.workloads.tensor import ALL_PASSES, DTYPES

DEVICES = ("cpu", "cuda", "tpu")
_KNOWN: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "suites": lambda: tuple(suites.names()),
    "passes": lambda: ALL_PASSES,
    "dtypes": lambda: tuple(DTYPES),
    "devices": lambda: DEVICES,
}
_BATCH_IN_LABEL = re.compile(r"(?:^|_)batch(\d+)(?![\d.])")


@dataclass(frozen=True, kw_only=True)
class Population:
    """What a claim speaks of; an empty field leaves everything in, batch is (least, most)."""

    suites: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    batch: tuple[int, int | None] = (0, None)

    @property
    def any_batch(self) -> bool:
        return self.batch == (0, None)

    def __str__(self) -> str:
        """`suites demo; passes inference, training_step; batch 1 to 8`; empty if it leaves everything in."""
        parts = [
            f"{name} {', '.join(getattr(self, name))}"
            for name in ("suites", "passes", "dtypes", "devices")
            if getattr(self, name)
        ]
        if not self.any_batch:
            least, most = self.batch
            parts.append(f"batch {least} or more" if most is None else f"batch {least} to {most}")
        return "; ".join(parts)

    def of(self, run: Run) -> Run | str:
        """The run with these cases only; or, where it has none, why."""
        if self.suites and run.suite not in self.suites:
            return f"it speaks of the suite {_either(self.suites)}; this run is {run.suite or 'of no suite'}"
        if self.devices and (device := device_of(run)) not in self.devices:
            return f"it speaks of {_either(self.devices)}; this run was on {device or 'an unknown device'}"
        groups = dict.fromkeys(
            (*(each.group for each in run.benchmarks), *(each.group for each in run.failures))
        )
        for name, part in (("passes", "pass_"), ("dtypes", "dtype")):
            wanted = getattr(self, name)
            if wanted:
                there = {group: getattr(parse_group(group), part, None) for group in groups}
                groups = {group: None for group in groups if there[group] in wanted}
                if not groups:
                    held = ", ".join(sorted({each for each in there.values() if each})) or "no known one"
                    return f"it speaks of {name} {_either(wanted)}; this run has {held}"
        if not self.any_batch:
            sizes = {group: batch_of(group) for group in groups}
            groups = {group: None for group in groups if self._takes(sizes[group])}
            if not groups:
                held = ", ".join(map(str, sorted({size for size in sizes.values() if size is not None})))
                return f"it speaks of {str(self).rpartition('; ')[2]}; " + (
                    f"this run has {held}" if held else "the names of this run's cases hold no batch size"
                )
        return replace(
            run,
            benchmarks=tuple(each for each in run.benchmarks if each.group in groups),
            failures=tuple(each for each in run.failures if each.group in groups),
        )

    def _takes(self, size: int | None) -> bool:
        least, most = self.batch
        return size is not None and least <= size and (most is None or size <= most)


def from_toml(table: Any) -> Population:
    """Raises ValueError, with the remedy, for a table that is not a population."""
    known = (*_KNOWN, "batch")
    if not isinstance(table, dict):
        raise ValueError("population must be a table")
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(f"unknown key population.{unknown[0]}; known: {', '.join(known)}")
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key == "batch":
            found[key] = _batch(value)
        elif not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
            raise ValueError(f"population.{key} must be a list of names")
        else:
            try:
                require_known(f"population.{key}", value, _KNOWN[key]())
            except UserError as error:
                raise ValueError(str(error)) from None
            found[key] = tuple(value)
    return Population(**found)


def device_of(run: Run) -> str | None:
    """The device of the measurements, else the one that the run was started for."""
    measured = next((each.device for each in run.benchmarks if each.device), None)
    return measured or run.environment.get("device")


def batch_of(group: str) -> int | None:
    """The batch size that the name of a case holds; None if it holds none."""
    try:
        size = getattr(Case.from_group(group).workload, "batch", None)
    except UserError:
        size = None
    if isinstance(size, int):
        return size
    parts = parse_group(group)
    match = _BATCH_IN_LABEL.search(parts.shape) if parts else None
    return int(match[1]) if match else None


def _batch(value: Any) -> tuple[int, int | None]:
    wrong = "population.batch must be like { at_least = 1, at_most = 8 }, whole numbers in this order"
    if not isinstance(value, dict) or not value or set(value) - {"at_least", "at_most"}:
        raise ValueError(wrong)
    least, most = value.get("at_least", 0), value.get("at_most")
    if type(least) is not int or type(most) not in (int, type(None)):
        raise ValueError(wrong)
    if least < 0 or (most is not None and most < max(1, least)):
        raise ValueError(wrong)
    return least, most


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names)
