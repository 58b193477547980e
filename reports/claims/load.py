"""Claims as data: published statements, read from a TOML file such as claims.toml beside this module."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseproof import documents
from fuseproof.errors import UserError
from fuseproof.reports.claims import reductions

DEFAULT_CLAIMS = Path(__file__).with_name("claims.toml")
READINGS = ("throughput", "time_reduction")
REDUCTION = "reduction"  # the one reading of a claim about kernels or memory
ALL_READINGS = (*READINGS, REDUCTION)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published gain of `low` to `high` (fractions) of each candidate over its baseline.

    metrics:   what is reduced, `kernels` or `peak_memory`; empty for time.
    estimates: implementations that the TPU compiler's estimates with and without fusion are about.
    """

    id: str
    text: str
    source: str
    note: str
    low: float
    high: float
    typical: bool
    comparisons: tuple[tuple[str, str], ...]  # (baseline, candidate)
    readings: tuple[str, ...] = READINGS
    metrics: tuple[str, ...] = ()
    estimates: tuple[str, ...] = ()

    def band(self, reading: str) -> tuple[float, float]:
        """The claimed speedup: 30 % more work in the same time is 1.30, 30 % less time is 1.43.

        30 % less of anything else is 1.43 too: the ratio is the baseline's figure over the candidate's.
        """
        if reading == "throughput":
            return 1 + self.low, 1 + self.high
        return 1 / (1 - self.low), 1 / (1 - self.high) if self.high < 1 else math.inf


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Read a claims file (the one that comes with Fuseproof by default).

    Raises UserError, in one line, for a missing, malformed or incomplete file.
    """
    file = DEFAULT_CLAIMS if path is None else path
    try:
        document = documents.plain(tomllib.loads(file.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise UserError(f"cannot read claims from {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not TOML: {documents.reason(error)}") from None
    entries = document.get("claim")
    if set(document) != {"claim"} or not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: expected one or more [[claim]] tables and nothing else")
    claims = []
    for number, entry in enumerate(entries, start=1):
        try:
            claims.append(_claim_from_toml(entry))
        except ValueError as error:
            name = str(entry.get("id", number) if isinstance(entry, dict) else number)[:80]
            raise UserError(f"{file}: claim {name}: {documents.reason(error)}") from None
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise UserError(f"{file}: two claims have the same id; ids must be unique")
    return tuple(claims)


def _claim_from_toml(entry: Any) -> Claim:
    """Raises ValueError saying what is wrong with one [[claim]] table."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "id": str, "text": str, "source": str, "note": str,
        "low": (int, float), "high": (int, float), "typical": bool, "comparisons": list, "readings": list,
        "metrics": list, "estimates": list,
    }  # fmt: skip
    if not isinstance(entry, dict):
        raise ValueError("expected a table")
    if unknown := set(entry) - set(kinds):
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}; known: {', '.join(kinds)}")
    if absent := set(kinds) - set(entry) - {"readings", "note", "metrics", "estimates"}:
        raise ValueError(f"missing key {', '.join(sorted(absent))}")
    for key, value in entry.items():
        if not isinstance(value, kinds[key]) or (isinstance(value, bool) and key != "typical"):
            raise ValueError(f"{key} has the wrong type")
    metrics, estimates = tuple(entry.get("metrics", ())), tuple(entry.get("estimates", ()))
    if not all(metric in reductions.METRICS for metric in metrics):
        raise ValueError(f"metrics must be some of {', '.join(reductions.METRICS)}; leave them out for time")
    if not all(isinstance(name, str) for name in estimates):
        raise ValueError("estimates must be names of implementations")
    if metrics and "readings" in entry:
        raise ValueError("a claim with metrics takes no readings: they are for times")
    if estimates and not metrics:
        raise ValueError("the TPU compiler's estimates are of kernels and memory: set metrics")
    given = tuple(entry.get("readings", READINGS))
    if not given or not all(reading in READINGS for reading in given):
        raise ValueError(f"readings must be some of {', '.join(READINGS)}")
    readings = (REDUCTION,) if metrics else given
    low, high = float(entry["low"]), float(entry["high"])
    if not 0 <= low < high < math.inf:
        raise ValueError("low and high are fractions with 0 <= low < high, 0.30 for 30 %")
    if high >= 1 and "time_reduction" in readings:
        raise ValueError('no time falls by 100 %: set readings = ["throughput"] or a high below 1')
    if high > 1 and metrics:
        raise ValueError("nothing falls by more than 100 %: set a high of at most 1")
    pairs = entry["comparisons"]
    keys = {"baseline", "candidate"}
    if not pairs or not all(
        isinstance(pair, dict) and set(pair) == keys and all(isinstance(name, str) for name in pair.values())
        for pair in pairs
    ):
        raise ValueError("comparisons need a baseline and a candidate each, and nothing else")
    return Claim(
        id=entry["id"],
        text=entry["text"],
        source=entry["source"],
        note=entry.get("note", ""),
        low=low,
        high=high,
        typical=entry["typical"],
        comparisons=tuple((pair["baseline"], pair["candidate"]) for pair in pairs),
        readings=readings,
        metrics=metrics,
        estimates=estimates,
    )
