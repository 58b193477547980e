"""The verdict on one reading of a claim, with all that it rests on: a line of `claims --json`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fuseproof.reports.claims import sentence


@dataclass(frozen=True, kw_only=True)
class ClaimRow:
    """The verdict on one reading of a claim, for one comparison in one slice of one run.

    `geomean` is the speedup over `cases` measured cases, NaN if there is none; `ci95_cases` its interval with
    cases resampled, and `of_all_cases` the verdict on the mean by that one: of all cases like these, not of
    these alone. `failed` counts wrong or crashed cases, `missing` those skipped or not measured on both
    sides; `problems` says why. `share_in_band` is over measured and failed cases, `share_lower` its Wilson
    bound, by workloads. `break_even_calls` is the median over cases with a known compile time: inf if most
    never pay, NaN if none is known.

    Where `metric` is `kernels` or `peak_memory`, `geomean` is the factor of the reduction;
    `blocks` is 1, and `ci95` and `ci95_cases` are the same. `estimate`: the compiler estimated it and nothing
    was measured; `device` is then the target, and `run` the file.

    `inside`, `above` and `below` count measured cases against the band; of those below, `slower` lost.
    Of a claim of one line, `set_aside` are those whose gain is in the band and that are no evidence for it,
    because the graph broke or was compiled again: `broke` and `recompiled` name all such cases.
    `worst` and `best` are (case, ratio), None without a measured case. `population` is what the claim speaks
    of, in words, empty if everything. `undecidable` is the reason where the verdict is that.
    """

    claim: str
    text: str
    run: str
    reading: str
    metric: str
    cache: str
    pass_: str | None
    dtype: str | None
    baseline: str
    candidate: str
    cases: int
    blocks: int
    failed: int
    missing: int
    problems: tuple[str, ...]
    band: tuple[float, float]
    geomean: float
    ci95: tuple[float, float]
    ci90: tuple[float, float]
    ci95_cases: tuple[float, float]
    share_in_band: float
    share_lower: float
    break_even_calls: float
    verdict: str
    of_all_cases: str = "insufficient"
    device: str | None = None
    estimate: bool = False
    quantity: str = "speedup"
    population: str = ""
    inside: int = 0
    above: int = 0
    below: int = 0
    slower: int = 0
    set_aside: int = 0
    broke: tuple[str, ...] = ()
    recompiled: tuple[str, ...] = ()
    worst: tuple[str, float] | None = None
    best: tuple[str, float] | None = None
    undecidable: str | None = None

    @property
    def sentence(self) -> str:
        """The counts in plain words."""
        return sentence.of(self)

    def to_json(self) -> dict[str, Any]:
        """A row of `fuseproof claims --json`; what is unbounded or unknown is null."""
        row = {key.rstrip("_"): _jsonable(value) for key, value in vars(self).items()}
        for extreme in ("worst", "best"):
            if (case := getattr(self, extreme)) is not None:
                row[extreme] = {"case": case[0], "ratio": case[1]}
        return {**row, "sentence": self.sentence}


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
