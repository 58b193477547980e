"""One case in one block: palindromes of legs, and what becomes of an implementation that fails on the way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import palindromes
from fuseproof.measure.crew import Crew
from fuseproof.measure.palindromes import Leg
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerSkip
from fuseproof.runs.plan import Settings

# A worker that dies once is replaced and only its leg is lost: anything may have killed it. Dying again in
# the same case is the failure of the implementation it died of, or of all of them if it had none yet.
_DEATHS = 2

Samples = dict[str, list[float]]  # seconds per call, by metric


class Cell:
    """Measures the rows that still work; a row that fails leaves, and the others go on."""

    def __init__(self, crew: Crew, case: Case, rows: Sequence[Implementation], *, block: int) -> None:
        self._crew = crew
        self._block = block
        self._last_framework: str | None = None
        self._case = case
        self._rows = list(rows)
        self._prepared: set[str] = set()
        self._legs: dict[str, list[Samples]] = {row.name: [] for row in rows}
        self._failures: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()  # by implementation, and by framework for the time before

    def measure(self, legs: Mapping[str, Leg], settings: Settings) -> dict[str, Any]:
        """The record of the cell: `legs[name][leg][metric]` lists seconds per call, 2i and 2i+1 mirrored."""
        for framework in dict.fromkeys(row.framework for row in self._rows):
            self._prepare(framework)
        baselines = {row.name: row.baseline for row in self._rows}
        for index in range(settings.max_palindromes):
            groups = [
                [row for row in self._rows if row.framework == framework]
                for framework in dict.fromkeys(row.framework for row in self._rows)
            ]
            for half in palindromes.palindrome(groups, (settings.seed, self._block, index)):
                for row in half:
                    if row in self._rows:
                        self._leg(row, legs[row.name])
            log_times = {
                row.name: [math.log(min(leg["wall"])) for leg in self._legs[row.name]] for row in self._rows
            }
            if index + 1 >= settings.palindromes and palindromes.precise_within_block(log_times, baselines):
                break
        for name in self._failures:
            del self._legs[name][len(self._legs[name]) // 2 * 2 :]  # a leg without its mirror image
        return {"group": self._case.group, "legs": self._legs, "failures": self._failures}

    def _leg(self, row: Implementation, leg: Leg) -> None:
        while True:
            self._prepare(row.framework)
            if row not in self._rows:  # it failed while its worker's successor was prepared
                return
            warm_up = leg.warm_up if row.framework == self._last_framework else leg.settle
            self._last_framework = row.framework
            try:
                samples = self._crew.ask(
                    row.framework,
                    "leg",
                    name=row.name,
                    rounds=leg.rounds,
                    calls=leg.calls,
                    warm_up=warm_up,
                )
            except WorkerDied as death:
                self._prepared.discard(row.framework)
                self._died(row.name, [row], death)
            except (WorkerError, WorkerSkip) as error:
                self._fail(row, str(error))
                return
            else:
                self._legs[row.name].append(samples)
                return

    def _prepare(self, framework: str) -> None:
        """Have the framework's worker ready for every row that still works; rows it cannot serve fail."""
        while framework not in self._prepared:
            rows = [row for row in self._rows if row.framework == framework]
            if not rows:
                return
            try:
                self._crew.get(framework)
                self._crew.open_case(framework, self._case)
            except WorkerDied as death:
                self._crew.bury(framework)
                self._died(framework, rows, death)
                continue
            except (WorkerError, WorkerSkip) as error:
                self._crew.bury(framework)
                for row in rows:
                    self._fail(row, str(error))
                return
            try:
                for row in rows:
                    try:
                        self._crew.prepare(row)
                    except (WorkerError, WorkerSkip) as error:
                        self._fail(row, str(error))
            except WorkerDied as death:
                self._died(row.name, [row], death)  # the loop starts a successor for the rows that are left
            else:
                self._prepared.add(framework)

    def _died(self, who: str, rows: Sequence[Implementation], death: WorkerDied) -> None:
        self._deaths[who] += 1
        if self._deaths[who] == _DEATHS:
            for row in rows:
                self._fail(row, str(death))

    def _fail(self, row: Implementation, message: str) -> None:
        self._rows.remove(row)
        self._failures[row.name] = message
