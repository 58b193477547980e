"""Measured rounds for pytest-benchmark, through nothing but its public interface: a timer that replays."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fuseproof.runs.records import Benchmark

# Whether a session has rounds that were measured here.
REPLAYED = pytest.StashKey[bool]()
# Property of a test that was skipped because nothing may be measured, with the reason.
NOT_MEASURED = "fuseproof_not_measured"


class ReplayTimer:
    """A clock for pytest-benchmark that moves by the measured seconds of one round at each `tick`."""

    __name__ = "fuseproof.replay"

    def __init__(self) -> None:
        self._now = 0.0
        self._rounds: list[float] = []

    def load(self, rounds: list[float]) -> None:
        self._rounds = rounds[::-1]

    def __call__(self) -> float:
        return self._now

    def tick(self) -> None:
        # Starting from zero each time keeps every bit of the sample: the difference is the sample itself.
        # --benchmark-cprofile calls this once more than there are rounds.
        self._now = self._rounds.pop() if self._rounds else 0.0

    def rewind(self) -> None:
        self._now = 0.0


@pytest.fixture
def _fuseproof_timer(request: pytest.FixtureRequest) -> ReplayTimer:
    """The timer of the test's benchmark, which has to be known before that is made."""
    # The name under which pytest-benchmark's session is, however its plugin was loaded.
    if not request.config.pluginmanager.hasplugin("pytest-benchmark"):
        pytest.fail("pytest-benchmark is switched off; run without -p no:benchmark", pytrace=False)
    if "benchmark" in inspect.signature(request.function).parameters:
        pytest.fail(
            f"{request.node.name} takes `benchmark` beside a fixture of Fuseproof, and a test is one "
            "benchmark; make it two tests",
            pytrace=False,
        )
    timer = ReplayTimer()
    chosen = request.node.get_closest_marker("benchmark")
    options = {**(chosen.kwargs if chosen else {}), "timer": timer}
    request.node.add_marker(pytest.mark.benchmark(**options), append=False)
    return timer


class Replay:
    """Reports what was measured as the benchmark of a test, once."""

    # benchmark: pytest-benchmark's fixture, whose methods have no types.
    def __init__(self, request: pytest.FixtureRequest, timer: ReplayTimer, benchmark: Any) -> None:
        self._request = request
        self._timer = timer
        self._benchmark = benchmark
        self._begun = False
        self._reported = False

    def begin(self) -> None:
        """To be called first, as the test asks for times: a second one would have no benchmark."""
        if self._begun:
            pytest.fail(
                f"{self._request.node.name} measures twice, and a test is one benchmark; make it two tests, "
                "or parametrize it",
                pytrace=False,
            )
        self._begun = True

    def skip_if_disabled(self) -> None:
        """Skip the test where nothing may be measured, with the reason and the remedy."""
        if self._benchmark.enabled:
            return
        if hasattr(self._request.config, "workerinput"):  # of pytest-xdist
            reason = "not measured beside the tests of other workers of pytest-xdist; measure with -n 0"
        else:
            reason = "not measured with --benchmark-disable"
        self._request.node.user_properties.append((NOT_MEASURED, reason))
        pytest.skip(reason)

    def __call__(self, measured: Benchmark, *, group: str | None, extra_info: Mapping[str, Any]) -> None:
        """Report the rounds. group: of pytest-benchmark's table; None for the one that the test has."""
        if group is not None:
            self._benchmark.group = group
        rounds = measured.seconds.tolist()
        self._timer.load(rounds)
        self._benchmark.extra_info.update(extra_info)
        self._reported = True
        self._benchmark.pedantic(self._timer.tick, setup=self._timer.rewind, rounds=len(rounds), iterations=1)
        stored = self._benchmark.stats
        if stored is None or stored.stats.data != rounds:
            self._benchmark.has_error = True  # such a benchmark is not stored
            pytest.fail(
                "pytest-benchmark did not get what was measured; does another plugin or a fixture change "
                "`benchmark`?",
                pytrace=False,
            )
        self._request.config.stash[REPLAYED] = True

    def end(self) -> None:
        """A test that failed before it had times used its benchmark: pytest-benchmark would warn of it."""
        if self._begun and not self._reported:
            self._benchmark.disabled = True
            self._benchmark.pedantic(self._timer.tick)


@pytest.fixture
def _fuseproof_replay(
    request: pytest.FixtureRequest, _fuseproof_timer: ReplayTimer, benchmark: Any
) -> Iterator[Replay]:
    replay = Replay(request, _fuseproof_timer, benchmark)
    yield replay
    replay.end()
