"""Calls of the function in one pass, each made to show one kind of fault, and what they showed.

Every call gets copies of its arguments, so that no call meets what another one did. A plain call is compared
with the reference. The others are too, unless the plain one is wrong already: then with that, so that one
fault is reported once. A fault of the plain call that another call explains, such as an element that nobody
wrote, is reported as what it is.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof import escaping
from fuseproof.checking.judging import Expected, Fault, shown_index
from fuseproof.checking.libraries import Placed, Tensor, margins
from fuseproof.checking.result import Failure
from fuseproof.checking.subject import Draw, Subject
from fuseproof.measure.tensors import other_names
from fuseproof.workloads.tensor import tensor_dtype

Arrays = dict[str, NDArray[Any]]
# The results of the function for tensors of a draw, by name; it waits until they are there.
Call = Callable[[Draw, Mapping[str, Tensor]], dict[str, Tensor]]


class Crashed(Exception):
    """The function raised, or gave what is no result; the message says which, on one line."""


class Runs:
    """The calls of one pass.

    expected: what is right for the first draw.
    consumes: inputs that a call may change.
    aloud: begins every message of another pass than the forward one.
    """

    def __init__(
        self, subject: Subject, call: Call, expected: Expected, *, consumes: Sequence[str], aloud: str = ""
    ) -> None:
        self.subject = subject
        self.failures: list[Failure] = []
        self.notes: list[str] = list(expected.notes)
        self.errors: dict[str, tuple[float, float]] = {}
        self.seconds = 0.0
        self._library = subject.library
        self._call = call
        self._expected = expected
        self._consumes = consumes
        self._aloud = aloud
        self._device = self._library.device_name(next(iter(subject.first.tensors.values())))
        self._eager = self._library.uncompiled(subject.function) is None
        self._plain: Arrays = {}
        self._faults: dict[str, Fault] = {}  # of the plain call
        self._explained: dict[str, NDArray[np.bool_]] = {}
        self._changed: set[str] = set()
        self._random: set[str] = set()  # results that are not the same twice, and are compared no more

    def plain(self) -> None:
        """One call. Raises Crashed if it gives no results that could be compared."""
        expected = self._expected
        own = tensor_dtype(self.subject.dtype)
        like = [(shape, expected.dtypes.get(name, own)) for name, shape in expected.shapes.items()]
        with self._library.fresh_memory(like, self._device, poison=False, eager=self._eager):
            results = self._made(self.subject.first)
        if list(results) != list(expected.shapes) and results.keys() != expected.shapes.keys():
            raise Crashed(other_names(list(results), list(expected.shapes)))
        self._plain = self._arrays(results)
        self._like = [(tuple(each.shape), self._library.dtype_name(each)) for each in results.values()]
        for name, array in self._plain.items():
            wanted, found = expected.dtypes.get(name), self._library.dtype_name(results[name])
            if wanted not in (None, found):
                self.fail("values", name, f"{name} is {found}, and the baseline's is {wanted}")
            if (fault := expected.judge(name, array)) is not None:
                self._faults[name] = fault
            if array.shape == expected.shapes[name] and array.size:
                self.errors[name] = expected.error(name, array), expected.limits[name]
        if any(fault.kind == "shape" for fault in self._faults.values()):
            self.report()
            raise Crashed("")

    def again(self, *, unwritten: bool, repeat: bool) -> None:
        """A call whose memory starts with NaN or huge values, which stay where none are written; a plain one.

        What differs between calls with the same values by rounding alone is a note.
        """
        poisoned = self._poisoned() if unwritten else {}
        for name, array in self._arrays(self._made(self.subject.first)).items() if repeat else ():
            if (fault := self._deviation(name, array)) is not None:
                self._random.add(name)
                self._report("repeat", fault, "called again with the same values, ")
            elif name not in self._faults and not _same(array, self._plain[name]):
                most = np.nanmax(np.abs(np.asarray(array, np.float64) - self._plain[name]))
                self.notes.append(
                    f"{name} differs from call to call with the same values, by up to {most:.2g}"
                )
        for name, array in poisoned.items():
            if (fault := self._deviation(name, array)) is not None:
                self._report("unwritten", fault, "with NaN in all memory that the call allocates, ")

    def _poisoned(self) -> Arrays:
        with self._library.fresh_memory(self._like, self._device, poison=True, eager=self._eager):
            found = self._tried("unwritten", lambda: self._arrays(self._made(self.subject.first)))
        for name, array in (found or {}).items():
            left = margins.is_poison(array) & ~margins.is_poison(self._plain[name])
            if left.any():
                self._explain(name, left)
                text = f"is not fully written: {_where(left)} hold what the memory held before"
                self._fault("unwritten", name, array, left, text)
        return found or {}

    def outside(self) -> None:
        """A call whose inputs are surrounded by NaN; a second one for each input, to say which."""
        spoiled = self._tried("outside", lambda: self._spoiled(None))
        if not spoiled:
            return
        inputs = [name for name in self.subject.first.tensors if self._spoiled(name)]
        of = f"the input {inputs[0]}" if len(inputs) == 1 else "the inputs"
        for name, (array, bad) in spoiled.items():
            self._explain(name, bad)
            text = f"depends on memory outside {of}: surrounded by NaN, {_where(bad)} change"
            self._fault("outside", name, array, bad, text)

    def stale(self, second: Draw, expected: Expected) -> None:
        """Calls with other values: in new memory, then the first values in the memory of the second ones."""
        earlier = self._made(self.subject.first)
        before = self._arrays(earlier)
        placed = self._placed(second)
        results = self._arrays(self._made(second, placed))
        for name, array in self._arrays(earlier).items():
            if not _same(array, before[name]):
                text = f"{name} of an earlier call changed when the function was called again"
                self.fail("stale", name, f"{text}: it returns the same memory")
        old = set()
        for name, array in results.items():
            if name in self._faults or name in self._random or (fault := expected.judge(name, array)) is None:
                continue
            if _same(array, before[name]):
                old.add(name)
                self.fail("stale", name, f"{name} is that of an earlier call, with other values")
            else:
                self._report("values", fault, "with other values, ")
        self._in_the_same_memory(second, placed, old)

    def _in_the_same_memory(self, second: Draw, placed: Mapping[str, Placed], old: set[str]) -> None:
        first = self.subject.first
        if self._changed or {n: a.shape for n, a in first.arrays.items()} != {
            name: array.shape for name, array in second.arrays.items()
        }:
            return
        for name, each in placed.items():
            if not self._library.overwrite(each.tensor, first.arrays[name]):
                return
        found = self._arrays(self._results(second, {name: each.tensor for name, each in placed.items()}))
        for name, array in found.items():
            if name not in old and (fault := self._deviation(name, array)) is not None:
                self._report("stale", fault, "with other values in the same memory as before, ")

    def report(self) -> None:
        """The faults of the plain call that no other call explained."""
        for name, fault in self._faults.items():
            if name in self._random or self._is_explained(name, fault):
                continue
            kind = "gradients" if name.startswith("grad_") else "values"
            self._report(kind, fault)

    def fail(
        self,
        what: str,
        where: str,
        text: str,
        index: tuple[int, ...] | None = None,
        got: float | None = None,
        expected: float | None = None,
    ) -> None:
        """Add a failure; `text` is on one line."""
        message = escaping.line(f"{self._aloud}{text}")
        self.failures.append(
            Failure(what=what, where=where, index=index, got=got, expected=expected, message=message)
        )

    def _report(self, what: str, fault: Fault, when: str = "") -> None:
        self.fail(what, fault.tensor, when + fault.message, fault.index, fault.got, fault.expected)

    def _fault(self, what: str, name: str, array: NDArray[Any], bad: NDArray[np.bool_], text: str) -> None:
        """A fault that shows where a call differs from the plain one."""
        index = tuple(int(n) for n in np.argwhere(bad)[0])
        self.fail(what, name, f"{name} {text}", index, float(array[index]), float(self._plain[name][index]))

    def _is_explained(self, name: str, fault: Fault | None) -> bool:
        """Whether all elements that a fault shows are known to be unwritten, or read from elsewhere."""
        explained = self._explained.get(name)
        if fault is None or fault.bad is None or explained is None or not fault.bad.any():
            return False
        return not (fault.bad & ~explained[self._expected.exact[name].index]).any()

    def _explain(self, name: str, bad: NDArray[np.bool_]) -> None:
        self._explained[name] = self._explained.get(name, np.zeros(bad.shape, bool)) | bad

    def _spoiled(self, only: str | None) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]:
        """Results that change, and where, if the input `only` (None: every input) is surrounded by NaN."""
        first = self.subject.first
        placed = {
            name: self._library.placed(tensor, surrounded=only in (None, name))
            for name, tensor in first.tensors.items()
        }
        found = {}
        for name, array in self._arrays(self._made(first, placed)).items():
            bad = ~np.isfinite(array) & np.isfinite(self._plain[name])
            if not bad.any() and self._deviation(name, array) is not None:
                bad = np.asarray(array != self._plain[name])
            bad = bad & ~self._explained.get(name, np.False_)
            if bad.any():
                found[name] = array, bad
        return found

    def _deviation(self, name: str, array: NDArray[Any]) -> Fault | None:
        """What is wrong with a result that should be the plain call's, and was not wrong there."""
        explained = self._explained.get(name)
        if name in self._random:
            return None
        if name not in self._faults:
            fault = self._expected.judge(name, array)
            return None if self._is_explained(name, fault) else fault
        plain = self._plain[name]
        if array.shape != plain.shape or _same(array, plain) or name.startswith("grad_"):
            return None
        with np.errstate(invalid="ignore"):
            differs = ~np.isclose(array, plain, rtol=1e-2, atol=1e-6, equal_nan=True)
        if explained is not None:
            differs &= ~explained
        if not differs.any():
            return None
        index = tuple(int(n) for n in np.argwhere(differs)[0])
        return Fault(
            tensor=name,
            kind="value",
            text=f"is {array[index]:.6g} at {shown_index(index)} instead of {plain[index]:.6g}",
            index=index,
            got=float(array[index]),
            expected=float(plain[index]),
            bad=differs,
        )

    def _placed(self, draw: Draw) -> dict[str, Placed]:
        return {name: self._library.placed(tensor) for name, tensor in draw.tensors.items()}

    def _made(self, draw: Draw, placed: Mapping[str, Placed] | None = None) -> dict[str, Tensor]:
        """Results of a call with copies of a draw. Raises Crashed. A changed input is a failure, once."""
        placed = self._placed(draw) if placed is None else placed
        started = time.perf_counter()
        results = self._results(draw, {name: each.tensor for name, each in placed.items()})
        self.seconds = time.perf_counter() - started
        for name, each in placed.items():
            if name in self._changed:
                continue
            if each.overrun():
                self._changed.add(name)
                self.fail("inputs", name, f"the call wrote into memory outside its input {name}")
            elif name not in self._consumes and each.changed():
                self._changed.add(name)
                self.fail(
                    "inputs", name, f"the call changed its input {name}{self._change(draw, name, each)}"
                )
        return results

    def _change(self, draw: Draw, name: str, each: Placed) -> str:
        """Where an input was changed first, in words."""
        try:
            now = self._library.array(each.tensor)
        except RuntimeError:  # JAX: it was given away
            return ": it gave its memory away"
        differs = np.argwhere(now != draw.arrays[name])
        if not len(differs):
            return ""
        index = tuple(int(n) for n in differs[0])
        return f": {shown_index(index)} was {draw.arrays[name][index]:.6g} and is {now[index]:.6g}"

    def _results(self, draw: Draw, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        try:
            with np.errstate(all="ignore"):  # what NumPy would warn of is in the results
                return self._call(draw, tensors)
        except Crashed:
            raise
        except Exception as error:
            raise Crashed(f"{self._aloud}{raised(error)}") from error

    def _tried(self, what: str, call: Callable[[], Any]) -> Any:
        """What a call gives; None, and a failure, if it crashes where the plain one did not."""
        when = {
            "unwritten": "with NaN in all memory that the call allocates",
            "outside": "with inputs that are surrounded by NaN",
        }
        try:
            return call()
        except Crashed as crash:
            self.fail(what, "", f"{when[what]} it {str(crash).removeprefix(self._aloud)}")
            return None

    def _arrays(self, results: Mapping[str, Tensor]) -> Arrays:
        found = {}
        for name, tensor in results.items():
            try:
                found[name] = self._library.array(tensor)
            except TypeError as error:
                raise Crashed(f"gives {error}, as {name}") from None
            except Exception as error:  # a CUDA graph's memory that a later call took
                raise Crashed(f"gives {name} that cannot be read: {raised(error)}") from None
        return found


def raised(error: BaseException) -> str:
    """`raised ValueError: … (kernel.py:12)`, on one line; the place is the last one outside this package."""
    text = f"raised {type(error).__name__}: {escaping.line(str(error))[:300]}"
    own = Path(__file__).parents[1]
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not Path(f.filename).is_relative_to(own)
    ]
    mine = [
        frame for frame in frames if not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)
    ]
    for frame in (mine or frames)[-1:]:
        text += f" ({Path(frame.filename).name}:{frame.lineno})"
    return text


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays have the same values, NaN included."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


def _where(bad: NDArray[np.bool_]) -> str:
    """`3 of 128 elements, from [125] on,`; the count and the first."""
    first = tuple(int(n) for n in np.argwhere(bad)[0])
    return f"{int(bad.sum()):,} of {bad.size:,} elements (first {shown_index(first)})"
