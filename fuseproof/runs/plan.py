"""The plan of a run: what is measured and how, written down before anything is measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.runs.records import OWN, Failure
from fuseproof.suites import Suite
from fuseproof.workloads.described import Described


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure. Times in seconds; `precision`: relative half-width of a speedup's 95 % interval.

    share_process: implementations from outside run in the process of the built-in ones.
    seconds: no further block begins after so many, once there are `blocks`; 0: without limit.
    scale: of a population, the size of its cases; empty for a suite of one size.
    baseline: the implementation that all others are compared with; OWN: each with its own baseline.
    """

    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    blocks: int = Suite.blocks
    max_blocks: int = Suite.max_blocks
    palindromes: int = Suite.palindromes
    max_palindromes: int = Suite.max_palindromes
    leg_seconds: float = Suite.leg_seconds
    precision: float = 0.02
    profile: bool = Suite.profile
    share_process: bool = False
    seconds: float = 0.0
    baseline: str = OWN
    scale: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Settings:
        """The inverse of `dataclasses.asdict`. Raises ValueError for anything else."""
        known = {each.name for each in dataclasses.fields(cls)}
        if unknown := sorted({*document} - known):
            raise ValueError(f"unknown setting {unknown[0]!r}")
        settings = msgspec.convert(document, cls)
        counts = (settings.threads, settings.blocks, settings.palindromes)
        if min(counts) < 1 or settings.seed < 0:
            raise ValueError("a setting is less than it can be")
        if settings.max_blocks < settings.blocks or settings.max_palindromes < settings.palindromes:
            raise ValueError("a maximum is less than its minimum")
        if not (0 < settings.leg_seconds < math.inf and 0 <= settings.precision < 1):
            raise ValueError("leg_seconds or precision is out of range")
        if not 0 <= settings.seconds < math.inf:
            raise ValueError("seconds is out of range")
        return settings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Cases, the implementations that may run them, and the settings; `plan.json` of the run directory.

    skipped: implementations that cannot run a case here, each with the reason.
    command: the command line that made the plan; empty if none did.
    added: (operator, name) of baselines that nobody asked for, but what was asked for needs.
    first_results: names of the cases of which the time to a first result is measured too.
    """

    suite: str
    cases: tuple[Case, ...]
    implementations: tuple[Implementation, ...]
    skipped: tuple[Failure, ...]
    settings: Settings
    command: tuple[str, ...] = ()
    added: frozenset[tuple[str, str]] = frozenset()
    first_results: tuple[str, ...] = ()

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The frameworks of the implementations that can run here, in the order of the table."""
        needed = {each.framework for case in self.cases for each in self.implementations_of(case)}
        frameworks = dict.fromkeys(each.framework for each in self.implementations)
        return tuple(framework for framework in frameworks if framework in needed)

    def implementations_of(self, case: Case, framework: str | None = None) -> tuple[Implementation, ...]:
        """The implementations of a case that can run here, of one framework or of all."""
        skipped = {(failure.group, failure.implementation) for failure in self.skipped}
        return tuple(
            each
            for each in self.implementations
            if each.workload == case.workload.name
            and (case.group, each.name) not in skipped
            and framework in (None, each.framework)
        )

    @property
    def of_first_results(self) -> tuple[Case, ...]:
        """The cases of which the time to a first result is measured."""
        return tuple(case for case in self.cases if case.group in self.first_results)

    def asked(self, case: Case, implementation: str) -> bool:
        """Whether the implementation of that name was asked for, and is not only needed by another."""
        return (case.workload.name, implementation) not in self.added

    @property
    def described(self) -> tuple[Described, ...]:
        """The workloads from outside, each at one shape."""
        found = {
            (case.workload.name, case.workload.label): case.workload
            for case in self.cases
            if isinstance(case.workload, Described)
        }
        return tuple(found.values())

    def to_json(self) -> dict[str, Any]:
        """`plan` in plan.json, where implementations are named `rows`."""
        return {
            "suite": self.suite,
            "cases": [case.group for case in self.cases],
            "workloads": [each.to_json() for each in self.described],
            "rows": [each.to_json() for each in self.implementations],
            "skipped": [dataclasses.asdict(failure) for failure in self.skipped],
            "settings": dataclasses.asdict(self.settings),
            "command": list(self.command),
            "added": sorted(map(list, self.added)),
            "first_results": list(self.first_results),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`. Raises KeyError, TypeError, ValueError or UserError for anything else."""
        described = [Described.from_json(fields) for fields in document.get("workloads", ())]
        plan = cls(
            suite=msgspec.convert(document["suite"], str),
            cases=tuple(Case.from_group(group, described) for group in document["cases"]),
            implementations=tuple(Implementation.from_json(fields) for fields in document["rows"]),
            skipped=msgspec.convert(document["skipped"], tuple[Failure, ...]),
            settings=Settings.from_json(document["settings"]),
            command=msgspec.convert(document["command"], tuple[str, ...]),
            added=msgspec.convert(document.get("added", ()), frozenset[tuple[str, str]]),
            first_results=msgspec.convert(document.get("first_results", ()), tuple[str, ...]),
        )
        if not plan.cases:
            raise ValueError("it has no case")
        return plan
