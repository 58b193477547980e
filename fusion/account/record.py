"""The record of a fusion account, and `fusion.json`, which holds the accounts of a folder.

The framework's profiler counts the kernels of one call, and peak memory of one call is measured. Operations
and bytes are computed from the program (`fusion.programs`), never measured. Nothing unknown is guessed: it is
None, and `unknown` has the reason under the figure's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import msgspec

from fuseproof import documents, escaping, privacy
from fuseproof.errors import UserError
from fuseproof.fusion.programs.operations import Operation, total_bytes

SCHEMA = 1
FILE = "fusion.json"
LABELS: Mapping[str, str] = {
    "kernels": "counted by the framework's profiler, per call",
    "operations": "counted in the program",
    "bytes": "computed from the program, not measured",
    "peak_memory_bytes": "measured, growth during one call",
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A figure without and with the compiler; None if unknown."""

    eager: int | None
    compiled: int | None


@dataclass(frozen=True, kw_only=True)
class Account:
    """One implementation of one case.

    compared_with: the implementation on the eager side: the same function, not compiled; for a hand-written
                   kernel its baseline.
    status:        `ok`, `skipped` or `failed`, the last two with a `reason` in one line and without figures.
    before:        the operations of the program as written; after: what the compiled program launches.
    artifacts:     files kept, by what they are, relative to the folder of the account.
    """

    case: str
    implementation: str
    framework: str
    compared_with: str
    status: str = "ok"
    reason: str = ""
    kernels: Pair = Pair(eager=None, compiled=None)
    peak_memory_bytes: Pair = Pair(eager=None, compiled=None)
    before: tuple[Operation, ...] | None = None
    after: tuple[Operation, ...] | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def fusions(self) -> tuple[Operation, ...] | None:
        """The kernels that the compiler made, with what it fused into each."""
        return None if self.after is None else tuple(o for o in self.after if o.kind == "fusion")

    @property
    def others(self) -> tuple[Operation, ...]:
        """The rest of what the compiled program launches: library calls, copies."""
        return tuple(o for o in self.after or () if o.kind != "fusion")

    @property
    def bytes(self) -> Pair:
        """Computed bytes that one call moves, of the program as written and as compiled."""
        return Pair(
            eager=None if self.before is None else total_bytes(self.before),
            compiled=None if self.after is None else total_bytes(self.after),
        )

    @property
    def operations(self) -> Pair:
        return Pair(
            eager=None if self.before is None else len(self.before),
            compiled=None if self.after is None else len(self.after),
        )

    def to_json(self) -> dict[str, Any]:
        def listed(operations: Sequence[Operation] | None) -> list[dict[str, Any]] | None:
            return None if operations is None else [o.to_json() for o in operations]

        return {
            "case": self.case,
            "implementation": self.implementation,
            "framework": self.framework,
            "compared_with": self.compared_with,
            "status": self.status,
            "reason": escaping.line(privacy.anonymous(self.reason)),
            "kernels": vars(self.kernels),
            "operations": vars(self.operations),
            "bytes": vars(self.bytes),
            "peak_memory_bytes": vars(self.peak_memory_bytes),
            "before": listed(self.before),
            "after": listed(self.after),
            "artifacts": dict(self.artifacts),
            "unknown": privacy.anonymous_document(self.unknown),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Account:
        """The inverse of `to_json`; raises ValueError, one line, for another document."""
        account = msgspec.convert(document, cls)
        for place in map(PurePath, account.artifacts.values()):
            # A record from elsewhere must not point out of its folder.
            if place.is_absolute() or ".." in place.parts:
                raise ValueError(f"the file {str(place)!r} is not below its folder")
        return account


def document(accounts: Sequence[Account], machine: Mapping[str, Any]) -> dict[str, Any]:
    """What `fusion.json` holds."""
    return {
        "schema": SCHEMA,
        "labels": dict(LABELS),
        "machine": dict(machine),
        "accounts": [account.to_json() for account in accounts],
    }


def load(folder: Path) -> tuple[Account, ...]:
    """The accounts kept in a folder, empty without a file. Raises UserError for a damaged file."""
    path = folder / FILE
    remedy = "delete it, or make it again"
    try:
        found = documents.load(path, wanted=remedy)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    try:
        documents.refuse_other_schema(found["schema"], SCHEMA)
        return tuple(Account.from_json(each) for each in found["accounts"])
    except (LookupError, TypeError, ValueError) as error:  # msgspec's is a ValueError
        raise UserError(f"{path} is damaged ({documents.reason(error)}); {remedy}") from None
