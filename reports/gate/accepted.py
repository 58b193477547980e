"""Known changes: benchmarks that may be slower or gone until a date, and names that changed."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fuseproof.errors import UserError
from fuseproof.reports.gate.result import FAILING, GateRow
from fuseproof.runs.records import Run

_EXPECTED = """\
[[accept]]
benchmark = "tests/test_x.py::test_a*"
reason = "checks its input now, #123"
until = 2027-01-31"""


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """benchmark: a name, or a pattern with `*` and `?`; brackets are those of names such as `test[a]`.

    at_most: the slowdown up to which it holds, as a fraction; None for any, and for what is gone or fails.
    """

    benchmark: str
    reason: str
    until: datetime.date
    at_most: float | None = None

    def takes(self, name: str) -> bool:
        return fnmatchcase(name, self.benchmark.replace("[", "[[]"))


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What a file of known changes holds; `renamed` is the name in head by the name in base."""

    acceptances: tuple[Acceptance, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


NOTHING = Accepted()


def load(path: Path) -> Accepted:
    """Raises UserError, with what is expected, for a file that cannot be read or says something else."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    try:
        _refuse_other_keys(document, ("accept", "rename"))
        renames = [_renamed(each) for each in _tables(document, "rename")]
        if len({before for before, _ in renames}) < len(renames):
            raise ValueError("a benchmark is renamed twice")
        return Accepted(
            acceptances=tuple(_acceptance(each) for each in _tables(document, "accept")),
            renamed=dict(renames),
        )
    except ValueError as error:
        raise UserError(f"{path}: {error}; expected entries like {' '.join(_EXPECTED.split())}") from None


def _tables(document: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{key} must be written [[{key}]]")
    return found


def _refuse_other_keys(table: Mapping[str, Any], known: Sequence[str]) -> None:
    if odd := sorted(set(table) - set(known)):
        raise ValueError(f"unknown key {odd[0]}; there are {', '.join(known)}")


def _text(table: Mapping[str, Any], key: str) -> str:
    found = table.get(key)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{key} must be a text")
    return found


def _acceptance(table: Mapping[str, Any]) -> Acceptance:
    _refuse_other_keys(table, ("benchmark", "reason", "until", "at_most"))
    until, at_most = table.get("until"), table.get("at_most")
    if type(until) is not datetime.date:
        raise ValueError("until must be a date like 2027-01-31: what is accepted for ever is no gate")
    if at_most is not None and (type(at_most) not in (int, float) or not 0 < at_most < 100):
        raise ValueError("at_most must be a slowdown as a fraction, such as 0.2 for 20 %")
    return Acceptance(
        benchmark=_text(table, "benchmark"), reason=_text(table, "reason"), until=until, at_most=at_most
    )


def _renamed(table: Mapping[str, Any]) -> tuple[str, str]:
    _refuse_other_keys(table, ("base", "head"))
    return _text(table, "base"), _text(table, "head")


def as_named_in_head(base: Run, accepted: Accepted) -> Run:
    """Base with its benchmarks called as in head; a name that it does not hold changes nothing.

    Raises UserError if two benchmarks would have one name.
    """
    benchmarks = tuple(
        replace(each, name=accepted.renamed.get(each.name, each.name)) for each in base.benchmarks
    )
    if len({each.name for each in benchmarks}) < len(benchmarks):
        raise UserError("a rename gives two benchmarks of base one name")
    absent = {accepted.renamed.get(name, name): count for name, count in base.absent.items()}
    return replace(base, benchmarks=benchmarks, absent=absent)


def refuse_wrong_renames(base: Run, head: Run, accepted: Accepted) -> None:
    """Raises UserError for a rename of what base holds by neither name, and of what head holds by both."""
    before, after = ({benchmark.name for benchmark in run.benchmarks} for run in (base, head))
    renamed = accepted.renamed
    for name, now in renamed.items():
        if name not in before and now not in before:
            raise UserError(f"a rename names {name!r}, which is no benchmark of {base.source}")
        if name in before and {name, now} <= after and name not in renamed.values():
            raise UserError(f"a rename names {name!r}, which {head.source} still holds beside {now!r}")


def unneeded_renames(base: Run, accepted: Accepted) -> list[str]:
    """A note for each rename that base, which head's name has reached, needs no more."""
    known = {benchmark.name for benchmark in base.benchmarks}
    return [
        f"nothing needed the rename of {name}: it is {now} in base already"
        for name, now in accepted.renamed.items()
        if name not in known
    ]


def judged(row: GateRow, accepted: Accepted, today: datetime.date) -> GateRow:
    """The row, accepted where it fails and an acceptance holds; else its reason says why none does."""
    if row.verdict not in FAILING:
        return row
    for each in accepted.acceptances:
        if not each.takes(row.name):
            continue
        why_not = _why_not(each, row, today)
        if why_not is None:
            return replace(
                row, verdict="accepted", reason=f"{each.reason} (until {each.until}); {row.reason}"
            )
        row = replace(row, reason=f"{row.reason}; {why_not}")
    return row


def _why_not(acceptance: Acceptance, row: GateRow, today: datetime.date) -> str | None:
    if today > acceptance.until:
        return f"it was accepted until {acceptance.until}: {acceptance.reason}"
    if acceptance.at_most is not None and row.slowdown is None:
        return f"only a slowdown is accepted: {acceptance.reason}"
    if acceptance.at_most is not None and row.slowdown is not None and row.slowdown - 1 > acceptance.at_most:
        return f"only {acceptance.at_most:.0%} is accepted: {acceptance.reason}"
    return None


def unused(accepted: Accepted, rows: Sequence[GateRow]) -> list[str]:
    """A note for each acceptance that no benchmark needed, which is one to take out of the file."""
    return [
        f"nothing needed the acceptance of {each.benchmark}: {each.reason}"
        for each in accepted.acceptances
        if not any(row.verdict in (*FAILING, "accepted") and each.takes(row.name) for row in rows)
    ]
