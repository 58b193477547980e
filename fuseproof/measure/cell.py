"""One case in one block: palindromes of legs, and what happens to an implementation that fails meanwhile."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import checks, evidence, palindromes
from fuseproof.measure.crew import Crew
from fuseproof.measure.evidence import Evidence
from fuseproof.measure.palindromes import Leg
from fuseproof.measure.worker_process import WorkerCheated, WorkerDied, WorkerError, WorkerSkip
from fuseproof.runs.plan import Settings
from fuseproof.runs.records import is_twin
from fuseproof.workloads.tensor import STARTED_PASSES

# A worker that dies once is replaced and only its leg is lost: anything may have killed it. If it dies again
# in the same case, the implementation that it was asked for fails, or all if it was asked for none yet.
_DEATHS = 2

# Besides one palindrome, this share of them is inspected, while inspecting takes less than a share of the
# time. Nobody but the runner knows which.
_INSPECTED_SHARE = 0.25
_INSPECTING_SHARE = 0.08
# Timed values are others than the checked ones: their error may be a little larger.
_LIMIT_FACTOR = 1.5
# Of each training step that follows another: AdamW makes steps of full size of gradients however small, so
# their rounding grows. A step that is left out is a thousand times larger.
_STEP_FACTOR = 100.0

# One whose times are doubted is looked at again, in so many legs, after each of these pauses in seconds: what
# disturbs a machine comes in bursts. All doubted ones of a cell share the pauses.
_PAUSES, _LEGS_OF_A_LOOK = (0.0, 0.1, 0.5, 2.0), 4

# Legs of an implementation from outside in which something was compiled, in one case.
_COMPILED = 2

Samples = dict[str, list[float]]  # seconds per call, by metric


class Cell:
    """Measures the implementations that still work; one that fails leaves, and the others go on.

    limits: by implementation and tensor, the errors that results of timed calls may have.
    """

    def __init__(
        self,
        crew: Crew,
        case: Case,
        implementations: Sequence[Implementation],
        *,
        block: int,
        limits: Mapping[str, Mapping[str, float]],
    ) -> None:
        self._crew = crew
        self._block = block
        self._last_worker: str | None = None
        self._case = case
        self._limits = limits
        self._working = list(implementations)
        self._prepared: set[str] = set()  # workers
        self._legs: dict[str, list[Samples]] = {each.name: [] for each in implementations}
        self._failures: dict[str, str] = {}
        self._disqualified: list[str] = []
        self._deaths: Counter[str] = Counter()  # by implementation, and by worker for the time before
        self._evidence = {each.name: Evidence() for each in implementations}
        # Not from the run's seed, which anyone can read: from what nobody knew when the code was written.
        self._secret = secrets.SystemRandom()
        self._values_seed = self._draw()
        self._inspecting = 0.0  # seconds
        self._looking = False  # again, at what is doubted

    def measure(self, legs: Mapping[str, Leg], settings: Settings) -> dict[str, Any]:
        """The record of the cell: `legs[name][leg][metric]` lists seconds per call, 2i and 2i+1 mirrored."""
        started = time.perf_counter()
        self._crew.referee.open_case(self._case, self._values_seed)
        for worker in self._workers():
            self._prepare(worker)
        among = {each.name for each in self._working}
        common = settings.baseline if settings.baseline in among else None
        baselines = {
            each.name: each.baseline if is_twin(each.name) else common or each.baseline
            for each in self._working
        }
        certain = self._secret.randrange(settings.palindromes)
        for index in range(settings.max_palindromes):
            groups = self._by_framework()
            inspected = None
            if index == certain or self._may_inspect(time.perf_counter() - started):
                inspected = self._secret.randrange(2)
            halves = palindromes.palindrome(groups, (settings.seed, self._block, index))
            for number, half in enumerate(halves):
                self._half(half, legs, probing=number == inspected)
            log_times = {
                each.name: [math.log(min(leg["wall"])) for leg in self._legs[each.name]]
                for each in self._working
            }
            if index + 1 >= settings.palindromes and palindromes.precise_within_block(log_times, baselines):
                break
        for implementation in list(self._working):
            self._look(implementation, legs)  # what a worker did to the end, it did before
        self._judge(legs)
        for name in self._failures:
            del self._legs[name][len(self._legs[name]) // 2 * 2 :]  # a leg without its mirror image
        return {
            "group": self._case.group,
            "legs": self._legs,
            "failures": self._failures,
            "disqualified": self._disqualified,
            "evidence": {name: found.to_json() for name, found in self._evidence.items()},
        }

    def _by_framework(self) -> list[list[Implementation]]:
        frameworks = dict.fromkeys(each.framework for each in self._working)
        return [[each for each in self._working if each.framework == framework] for framework in frameworks]

    def _workers(self) -> list[str]:
        return list(dict.fromkeys(self._crew.worker_of(each) for each in self._working))

    def _working_in(self, worker: str) -> list[Implementation]:
        return [each for each in self._working if self._crew.worker_of(each) == worker]

    def _draw(self) -> int:
        return self._secret.getrandbits(62)

    def _may_inspect(self, elapsed: float) -> bool:
        return self._secret.random() < _INSPECTED_SHARE and self._inspecting < _INSPECTING_SHARE * elapsed

    def _look(self, implementation: Implementation, legs: Mapping[str, Leg]) -> None:
        """One more leg, inspected and not counted."""
        if implementation in self._working:
            self._leg(implementation, legs[implementation.name], *self._draws(probing=True))
        if implementation in self._working:
            self._legs[implementation.name].pop()

    def _half(self, half: Sequence[Implementation], legs: Mapping[str, Leg], *, probing: bool) -> None:
        """The legs of one half of a palindrome: new values for ours, and others for each from outside.

        So nobody can leave results for another, and ours share a reference.
        """
        ours = self._draws(probing)
        for implementation in half:
            if implementation in self._working:
                draw, probes = self._draws(probing) if implementation.is_foreign else ours
                self._leg(implementation, legs[implementation.name], draw, probes)

    def _draws(self, probing: bool) -> tuple[int, Sequence[int]]:
        return self._draw(), [self._draw() for _ in range(palindromes.PROBES if probing else 0)]

    def _leg(self, implementation: Implementation, leg: Leg, draw: int, probes: Sequence[int]) -> None:
        name, worker = implementation.name, self._crew.worker_of(implementation)
        while True:
            self._prepare(worker)
            if implementation not in self._working:  # it failed while its worker's successor was prepared
                return
            warm_up = leg.warm_up if worker == self._last_worker else leg.settle
            self._last_worker = worker
            inspecting = False
            try:
                if implementation.is_foreign:
                    self._crew.mend()
                with self._crew.awake(worker):
                    samples = self._timed(implementation, leg, draw, warm_up)
                    if probes:
                        inspecting = True
                        self._inspect(implementation, leg, draw, probes)
                    if implementation.is_foreign:
                        self._crew.compare(worker)
            except WorkerDied as death:
                self._prepared.discard(worker)
                if inspecting and implementation.is_foreign:  # it took what would have shown the leg with it
                    self._disqualify(implementation, f"while it was inspected, {death}")
                    return
                self._died(name, [implementation], death)
            except (WorkerError, WorkerSkip) as error:
                if isinstance(error, WorkerCheated):  # then the worker was ended, whoever wrote
                    self._prepared.discard(worker)
                self._disqualify(implementation, str(error))
                return
            else:
                self._legs[name].append(samples)
                return

    def _timed(self, implementation: Implementation, leg: Leg, draw: int, warm_up: int) -> Samples:
        """The samples of a leg; it is taken once more if something was compiled while the clock ran."""
        name, worker = implementation.name, self._crew.worker_of(implementation)
        own = self._evidence[name]
        for attempt in range(2):
            self._crew.ask(
                worker, "arm", name=name, draw=draw, rounds=leg.rounds, calls=leg.calls, warm_up=warm_up
            )
            account = self._crew.account(worker) if implementation.is_foreign else None
            started = time.perf_counter()
            samples = self._crew.ask(worker, "time")
            observed = time.perf_counter() - started
            waited = 0.0 if account is None else self._crew.waited(worker, account, observed)
            compilations = samples.pop("compilations", None)
            if not samples.keys() <= {"wall", "device"} or not all(
                evidence.are_seconds(samples.get(metric), leg.rounds) for metric in {"wall", *samples}
            ):
                raise WorkerError("its process answered a timed leg with what is not a list of times")
            if not compilations:
                break
            own.compiled += 1
            if own.compiled > _COMPILED and implementation.is_foreign:
                raise WorkerError(f"it was compiled again in {own.compiled} timed legs of a case")
            if attempt:
                raise WorkerError("it was compiled again in two timed legs, one after the other")
        if self._looking:
            own.looks = own = own.looks or Evidence()
        own.calls.append(min(samples["wall"]))
        own.reported.append(leg.calls * sum(samples["wall"]))
        own.observed.append(observed)
        own.waited.append(waited)
        inputs = self._case.workload.inputs_by_name
        consumed = sum(inputs[each].bytes(self._case.dtype) for each in implementation.consumes)
        own.copied = consumed * leg.calls * leg.rounds
        if leg.calls * leg.rounds == 1:  # it gets its values while the runner's clock runs
            cotangents = self._case.workload.cotangents if self._case.pass_ in STARTED_PASSES else {}
            given = (*inputs.values(), *cotangents.values())
            own.copied += sum(each.bytes(self._case.dtype) for each in given)
        if self._case.pass_ == "training_step":  # what a module has become is copied while the leg runs
            own.copied += self._case.workload.result_bytes(self._case.pass_, self._case.dtype)
        return samples

    def _inspect(self, implementation: Implementation, leg: Leg, draw: int, probes: Sequence[int]) -> None:
        """Have the result of a timed call handed over, and single calls timed."""
        started = time.perf_counter()
        referee = self._crew.referee
        chosen = probes[: leg.probes]
        file, files = referee.file(), [referee.file() for _ in chosen]
        found = self._crew.ask(
            self._crew.worker_of(implementation),
            "inspect",
            file=file,
            draws=list(chosen),
            files=files,
        )
        singles, echoes = found.get("probes"), found.get("echoes", [])
        if (
            not isinstance(singles, list)
            or not isinstance(echoes, list)
            or len(singles) != len(chosen)
            or not all(evidence.are_seconds(each, 2) for each in (*singles, *echoes))
        ):
            raise WorkerError("its process answered calls with new values with what is not a list of times")
        seen = self._evidence[implementation.name]
        if self._looking:
            seen = seen.looks = seen.looks or Evidence()
        seen.probes += [(first, last) for first, last in singles]
        seen.echoes += [(first, last) for first, last in echoes]
        # At once, so that no file is left for the next.
        steps = found.get("steps", 1)
        if type(steps) is not int or not 1 <= steps <= leg.calls * leg.rounds:
            raise WorkerError("its process says that a result took another number of steps than there were")
        self._compare(implementation, draw, file, steps)
        for drawn, result in zip(chosen, files, strict=True):
            self._compare(implementation, drawn, result)
        self._inspecting += time.perf_counter() - started

    def _compare(self, implementation: Implementation, draw: int, file: str, steps: int = 1) -> None:
        """Raise WorkerError if the result in the file is not that of the values of the draw.

        steps: of training, that led to it. Single steps are compared too; here an error may be larger.
        """
        own, limits = self._evidence[implementation.name], self._limits[implementation.name]
        errors = self._crew.referee.errors(draw, file, steps=steps)
        factor = _LIMIT_FACTOR if steps == 1 else _STEP_FACTOR * steps
        if self._case.workload.random:  # a distance, whose limit does not depend on rounding
            factor = 1.0
        allowed = {tensor: factor * limit for tensor, limit in limits.items()}
        verdict = checks.worst(errors, allowed, random=self._case.workload.random)
        own.outputs += 1
        own.worst = max(own.worst, verdict.relative_rms / verdict.limit)
        if not verdict.passed:
            raise WorkerError(f"in a timed call {verdict.message}")

    def _judge(self, legs: Mapping[str, Leg]) -> None:
        """Disqualify implementations from outside whose times cannot be those of their work.

        One that is doubted is looked at again, with its yardstick and the machine's ceilings: a busy machine
        may have disturbed the few legs and single calls there are, but not the fastest of many.
        """
        for pause in _PAUSES:
            doubted = [each for each in self._working if each.is_foreign and self._reason_to_doubt(each)]
            if not doubted:
                return
            time.sleep(pause)
            self._crew.ceilings(self._case.dtype, again=True)
            yardsticks = {each.yardstick for each in doubted}
            beside = [each for each in self._working if each.name in yardsticks and each not in doubted]
            self._looking = True
            for implementation in (*beside, *doubted) * _LEGS_OF_A_LOOK:
                self._look(implementation, legs)
            self._looking = False
        for each in [one for one in self._working if one.is_foreign]:
            if (reason := self._reason_to_doubt(each)) is not None:
                self._disqualify(each, reason)

    def _reason_to_doubt(self, implementation: Implementation) -> str | None:
        yardstick = implementation.yardstick
        alone = yardstick == implementation.name or yardstick in self._failures
        workload, pass_ = self._case.workload, self._case.pass_
        return evidence.reason_to_doubt(
            self._evidence[implementation.name],
            None if alone else self._evidence.get(yardstick),
            self._crew.ceilings(self._case.dtype),
            flops=workload.flops(pass_) or 0,
            bytes_=workload.minimum_bytes(pass_, self._case.dtype) or 0,
        )

    def _prepare(self, worker: str) -> None:
        """Have the worker ready for all that still work; those that it cannot serve fail."""
        while worker not in self._prepared:
            working = self._working_in(worker)
            if not working:
                return
            try:
                with self._crew.awake(worker):
                    self._prepare_once(worker, working)
            except WorkerCheated as cheating:
                self._prepared.discard(worker)
                for implementation in self._working_in(worker):
                    self._disqualify(implementation, str(cheating))

    def _prepare_once(self, worker: str, working: Sequence[Implementation]) -> None:
        try:
            self._crew.get(worker)
            self._crew.open_case(worker, self._case, self._values_seed)
        except WorkerDied as death:
            self._crew.bury(worker)
            self._died(worker, working, death)
            return
        except (WorkerError, WorkerSkip) as error:
            self._crew.bury(worker)
            for implementation in working:
                self._disqualify(implementation, str(error))
            return
        try:
            for implementation in working:
                try:
                    self._crew.prepare(implementation)
                except (WorkerError, WorkerSkip) as error:
                    self._disqualify(implementation, str(error))
                    if implementation.is_foreign:  # its worker was ended with it
                        return
        except WorkerDied as death:
            # The loop starts a successor for the implementations that are left.
            self._died(implementation.name, [implementation], death)
        else:
            self._prepared.add(worker)

    def _died(self, of: str, concerned: Sequence[Implementation], death: WorkerDied) -> None:
        """Count a death under the name of an implementation, or of a worker if it had none yet."""
        self._deaths[of] += 1
        if self._deaths[of] == _DEATHS:
            for implementation in concerned:
                # Nobody knows what the process of code from outside did before it ended.
                if implementation.is_foreign:
                    self._disqualify(implementation, str(death))
                else:
                    self._fail(implementation, str(death))

    def _disqualify(self, implementation: Implementation, message: str) -> None:
        """It fails, and none of its times count: it did not do the work, or not always."""
        self._disqualified.append(implementation.name)
        self._fail(implementation, message)
        if implementation.is_foreign:  # whatever it changed in its process must not meet the next case
            worker = self._crew.worker_of(implementation)
            self._crew.bury(worker)
            self._prepared.discard(worker)

    def _fail(self, implementation: Implementation, message: str) -> None:
        self._working.remove(implementation)
        self._failures[implementation.name] = message
