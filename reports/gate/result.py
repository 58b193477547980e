"""What a gate found, as plain data; its JSON is that of `fuseproof gate --json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = 1  # of the JSON
EXIT_CODES = {"pass": 0, "regression": 1, "error": 2, "inconclusive": 3}
# A benchmark's verdicts, the worst first.
SEVERITY = (
    "failed",
    "missing",
    "regression",
    "inconclusive",
    "accepted",
    "failed-before",
    "new",
    "anchor",
    "pass",
)
FAILING = frozenset({"failed", "missing", "regression"})


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One benchmark. `slowdown` is head / base (1.05: 5 % slower), None where there is nothing to compare."""

    name: str
    verdict: str
    reason: str = ""
    slowdown: float | None = None
    ci: tuple[float, float] | None = None  # 95 %
    margin: float | None = None  # as a fraction, after raising

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ci": None if self.ci is None else list(self.ci)}


@dataclass(frozen=True, kw_only=True)
class NullControl:
    """Base against base: how many benchmarks had the 4 blocks, or 2 rounds, it needs, and which alarmed."""

    rows: int
    alarms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A slowdown (0.1 for 10 %) added to base's second measurement.

    rows: of how many benchmarks. missed: those where it was not found.
    """

    injected: float
    rows: int
    missed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What `compare` found; `fingerprint_differences` are (field, value in base, value in head)."""

    verdict: str  # pass, regression or inconclusive; "error" is what a command reports for a UserError
    base: str
    head: str
    margin: float
    rows: tuple[GateRow, ...]
    null: NullControl
    fingerprint_differences: tuple[tuple[str, Any, Any], ...]
    remeasure_command: str | None
    canary: Canary | None = None
    notes: tuple[str, ...] = ()  # of base and head, such as that a file is a copy of another

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    @property
    def suspects(self) -> tuple[str, ...]:
        """Benchmarks to measure again: slower than the margin by their own interval, or inconclusive.

        An anchor is none: its own time is not judged.
        Empty where fingerprints differ: base has to be measured again then, under head's conditions.
        """
        if self.fingerprint_differences:
            return ()
        return tuple(
            row.name
            for row in self.rows
            if row.ci is not None and row.verdict != "anchor" and _is_suspect(row, row.ci)
        )

    def to_json(self) -> dict[str, Any]:
        """The document of `fuseproof gate --json`."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "base": self.base,
            "head": self.head,
            "margin": self.margin,
            "rows": [row.to_json() for row in self.rows],
            "null": {
                "rows": self.null.rows,
                "false_alarms": len(self.null.alarms),
                "names": list(self.null.alarms),
            },
            "canary": None if self.canary is None else asdict(self.canary),
            "fingerprint_differences": [
                {"field": name, "base": before, "head": after}
                for name, before, after in self.fingerprint_differences
            ],
            "notes": list(self.notes),
            "suspects": list(self.suspects),
            "remeasure_command": self.remeasure_command,
        }


def _is_suspect(row: GateRow, ci: tuple[float, float]) -> bool:
    return row.verdict in ("regression", "inconclusive") or ci[0] > 1 + (row.margin or 0.0)
