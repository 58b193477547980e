"""The fusion account: what compiling changed in an implementation, as plain data and as text.

Kernels are counted by the framework's profiler and peak memory is measured, both of one call; operations
and bytes are computed from the program (`fusion.program`), never measured. Nothing unknown is guessed: it is
None, and `unknown` has the reason under the figure's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuseproof.errors import UserError
from fuseproof.fusion.programs.operations import Operation, counted, total_bytes

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
    """A figure without and with the compiler; None where it cannot be told."""

    eager: int | None
    compiled: int | None


@dataclass(frozen=True, kw_only=True)
class Account:
    """One implementation of one case.

    compared_with: the implementation whose call is the eager side: the same function, not compiled; of a
                   hand-written kernel its baseline.
    status:        `ok`, `skipped` or `failed`; then `reason` says why in one line and no figure is there.
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
        """What the compiled program launches besides: library calls, copies."""
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
            "reason": self.reason,
            "kernels": vars(self.kernels),
            "operations": vars(self.operations),
            "bytes": vars(self.bytes),
            "peak_memory_bytes": vars(self.peak_memory_bytes),
            "before": listed(self.before),
            "after": listed(self.after),
            "artifacts": dict(self.artifacts),
            "unknown": dict(self.unknown),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Account:
        """The inverse of `to_json`; raises KeyError, TypeError or AttributeError for another document."""
        fields = {key: value for key, value in document.items() if key not in ("operations", "bytes")}
        for key in ("kernels", "peak_memory_bytes"):
            fields[key] = Pair(**fields[key])
        for key in ("before", "after"):
            if fields[key] is not None:
                fields[key] = tuple(Operation.from_json(o) for o in fields[key])
        account = cls(**fields)
        texts = (account.case, account.implementation, account.compared_with, account.reason)
        if not all(isinstance(text, str) for text in (*texts, *account.artifacts.values())):
            raise TypeError("a name is no text")
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
    """The accounts kept in a folder; none if none were made. Raises UserError for a damaged file."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it, or make it again") from None
    try:
        if found["schema"] != SCHEMA:
            raise UserError(f"{path} has schema {found['schema']!r}, not {SCHEMA}; make it again")
        return tuple(Account.from_json(each) for each in found["accounts"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error!r}); delete it, or make it again") from None


def render_text(accounts: Sequence[Account]) -> str:
    """A table for each case, the fusions of each implementation, and why something is unknown."""
    lines = [
        "kernels: counted by the profiler; peak: measured; operations, bytes: computed from the program, "
        "not measured"
    ]
    for case in dict.fromkeys(account.case for account in accounts):
        mine = [account for account in accounts if account.case == case]
        lines.append(f"\n{case}")
        width = max(len(account.implementation) for account in mine)
        titles = f"{'kernels':>12}{'operations':>13}{'MB moved':>19}{'peak MB':>19}"
        lines.append(f"  {'':{width}}{titles}   (eager → compiled)")
        lines += [line for account in mine if account.status == "ok" for line in _figures(account, width)]
        for account in mine:
            if account.status == "ok":
                lines += _fusions(account)
        lines += [f"  {a.status}: {a.implementation}: {a.reason}" for a in mine if a.status != "ok"]
    return "\n".join(lines) + "\n"


def _figures(account: Account, width: int) -> Iterator[str]:
    def arrow(pair: Pair, unit: float | None = None) -> str:
        sides = (
            "-" if side is None else f"{side / unit:,.2f}" if unit else str(side)
            for side in (pair.eager, pair.compiled)
        )
        return " → ".join(sides)

    yield (
        f"  {account.implementation:{width}}{arrow(account.kernels):>12}{arrow(account.operations):>13}"
        f"{arrow(account.bytes, 1e6):>19}{arrow(account.peak_memory_bytes, 1e6):>19}"
    )


def _fusions(account: Account) -> Iterator[str]:
    yield f"  {account.implementation}, against {account.compared_with}"
    for operation in account.after or ():
        moved = "-" if operation.bytes is None else f"{operation.bytes / 1e6:,.2f}"
        nests = f", {operation.loop_nests} loop nests" if (operation.loop_nests or 0) > 1 else ""
        members = f": {counted(operation.members)}" if operation.members else ""
        yield f"    {moved:>9} MB  {operation.kind:9} {operation.name}{nests}{members}"
    for reason, names in reasons(account).items():
        yield f"    unknown: {', '.join(names)}: {reason}"
    for label, place in account.artifacts.items():
        yield f"    {label}: {place}"


def reasons(account: Account) -> dict[str, list[str]]:
    """Why figures are unknown, each reason once with the figures it concerns."""
    found: dict[str, list[str]] = {}
    for name, reason in account.unknown.items():
        found.setdefault(reason, []).append(name.replace("_", " "))
    return found
