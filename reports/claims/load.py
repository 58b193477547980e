"""Claims as data: published statements, read from a TOML file such as claims.toml beside this module."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuseproof import documents
from fuseproof.errors import UserError
from fuseproof.reports.claims import population, reductions
from fuseproof.reports.claims.population import Population

DEFAULT_CLAIMS = Path(__file__).with_name("claims.toml")
READINGS = ("throughput", "time_reduction")
REDUCTION = "reduction"  # the one reading of a claim about anything else than a time
SHARE = "share"  # the one reading of a claim about how many programs work
ALL_READINGS = (*READINGS, REDUCTION, SHARE)
FIRST_RESULT, COVERAGE = "time_to_first_result", "coverage"

# What each quantity that is not a time of a call is called in a run.
_METRICS: Mapping[str, str] = {"memory": "peak_memory", "kernels": "kernels", "compile_time": "compile_time"}
QUANTITY_OF: Mapping[str, str] = {metric: quantity for quantity, metric in _METRICS.items()}
# Why no run can decide a claim about these.
NOT_RECORDED: Mapping[str, str] = {
    "latency_under_load": "a run has one caller at a time and no server",
}
QUANTITIES = ("speedup", "throughput", FIRST_RESULT, *_METRICS, COVERAGE, *NOT_RECORDED)
_DIRECTIONS = ("faster", "less")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published gain of `low` to `high` (fractions) of each candidate over its baseline.

    high:       infinite for "faster", "less" and "at least".
    metrics:    what is reduced, `kernels`, `peak_memory` or `compile_time`; empty for the time of a call.
    estimates:  implementations that the TPU compiler's estimates with and without fusion are about.
    quantity:   one of QUANTITIES, as the file says it or as `metrics` implies.
    population: what it speaks of.
    one_line:   it speaks of one added line: a case whose graph breaks, or that is compiled again, is no
        evidence for it.
    elsewhere:  of coverage: it speaks of programs that no run holds, so that cases are counted, not judged.
    original, differs, undecidable: what its author measured, why that may differ from what is measured here,
        and what makes it undecidable here; empty if the file does not say.
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
    quantity: str = "speedup"
    population: Population = field(default_factory=Population)
    one_line: bool = False
    elsewhere: bool = False
    original: str = ""
    differs: str = ""
    undecidable: str = ""

    @property
    def is_coverage(self) -> bool:
        return self.quantity == COVERAGE

    @property
    def named(self) -> dict[str, Any]:
        """What every row of its verdicts says of it."""
        return {"claim": self.id, "text": self.text, "population": str(self.population)}

    def band(self, reading: str) -> tuple[float, float]:
        """The claimed speedup: 30 % more work in the same time is 1.30, 30 % less time is 1.43.

        30 % less of anything else is 1.43 too: the ratio is the baseline's figure over the candidate's.
        Of coverage it is the share itself.
        """
        if reading == SHARE:
            return self.low, self.high
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
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise UserError(f"{file}: two claims have the id {twice[0]!r}; ids must be unique")
    return tuple(claims)


_REQUIRED: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "text": str,
    "source": str,
    "comparisons": list,
}
_OPTIONAL: Mapping[str, type | tuple[type, ...]] = {
    "low": (int, float), "high": (int, float), "at_least": (int, float), "direction": str,
    "typical": bool, "one_line": bool, "elsewhere": bool, "quantity": str, "population": dict,
    "readings": list, "metrics": list, "estimates": list, "note": str,
    "original": str, "differs": str, "undecidable": str,
}  # fmt: skip


def _claim_from_toml(entry: Any) -> Claim:
    """Raises ValueError saying what is wrong with one [[claim]] table."""
    kinds = {**_REQUIRED, **_OPTIONAL}
    if not isinstance(entry, dict):
        raise ValueError("expected a table")
    if unknown := set(entry) - set(kinds):
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}; known: {', '.join(kinds)}")
    if absent := set(_REQUIRED) - set(entry):
        raise ValueError(f"missing key {', '.join(sorted(absent))}")
    for key, value in entry.items():
        if not isinstance(value, kinds[key]) or (isinstance(value, bool) and kinds[key] is not bool):
            raise ValueError(f"{key} has the wrong type")
    quantity, metrics = _quantity(entry)
    readings = _readings(entry, quantity, metrics)
    low, high = _gain(entry, readings, most=_most(quantity, metrics))
    if entry.get("elsewhere") and quantity != COVERAGE:
        raise ValueError("elsewhere is for claims about coverage")
    if entry.get("one_line") and (metrics or quantity not in ("speedup", "throughput")):
        raise ValueError("one_line is for claims about speedups")
    estimates = tuple(entry.get("estimates", ()))
    if not all(isinstance(name, str) for name in estimates):
        raise ValueError("estimates must be names of implementations")
    if estimates and not {*metrics} & {*reductions.METRICS}:
        raise ValueError("the TPU compiler's estimates are of kernels and memory: set metrics or quantity")
    return Claim(
        id=entry["id"],
        text=entry["text"],
        source=entry["source"],
        note=entry.get("note", ""),
        low=low,
        high=high,
        typical=entry.get("typical", False),
        comparisons=_comparisons(entry["comparisons"]),
        readings=readings,
        metrics=metrics,
        estimates=estimates,
        quantity=quantity,
        one_line=entry.get("one_line", False),
        elsewhere=entry.get("elsewhere", False),
        population=population.from_toml(entry.get("population", {})),
        original=entry.get("original", ""),
        differs=entry.get("differs", ""),
        undecidable=entry.get("undecidable", ""),
    )


def _quantity(entry: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The quantity and its metrics; `metrics` alone says both, as in files older than `quantity`."""
    metrics = tuple(entry.get("metrics", ()))
    if not all(metric in reductions.METRICS for metric in metrics):
        raise ValueError(f"metrics must be some of {', '.join(reductions.METRICS)}; leave them out for time")
    if metrics and "quantity" in entry:
        raise ValueError("metrics and quantity say the same: leave out metrics")
    if metrics:
        return QUANTITY_OF[metrics[0]], metrics
    quantity = entry.get("quantity", "speedup")
    if quantity not in QUANTITIES:
        raise ValueError(f"unknown quantity {quantity!r}; there are {', '.join(QUANTITIES)}")
    return quantity, (_METRICS[quantity],) if quantity in _METRICS else ()


def _readings(entry: Mapping[str, Any], quantity: str, metrics: tuple[str, ...]) -> tuple[str, ...]:
    if (metrics or quantity != "speedup") and "readings" in entry:
        raise ValueError("a claim with metrics or a quantity takes no readings: they are for speedups")
    if quantity == COVERAGE:
        return (SHARE,)
    if quantity == FIRST_RESULT:
        return READINGS[1:]
    if metrics or quantity in NOT_RECORDED:
        return (REDUCTION,)
    # Of "faster" and of "n times the throughput" there is one reading.
    one = quantity == "throughput" or "direction" in entry
    given = tuple(entry.get("readings", READINGS[:1] if one else READINGS))
    if not given or not all(reading in READINGS for reading in given):
        raise ValueError(f"readings must be some of {', '.join(READINGS)}")
    return given


def _most(quantity: str, metrics: tuple[str, ...]) -> float:
    """The largest gain there can be, as a fraction: nothing falls by more than all of it."""
    return 1.0 if metrics or quantity in (FIRST_RESULT, COVERAGE, *NOT_RECORDED) else math.inf


def _gain(entry: Mapping[str, Any], readings: tuple[str, ...], *, most: float) -> tuple[float, float]:
    """The claimed gain; of a band, of a direction or of at least so much, exactly one is given."""
    ways = [way for way in ("low", "high", "at_least", "direction") if way in entry]
    if ways not in (["low", "high"], ["at_least"], ["direction"]):
        raise ValueError("missing key: give low and high, or at_least, or direction, and one of these only")
    if ways == ["direction"]:
        direction = _DIRECTIONS[most == 1]
        if SHARE in readings or entry["direction"] != direction:
            wanted = "at_least, or low and high," if SHARE in readings else repr(direction)
            raise ValueError(f"direction must be {wanted} for this quantity")
        return 0.0, most
    if ways == ["at_least"]:
        low = float(entry["at_least"])
        if not 0 <= low < math.inf:
            raise ValueError("at_least is a fraction of at least 0, 0.30 for 30 %")
        if low >= 1 and readings != READINGS[:1]:
            raise ValueError('nothing falls by 100 %: set readings = ["throughput"] or at_least below 1')
        return low, most
    low, high = float(entry["low"]), float(entry["high"])
    if not 0 <= low < high < math.inf:
        raise ValueError("low and high are fractions with 0 <= low < high, 0.30 for 30 %")
    if high > 1 and most == 1:
        raise ValueError("nothing falls by more than 100 %: set a high of at most 1")
    if high >= 1 and "time_reduction" in readings and most > 1:
        raise ValueError('no time falls by 100 %: set readings = ["throughput"] or a high below 1')
    return low, high


def _comparisons(pairs: list[Any]) -> tuple[tuple[str, str], ...]:
    keys = {"baseline", "candidate"}
    if not pairs or not all(
        isinstance(pair, dict) and set(pair) == keys and all(isinstance(name, str) for name in pair.values())
        for pair in pairs
    ):
        raise ValueError("comparisons need a baseline and a candidate each, and nothing else")
    if any(pair["baseline"] == pair["candidate"] for pair in pairs):
        raise ValueError("a comparison needs two implementations that differ")
    return tuple((pair["baseline"], pair["candidate"]) for pair in pairs)
