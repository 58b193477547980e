"""One case in one block: palindromes of legs, and what happens to an implementation that fails meanwhile."""

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

# A worker that dies once is replaced and only its leg is lost: anything may have killed it. If it dies again
# in the same case, the implementation that it was asked for fails, or all if it was asked for none yet.
_DEATHS = 2

Samples = dict[str, list[float]]  # seconds per call, by metric


class Cell:
    """Measures the implementations that still work; one that fails leaves, and the others go on."""

    def __init__(
        self, crew: Crew, case: Case, implementations: Sequence[Implementation], *, block: int
    ) -> None:
        self._crew = crew
        self._block = block
        self._last_framework: str | None = None
        self._case = case
        self._working = list(implementations)
        self._prepared: set[str] = set()
        self._legs: dict[str, list[Samples]] = {each.name: [] for each in implementations}
        self._failures: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()  # by implementation, and by framework for the time before

    def measure(self, legs: Mapping[str, Leg], settings: Settings) -> dict[str, Any]:
        """The record of the cell: `legs[name][leg][metric]` lists seconds per call, 2i and 2i+1 mirrored."""
        for framework in self._frameworks():
            self._prepare(framework)
        baselines = {each.name: each.baseline for each in self._working}
        for index in range(settings.max_palindromes):
            groups = [self._working_in(framework) for framework in self._frameworks()]
            for half in palindromes.palindrome(groups, (settings.seed, self._block, index)):
                for implementation in half:
                    if implementation in self._working:
                        self._leg(implementation, legs[implementation.name])
            log_times = {
                each.name: [math.log(min(leg["wall"])) for leg in self._legs[each.name]]
                for each in self._working
            }
            if index + 1 >= settings.palindromes and palindromes.precise_within_block(log_times, baselines):
                break
        for name in self._failures:
            del self._legs[name][len(self._legs[name]) // 2 * 2 :]  # a leg without its mirror image
        return {"group": self._case.group, "legs": self._legs, "failures": self._failures}

    def _frameworks(self) -> list[str]:
        return list(dict.fromkeys(each.framework for each in self._working))

    def _working_in(self, framework: str) -> list[Implementation]:
        return [each for each in self._working if each.framework == framework]

    def _leg(self, implementation: Implementation, leg: Leg) -> None:
        name, framework = implementation.name, implementation.framework
        while True:
            self._prepare(framework)
            if implementation not in self._working:  # it failed while its worker's successor was prepared
                return
            warm_up = leg.warm_up if framework == self._last_framework else leg.settle
            self._last_framework = framework
            try:
                samples = self._crew.ask(
                    framework, "leg", name=name, rounds=leg.rounds, calls=leg.calls, warm_up=warm_up
                )
            except WorkerDied as death:
                self._prepared.discard(framework)
                self._died(name, [implementation], death)
            except (WorkerError, WorkerSkip) as error:
                self._fail(implementation, str(error))
                return
            else:
                self._legs[name].append(samples)
                return

    def _prepare(self, framework: str) -> None:
        """Have the framework's worker ready for all that still work; those that it cannot serve fail."""
        while framework not in self._prepared:
            working = self._working_in(framework)
            if not working:
                return
            try:
                self._crew.get(framework)
                self._crew.open_case(framework, self._case)
            except WorkerDied as death:
                self._crew.bury(framework)
                self._died(framework, working, death)
                continue
            except (WorkerError, WorkerSkip) as error:
                self._crew.bury(framework)
                for implementation in working:
                    self._fail(implementation, str(error))
                return
            try:
                for implementation in working:
                    try:
                        self._crew.prepare(implementation)
                    except (WorkerError, WorkerSkip) as error:
                        self._fail(implementation, str(error))
            except WorkerDied as death:
                # The loop starts a successor for the implementations that are left.
                self._died(implementation.name, [implementation], death)
            else:
                self._prepared.add(framework)

    def _died(self, of: str, concerned: Sequence[Implementation], death: WorkerDied) -> None:
        """Count a death under the name of an implementation, or of a framework if it had none yet."""
        self._deaths[of] += 1
        if self._deaths[of] == _DEATHS:
            for implementation in concerned:
                self._fail(implementation, str(death))

    def _fail(self, implementation: Implementation, message: str) -> None:
        self._working.remove(implementation)
        self._failures[implementation.name] = message
