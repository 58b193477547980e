"""The referee: makes references and compares results with them, in a process that loads nothing else.

`referee_process` starts it as `python -m fuseproof.measure.referee`. No code that is timed ever shares a
process with a reference, so none can find one. The rows that are compared are drawn when a result is there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof.cases import Case
from fuseproof.child_process import serve
from fuseproof.frameworks import WrongResultError
from fuseproof.measure import checks, reference
from fuseproof.measure.opening import opened
from fuseproof.measure.values import Values
from fuseproof.workloads.workload import Sampled

# References of draws that are kept: those of one inspected palindrome, and of a check.
_KEPT = 8


class Referee:
    """Answers requests; plain data in and out."""

    def __init__(self) -> None:
        self._values: Values | None = None
        self._references: OrderedDict[tuple[int, int], dict[str, Sampled]] = OrderedDict()

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        do = request.pop("do")
        if do == "open_case":
            return self.open_case(**request)
        return self.compare(**request)

    def open_case(self, *, group: str, seed: int, workload: dict[str, Any] | None = None) -> dict[str, Any]:
        """The case, whose workload from outside is described, and the values that the workers are given."""
        reference.prepare(workload)
        self._case = opened(group, workload)
        self._reference_of = reference.of(self._case)
        self._values = Values(self._case, seed)
        self._references.clear()
        return {}

    def compare(self, *, draw: int, file: str, steps: int = 1) -> dict[str, Any]:
        """Relative RMS error of every tensor in `file`, None where it is not finite; deletes the file.

        steps: of training, that led to it. Raises WrongResultError if the file does not hold the tensors of
        the case.
        """
        exact = self._reference(draw, steps)
        errors = {}
        for name, result in read_results(Path(file), self._case).items():
            error = checks.relative_rms(result, exact[name])
            errors[name] = error if np.isfinite(error) else None
        return {"errors": errors}

    def _reference(self, draw: int, steps: int) -> dict[str, Sampled]:
        if (draw, steps) not in self._references:
            assert self._values is not None, "no case is open"
            while len(self._references) >= _KEPT:
                self._references.popitem(last=False)
            # The sampled rows come from the operating system: nobody can have computed just them.
            rows = np.random.default_rng(secrets.randbits(128))
            given = self._values.arrays(draw)
            of = self._reference_of
            self._references[draw, steps] = (
                of.expected(*given, rows, steps=steps)
                if isinstance(of, reference.ByImplementation)
                else of.expected(*given, rows)
            )
        return self._references[draw, steps]


def read_results(path: Path, case: Case) -> dict[str, NDArray[np.float32]]:
    """Outputs and gradients of a case as `tensors.write_results` wrote them; deletes the file.

    Raises WrongResultError if it holds anything else.
    """
    tensors = case.workload.results(case.pass_)
    sizes = [tensor.size for tensor in tensors.values()]
    try:
        # Whatever else code from outside puts there, nobody waits for it and nobody reads more than is due.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise WrongResultError("the result did not arrive (no file)")
            if found.st_size != 4 * sum(sizes):
                raise WrongResultError(
                    f"{found.st_size / 4:,.12g} values arrived for results of {sum(sizes):,}"
                )
            flat = np.fromfile(file, np.float32, sum(sizes))
    except OSError as error:
        raise WrongResultError(f"the result did not arrive ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return {name: part.reshape(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}


if __name__ == "__main__":
    serve(Referee().handle)
