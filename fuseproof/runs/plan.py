"""The plan of a run: cases, implementations and settings, written before anything is measured."""

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
    """Plain data, written to the run directory before anything is measured."""

    suite: str
    cases: tuple[Case, ...]
    implementations: tuple[Implementation, ...]
    skipped: tuple[Failure, ...]
    settings: Settings
    command: tuple[str, ...] = ()

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The frameworks that have something to run, in the order of the table."""
        needed = {row.framework for case in self.cases for row in self.implementations_of(case)}
        return tuple(dict.fromkeys(row.framework for row in self.implementations if row.framework in needed))

    def implementations_of(self, case: Case, framework: str | None = None) -> tuple[Implementation, ...]:
        """The implementations of a case that can run here, of one framework or of all."""
        skipped = {(failure.group, failure.implementation) for failure in self.skipped}
        return tuple(
            row
            for row in self.implementations
            if row.operator == case.operator.name
            and (case.group, row.name) not in skipped
            and framework in (None, row.framework)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "cases": [case.group for case in self.cases],
            "rows": [row.to_json() for row in self.implementations],
            "skipped": [dataclasses.asdict(failure) for failure in self.skipped],
            "settings": dataclasses.asdict(self.settings),
            "command": list(self.command),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        return cls(
            suite=document["suite"],
            cases=tuple(Case.from_group(group) for group in document["cases"]),
            implementations=tuple(Implementation(**row) for row in document["rows"]),
            skipped=tuple(Failure(**failure) for failure in document["skipped"]),
            settings=Settings(**document["settings"]),
            command=tuple(document["command"]),
        )
