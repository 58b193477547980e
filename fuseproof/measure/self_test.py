"""Is cheating caught here? Implementations that cheat on purpose go the way that a user's own go."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuseproof.errors import UserError
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS, Implementation
from fuseproof.measure import canaries, planning, runner
from fuseproof.measure.progress import Pieces, Progress
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.records import Run
from fuseproof.suites import Suite, cases

_OPERATOR = "layer_norm"

# One case and one block: enough legs that each canary is looked at in many of them.
_SUITE = Suite(
    name="self-test",
    summary="canaries",
    cases=cases({_OPERATOR: ("512x768",)}, dtypes=("float32",), passes=("forward",)),
    blocks=1,
    max_blocks=1,
    palindromes=12,
    max_palindromes=12,
    leg_seconds=0.003,
    profile=False,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a canary.

    does:     what it does, see `Canary`.
    measured: it has a benchmark.
    reason:   the message of its failure, empty if it has none.
    expected: whether this is what had to become of it.
    """

    name: str
    does: str
    honest: bool
    measured: bool
    reason: str
    expected: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class _Silent:
    """A `Progress` that says nothing, and a `Stage` after the timing that does nothing."""

    PIECE = "none"
    GUESS = 0.0

    def begin(self, left: Mapping[str, Pieces]) -> None: ...
    def show(self, run: Run) -> None: ...

    @contextlib.contextmanager
    def piece(self, kind: str, what: str) -> Iterator[None]:
        yield

    def left(self, directory: RunDirectory) -> Sequence[object]:
        return ()

    def run(self, directory: RunDirectory, progress: Progress) -> None: ...


def framework_here() -> str:
    """The first framework that is installed. Raises UserError if none is."""
    for framework in FRAMEWORKS:
        if importlib.util.find_spec(framework) is not None:
            return framework
    raise UserError("no framework is installed; pip install 'fuseproof[torch]' (or jax, tensorflow)")


def rows(framework: str, device: str) -> dict[str, canaries.Canary]:
    """The canaries for a framework and a device, by the names of their implementations."""
    prefix = FRAMEWORKS[framework].partition(".")[0]
    return {
        f"{prefix}.{canary.name}": canary
        for canary in canaries.CANARIES
        if not canary.device or (canary.device, "torch") == (device, framework)
    }


def measure(framework: str, *, device: str, threads: int) -> list[Outcome]:
    """Run all canaries beside the framework's baseline, which takes about a minute.

    Raises UserError if the device is not there or the baseline itself cannot be measured.
    """
    tried = rows(framework, device)
    # By path: what lies in a file is treated as code from outside, wherever the file lies.
    file = Path(canaries.__file__).with_name(f"in_{framework}.py")
    own = [
        Implementation(_OPERATOR, name, framework=framework, target=f"{file}:{canary.name}")
        for name, canary in tried.items()
    ]
    plan = planning.make(
        _SUITE,
        [*IMPLEMENTATIONS, *own],
        planning.Selection(only=tuple(tried)),
        planning.settings_for(_SUITE, device=device, threads=threads),
    )
    with tempfile.TemporaryDirectory(prefix="fuseproof-self-test-") as folder:
        directory = RunDirectory.create(plan, Path(folder) / "run")
        silent = _Silent()
        measured = runner.run(directory, silent, silent)
    return outcomes(tried, measured, baseline=FRAMEWORKS[framework])


def outcomes(tried: Mapping[str, canaries.Canary], run: Run, *, baseline: str) -> list[Outcome]:
    """What a run says of the canaries. Raises UserError if it has no number of the baseline."""
    reasons = {failure.implementation: failure.message for failure in run.failures}
    timed = {benchmark.implementation for benchmark in run.benchmarks}
    if baseline not in timed:
        raise UserError(f"{baseline} could not be measured here: {reasons.get(baseline, 'no reason given')}")
    return [
        Outcome(
            name=canary.name,
            does=canary.does,
            honest=canary.honest,
            measured=name in timed,
            reason=reasons.get(name, ""),
            expected=(name in timed) == canary.honest and (name in reasons) != canary.honest,
        )
        for name, canary in tried.items()
    ]
