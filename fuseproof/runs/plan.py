"""The plan of a run: what is measured and how, written down before anything is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.runs.records import Failure
from fuseproof.suites import Suite


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure. Times in seconds; `precision`: relative half-width of a speedup's 95 % interval."""

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Cases, the implementations that may run them, and the settings; `plan.json` of the run directory.

    skipped: implementations that cannot run a case here, each with the reason.
    command: the command line that made the plan; empty if none did.
    """

    suite: str
    cases: tuple[Case, ...]
    implementations: tuple[Implementation, ...]
    skipped: tuple[Failure, ...]
    settings: Settings
    command: tuple[str, ...] = ()

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
            if each.operator == case.operator.name
            and (case.group, each.name) not in skipped
            and framework in (None, each.framework)
        )

    def to_json(self) -> dict[str, Any]:
        """`plan` in plan.json, where implementations are named `rows`."""
        return {
            "suite": self.suite,
            "cases": [case.group for case in self.cases],
            "rows": [each.to_json() for each in self.implementations],
            "skipped": [dataclasses.asdict(failure) for failure in self.skipped],
            "settings": dataclasses.asdict(self.settings),
            "command": list(self.command),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`. Raises KeyError, TypeError, ValueError or UserError for anything else."""
        return cls(
            suite=document["suite"],
            cases=tuple(Case.from_group(group) for group in document["cases"]),
            implementations=tuple(Implementation(**fields) for fields in document["rows"]),
            skipped=tuple(Failure(**failure) for failure in document["skipped"]),
            settings=Settings(**document["settings"]),
            command=tuple(document["command"]),
        )
