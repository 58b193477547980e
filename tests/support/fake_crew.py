"""A crew that answers from a script, and cells measured with it: no process, no clock."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fuseproof.cases import Case
from fuseproof.implementations import Implementation
from fuseproof.measure import palindromes as drawn
from fuseproof.measure.cell import Cell
from fuseproof.measure.evidence import Ceilings
from fuseproof.measure.palindromes import Leg
from fuseproof.measure.worker_process import WorkerCheated, WorkerDied
from fuseproof.runs.plan import Settings

BLOCK = 3
CASE = Case.from_group("layer_norm[3x5-float32-forward]")
LEG = Leg(rounds=3, calls=7, warm_up=1, settle=5)
LIMIT = 1e-6
OURS, THEIRS = "fuseproof.m:f", "theirs.py:f"


def an_implementation(
    name: str, framework: str = "torch", baseline: str = "A", target: str = OURS
) -> Implementation:
    return Implementation("layer_norm", name, framework=framework, target=target, baseline=baseline)


def foreign(name: str, baseline: str = "A") -> Implementation:
    return an_implementation(name, target=THEIRS, baseline=baseline)


A, B, C = an_implementation("A"), an_implementation("B"), an_implementation("C")
EAGER = an_implementation("torch.eager", baseline="torch.eager")  # by it what is from outside is judged
X, Y = foreign("X"), foreign("Y")
OF_X, OF_Y = "torch:layer_norm X", "torch:layer_norm Y"  # their workers
Trouble = Callable[[int], Exception | None]  # by how often it was asked before


class FakeCrew:
    """Answers legs with the number of the request; raises what `troubles` has for `(do, name)`.

    It is its own referee: a file is the name of the implementation and the draw whose values it had.
    """

    def __init__(
        self, troubles: Mapping[tuple[str, str], Trouble] | None = None, *, share: bool = False
    ) -> None:
        self.troubles = dict(troubles or {})
        self.share = share
        self.asked: list[tuple[str, str]] = []
        self.buried: list[str] = []
        self.warm_ups: list[int] = []
        self.draws: list[int] = []  # of each leg
        self.probed: list[tuple[str, list[int]]] = []
        self.judged: list[str] = []
        self.alive: set[str] = set()
        self.awake_now: str | None = None
        self.prepared: dict[str, set[str]] = {}
        self.armed: dict[str, tuple[str, int]] = {}
        self.last: dict[str, str] = {}
        self.files: dict[str, tuple[str, int]] = {}
        self.wall: Callable[[str, int], list[float]] = lambda name, index: [1.0 + index] * 3
        self.compilations: Callable[[str, int], int] = lambda name, index: 0
        self.probe: Callable[[str], float] = lambda name: 1.0
        self.error: Callable[[str, int], float] = lambda name, index: LIMIT
        self.answer: dict[tuple[str, str], dict[str, Any]] = {}  # instead of an honest one
        self.ceiling = Ceilings()
        self.numbers = itertools.count()
        self.referee = self

    def _record(self, do: str, name: str, worker: str) -> None:
        before = self.asked.count((do, name))
        self.asked.append((do, name))
        trouble = self.troubles.get((do, name))
        error = trouble(before) if trouble else None
        if isinstance(error, WorkerDied | WorkerCheated):
            self.bury(worker)
        if error is not None:
            raise error

    def worker_of(self, implementation: Implementation) -> str:
        alone = implementation.is_foreign and not self.share
        own = f"{implementation.framework}:{implementation.workload} {implementation.name}"
        return own if alone else implementation.framework

    @contextlib.contextmanager
    def awake(self, worker: str) -> Iterator[None]:
        assert self.awake_now is None, "one at a time"
        self.awake_now = worker
        try:
            yield
        finally:
            self.awake_now = None

    def account(self, worker: str) -> None:
        assert worker in self.alive

    def waited(self, worker: str, since: None, seconds: float) -> float:
        return 0.0

    def mend(self) -> None:
        assert self.awake_now is None, "before code from outside runs"
        self.asked.append(("mend", ""))

    def compare(self, worker: str) -> None:
        assert worker in self.alive and worker == self.awake_now
        self._record("compare", self.last[worker], worker)

    def get(self, worker: str) -> None:
        assert self.awake_now == worker
        self._record("get", worker, worker)
        self.alive.add(worker)
        self.prepared.setdefault(worker, set())

    def open_case(self, *given: Any) -> None:
        if len(given) == 2:  # as the referee
            self.seed = given[1]
            return
        worker, case, seed = given
        assert worker in self.alive
        assert (case, seed) == (CASE, self.seed), "the referee's"
        self._record("open_case", worker, worker)

    def prepare(self, implementation: Implementation) -> None:
        worker = self.worker_of(implementation)
        assert worker in self.alive and worker == self.awake_now
        self._record("prepare", implementation.name, worker)
        self.prepared[worker].add(implementation.name)

    def ask(self, worker: str, do: str, **arguments: Any) -> dict[str, Any]:
        assert worker in self.alive and worker == self.awake_now
        return getattr(self, f"_{do}")(worker, **arguments)

    def _arm(
        self, worker: str, *, name: str, draw: int, rounds: int, calls: int, warm_up: int
    ) -> dict[str, Any]:
        assert name in self.prepared[worker], "only a worker that has prepared it is asked for a leg"
        self._record("arm", name, worker)
        assert (rounds, calls) == (LEG.rounds, LEG.calls)
        self.armed[worker] = name, draw
        self.last[worker] = name
        self.warm_ups.append(warm_up)
        return {}

    def _time(self, worker: str) -> dict[str, Any]:
        name, draw = self.armed[worker]
        self._record("time", name, worker)
        self.draws.append(draw)
        index = self.asked.count(("time", name)) - 1
        found = {"wall": self.wall(name, index), "compilations": self.compilations(name, index)}
        return self.answer.get(("time", name), found)

    def _inspect(self, worker: str, *, file: str, draws: list[int], files: list[str]) -> dict[str, Any]:
        name, draw = self.armed.pop(worker)
        self._record("inspect", name, worker)
        self.probed.append((name, draws))
        self.files[file] = name, draw
        self.files |= {each: (name, own) for each, own in zip(files, draws, strict=True)}
        return self.answer.get(("inspect", name), {"probes": [[self.probe(name)] * 2 for _ in draws]})

    def file(self) -> str:
        return f"{next(self.numbers)}.bin"

    def errors(self, draw: int, file: str, *, steps: int = 1) -> dict[str, float]:
        name, of = self.files.pop(file)
        assert of == draw, "compared with the reference of its own values"
        self._record("judge", name, "the referee")
        self.judged.append(name)
        return {"output": self.error(name, self.judged.count(name) - 1)}

    def ceilings(self, dtype: str, *, again: bool = False) -> Ceilings:
        self.asked.append(("ceilings again" if again else "ceilings", dtype))
        return self.ceiling

    def bury(self, worker: str) -> None:
        self.buried.append(worker)
        self.alive.discard(worker)
        self.prepared.pop(worker, None)
        self.armed.pop(worker, None)

    @property
    def legs(self) -> list[str]:
        """In order, the last look at each among them."""
        return [name for do, name in self.asked if do == "arm"]


def measure(
    crew: Any,
    among: Sequence[Implementation] = (A, B, C),
    *,
    palindromes: int = 3,
    max_palindromes: int | None = None,
) -> dict[str, Any]:
    settings = Settings(palindromes=palindromes, max_palindromes=max_palindromes or palindromes)
    limits = {each.name: {"output": LIMIT} for each in among}
    cell = Cell(crew, CASE, among, block=BLOCK, limits=limits)
    record = cell.measure({each.name: LEG for each in among}, settings)
    assert record["group"] == CASE.group
    assert record.keys() == {"group", "legs", "failures", "disqualified", "evidence"}
    assert set(record["disqualified"]) <= record["failures"].keys()
    assert record["legs"].keys() == record["evidence"].keys() == {each.name for each in among}
    return record


def order(index: int, of: str = "ABC") -> str:
    """The first half of a palindrome of A, B and C, by the one function that draws it."""
    return "".join(drawn.palindrome([of], (0, BLOCK, index))[0])


def died_at(*times: int) -> Trouble:
    return lambda before: WorkerDied("the process died of SIGSEGV") if before in times else None


def always(error: Exception) -> Trouble:
    return lambda before: error
