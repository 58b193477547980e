"""The checks of a function at one point: a forward pass, one with gradients, and many calls for memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuseproof.checking import memory
from fuseproof.checking.reference import Reference
from fuseproof.checking.result import Failure, Point
from fuseproof.checking.runs import Crashed, Runs, raised
from fuseproof.checking.subject import Draw, Subject
from fuseproof.errors import UserError
from fuseproof.workloads import trees

# In the order in which they are made. `values` can not be left out.
CHECKS = ("values", "unwritten", "repeat", "outside", "inputs", "stale", "gradients", "memory")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be checked.

    skip: checks that are left out.
    gradients: names of inputs; None: of all.
    required: whether it is a fault to have no gradients; that of `gradients` is.
    consumes: inputs that the function may change.
    """

    skip: frozenset[str] = frozenset()
    gradients: tuple[str, ...] | None = None
    required: bool = False
    consumes: tuple[str, ...] = ()
    memory: bool = True


def inspect(subject: Subject, reference: Reference, wish: Wish) -> Point:
    """All checks of a function, as a point without a place in a grid. Raises UserError for wrong input."""
    return _Inspection(subject, reference, wish).point()


class _Inspection:
    def __init__(self, subject: Subject, reference: Reference, wish: Wish) -> None:
        self._subject = subject
        self._reference = reference
        self._wish = wish
        self._library = subject.library
        self._failures: list[Failure] = []
        self._notes = list(reference.notes)
        self._errors: dict[str, tuple[float, float]] = {}
        self._sought_leak = False

    def point(self) -> Point:
        forward = Runs(
            self._subject,
            self._forward,
            self._reference.expected(self._subject.first),
            consumes=self._wish.consumes,
        )
        self._limits_of_sight()
        if self._all(forward, lambda draw: self._reference.expected(draw)):
            if "gradients" not in self._wish.skip:
                if not self._failures:
                    self._gradients()
                elif self._library.GRADIENTS:
                    # They follow from what is wrong already, and would say it twice.
                    self._notes.append("gradients: not checked while something else is wrong")
            # A call that changes its inputs may not be able to take them again.
            if self._wish.memory and all(each.what != "inputs" for each in self._failures):
                self._memory(forward.seconds)
        return Point(
            at={},
            inputs=self._subject.first.shown,
            failures=tuple(self._failures),
            notes=tuple(self._notes),
            errors=self._errors,
            sought_leak=self._sought_leak,
        )

    def _all(self, runs: Runs, expected_of: Any) -> bool:
        """The calls of one pass; False if the function crashed."""
        skip = self._wish.skip
        crash = ""
        try:
            runs.plain()
            runs.again(unwritten="unwritten" not in skip, repeat="repeat" not in skip)
            if "outside" not in skip:
                runs.outside()
            if "stale" not in skip and (second := self._subject.second) is not None:
                runs.stale(second, expected_of(second))
            runs.report()
        except Crashed as error:
            crash = str(error)
            if crash:
                name = getattr(self._subject.function, "__name__", "the function")
                runs.fail("error", "", f"{name} {crash}" if crash.startswith(("raised", "gives")) else crash)
        self._failures += [each for each in runs.failures if each.what not in skip]
        self._notes += [note for note in runs.notes if note not in self._notes]
        self._errors = runs.errors | self._errors
        return not crash and not any(each.what == "error" for each in runs.failures)

    def _forward(self, draw: Draw, tensors: Mapping[str, Any]) -> dict[str, Any]:
        raw = self._subject.call(self._subject.function, draw.nesting, tensors)
        self._library.finish(raw)
        return trees.results(raw)

    def _gradients(self) -> None:
        subject, wish, library = self._subject, self._wish, self._library
        first = subject.first
        if wish.gradients is not None and (unknown := set(wish.gradients) - set(first.real)):
            raise UserError(
                f"gradients: no input of real numbers is called {sorted(unknown)[0]!r}; there are "
                f"{', '.join(first.real)}"
            )
        names = [n for n in (wish.gradients or first.real) if n not in wish.consumes]
        asked = wish.required or wish.gradients is not None
        if not library.GRADIENTS or not names:
            if asked:
                raise UserError(f"gradients: a function of {library.NAME} has none")
            return
        missing: set[str] = set()
        started: list[str] = []

        def call(draw: Draw, tensors: Mapping[str, Any]) -> dict[str, Any]:
            found = library.differentiate(
                lambda given: subject.call(subject.function, draw.nesting, given),
                tensors,
                names,
                subject.cotangent,
            )
            if found is None:
                return {}
            outputs, gradients, starts = found
            started[:] = starts
            missing.update(name for name, each in gradients.items() if each is None)
            result = {name: outputs[name] for name in starts}
            result |= {f"grad_{n}": each for n, each in gradients.items() if each is not None}
            library.finish(result)
            return result

        try:
            shown = call(first, {n: library.placed(t).tensor for n, t in first.tensors.items()})
            reason = "" if shown else "no output depends on an input in a way that has one"
        except Exception as error:
            # What has no gradient says so at once in PyTorch; tracing shows it as an error of any kind.
            if library.NAME == "PyTorch" and not isinstance(error, NotImplementedError):
                self._failed("gradients", "", f"with gradients it {raised(error)}")
                return
            reason = f"the function {raised(error)}"
        if reason:
            if asked:
                self._failed("gradients", "", f"there are no gradients: {reason}")
            else:
                self._notes.append(f"gradients: not checked: {reason}")
            return
        starts, absent = tuple(started), sorted(missing)
        kept = [name for name in names if name not in missing]
        expected = self._reference.expected(first, starts, names)
        for name in absent:
            exact = expected.exact[f"grad_{name}"].values
            if exact.size and np.abs(exact).max() > expected.limits[f"grad_{name}"]:
                text = f"grad_{name} is missing: no output depends on {name}, and by the reference one does"
                self._failed("gradients", f"grad_{name}", text)
        names[:] = kept
        if not kept:
            return
        runs = Runs(
            subject,
            call,
            expected.without([f"grad_{name}" for name in absent]),
            consumes=wish.consumes,
            aloud="with gradients, ",
        )
        self._all(runs, lambda draw: self._reference.expected(draw, starts, kept))

    def _memory(self, seconds: float) -> None:
        subject, library = self._subject, self._library
        first = subject.first
        kept = {name: library.placed(tensor).tensor for name, tensor in first.tensors.items()}
        consumed = self._wish.consumes

        def call() -> None:
            given = kept
            if consumed:
                given = kept | {name: library.placed(first.tensors[name]).tensor for name in consumed}
            self._forward(first, given)

        if reason := memory.reason_against(seconds):
            self._notes.append(f"memory: {reason}")
        if seconds > memory.MOST_SECONDS:
            return
        device = library.device_name(next(iter(first.tensors.values())))
        try:
            self._sought_leak = True
            found = memory.leak(call, seconds, library.device_memory(device))
        except Exception as error:
            self._failed("memory", "", f"after many calls the function {raised(error)}")
            return
        if found is not None:
            self._failed("memory", "", found.message)

    def _limits_of_sight(self) -> None:
        """Notes of what cannot be checked here."""
        subject, library, skip = self._subject, self._library, self._wish.skip
        if "outside" not in skip and not any(
            library.placed(each, surrounded=True).surrounded for each in subject.first.tensors.values()
        ):
            self._notes.append(
                f"outside: not checked: {library.NAME} places its tensors itself, so nothing can surround one"
            )
        device = library.device_name(next(iter(subject.first.tensors.values())))
        if "unwritten" not in skip and library.NAME in ("JAX", "TensorFlow") and device != "cpu":
            self._notes.append(
                f"unwritten: not checked: {library.NAME} gives no access to memory of {device}"
            )
        if "stale" not in skip:
            if subject.second is None:
                self._notes.append(
                    "stale: not checked: the inputs have no other values; give a function of a seed"
                )
            elif subject.fixed:
                self._notes.append(
                    "other values are the given ones in reverse; a function of a seed draws new ones"
                )
        self._notes += [f"{name}: not checked, as asked" for name in CHECKS if name in skip]

    def _failed(self, what: str, where: str, message: str) -> None:
        self._failures.append(
            Failure(what=what, where=where, index=None, got=None, expected=None, message=message)
        )
