"""Whether times can be believed: arithmetic on what the runner saw beside them, no clock and no process.

Each rule compares what an implementation's worker said with something that its code has no hand in: the
runner's clock, the same for its baseline, and the speed of this machine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# A leg, by the runner's clock, is longer than its rounds by the way of the question and the answer. More than
# this beyond the same of the baseline, in seconds and as a share of the leg, is a clock that goes wrong.
_SLACK_SECONDS, _SLACK_SHARE = 1e-3, 0.1
# Copies of consumed inputs, made between rounds, may be so much slower than the fastest copy here: they get
# new memory each time.
_COPY_FACTOR = 8.0

# A single call with new values, over a call of a batch: honest layer norms of 0.2 to 3 ms took 0.97 to 1.1
# times as long. The fastest of the probes counts, so that a disturbed one accuses nobody.
_PROBE_FACTOR, _PROBE_SECONDS = 1.4, 15e-6
# Of a call so short, what Python and the system do around it with cold caches is more than the call: printing
# a line, 6 µs in a batch, took 42 µs in the fastest of sixty single calls.
_SHORT, _PROBE_SECONDS_SHORT = 10e-6, 40e-6
_PROBE_LIKE_BASELINE = 1.2  # times what a single call of the baseline takes, over a call of a batch
_PROBE_FACTOR_ALONE, _PROBE_SECONDS_ALONE = 2.0, 50e-6  # without a baseline to compare with
_FEWEST_PROBES = 3

# Times what the same single call takes with values that it has seen. Where neighbours empty the caches, the
# first call after anything else is slow whatever its values: a layer norm, copied into a buffer, took 159 µs
# in a batch, and 257 in the fastest of 50 probes. Whoever knows that it is called once may be slow then too,
# so this excuses little of a call that is short, and less of a long one.
_PROBE_LIKE_ECHO = 1.2
_ECHO_FACTOR, _ECHO_SECONDS = 2.0, 200e-6

# Legs that are looked at again clear those that count, unless these were so much faster than the fastest of
# them.
_CLEARED = 0.8

# No call takes a year.
_LONGEST = 3e7

# As the ceilings are measured, not known, only what is this much faster than them is impossible.
_FLOOR_FACTOR = 2.0


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The most bytes and floating-point operations per second seen on this machine; 0 if not measured."""

    bytes: float = 0.0
    flops: float = 0.0

    def or_more(self, other: Ceilings) -> Ceilings:
        """The higher of the two, one by one: a busy machine only ever lowers what is seen of it."""
        return Ceilings(bytes=max(self.bytes, other.bytes), flops=max(self.flops, other.flops))


@dataclass(kw_only=True)
class Evidence:
    """What was seen of one implementation in one cell; all times in seconds.

    calls:     per call, the fastest round of each leg.
    reported:  of each leg, the sum of its rounds by the worker's clock.
    observed:  of each leg, by the runner's clock.
    waited:    of each leg, how long others' programs had the CPU that the worker or the runner waited for.
    copied:    bytes of inputs that were written within a leg, beside its timed calls.
    probes:    of single calls with values never seen: until it returned, until its results were there.
    echoes:    of the same calls once more, with values that it has seen.
    outputs:   results of timed calls and of probes that were compared with the reference.
    worst:     the largest error of those over its limit.
    compiled:  legs that were taken again because something was compiled in them.
    looks:     what was seen when its times were doubted and it was looked at again; nothing of that counts,
        and an implementation may know that it is looked at.
    """

    calls: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    observed: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    copied: float = 0.0
    probes: list[tuple[float, float]] = field(default_factory=list)
    echoes: list[tuple[float, float]] = field(default_factory=list)
    outputs: int = 0
    worst: float = 0.0
    compiled: int = 0
    looks: Evidence | None = None

    @property
    def batch(self) -> float:
        """Seconds per call in a batch."""
        return statistics.median(self.calls)

    @property
    def fastest(self) -> float:
        """Seconds per call of the fastest leg, to set beside the fastest single call."""
        again: list[float] = self.looks.calls if self.looks else []
        return min([*self.calls, *again])

    @property
    def gap(self) -> float:
        """How much longer a leg is by the runner's clock: the least, of the half said to be faster.

        A disturbance may come in any leg; one that is said to be faster than it was is in this half.
        """
        return min(seen - said for said, seen, _ in self._faster_half)

    @property
    def unexplained(self) -> float:
        """As `gap`, without what others' programs made of it: a busy machine is late in every leg."""
        return min(seen - said - min(waited, seen - said) for said, seen, waited in self._faster_half)

    @property
    def _faster_half(self) -> list[tuple[float, float, float]]:
        legs = sorted(zip(self.reported, self.observed, self.waited, strict=True))
        return legs[: (len(legs) + 1) // 2]

    @property
    def probe(self) -> float | None:
        """Seconds that a call with new values takes at least; None without enough probes."""
        return _fastest_single([*self.probes, *(self.looks.probes if self.looks else [])])

    @property
    def echo(self) -> float | None:
        """Seconds that a single call takes at least with values that it has seen; None without enough."""
        return _fastest_single([*self.echoes, *(self.looks.echoes if self.looks else [])])

    def to_json(self) -> dict[str, Any]:
        """The figures, for the run file."""
        found: dict[str, Any] = {"outputs": self.outputs, "worst": self.worst, "compiled": self.compiled}
        if self.calls:
            found |= {
                "batch": self.batch,
                "gap": self.gap,
                "unexplained": self.unexplained,
                "probe": self.probe,
                "echo": self.echo,
                "looks": len(self.looks.calls) if self.looks else 0,
            }
        return found


def _fastest_single(singles: Sequence[tuple[float, float]]) -> float | None:
    """Until it returns, or from then until its results are there: a batch may do the two at once."""
    if len(singles) < _FEWEST_PROBES:
        return None
    return min(max(returned, done - returned) for returned, done in singles)


def are_seconds(values: object, count: int) -> bool:
    """Whether they are so many times: what a worker answers may be made up, and no number of it is used."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(each) in (int, float) and 0 < each < _LONGEST for each in values)
    )


def reason_to_doubt(
    own: Evidence, baseline: Evidence | None, ceilings: Ceilings, *, flops: int, bytes_: int
) -> str | None:
    """Why the times of an implementation cannot be those of its work, else None.

    baseline: what was seen of its baseline in the same cell; None if that is itself or failed.
    flops, bytes_: what one call must compute and move.
    """
    if not own.calls:
        return None
    rules: Sequence[str | None] = (
        _clock(own, baseline, ceilings),
        _floor(own, ceilings, flops=flops, bytes_=bytes_),
        _probes(own, baseline),
    )
    return next((reason for reason in rules if reason is not None), None)


def _clock(own: Evidence, baseline: Evidence | None, ceilings: Ceilings) -> str | None:
    said = statistics.median(own.reported)
    usual = 0.0
    if baseline is not None and baseline.calls:
        usual = max(0.0, baseline.gap, baseline.looks.gap if baseline.looks else 0.0)
    allowed = usual + max(_SLACK_SECONDS, _SLACK_SHARE * said)
    if own.copied:
        allowed += _COPY_FACTOR * 2 * own.copied / ceilings.bytes if ceilings.bytes else math.inf
    if own.unexplained <= allowed or _is_cleared(own, allowed):
        return None
    return (
        f"its legs took {_milliseconds(said)} by the clock of its process, but "
        f"{_milliseconds(statistics.median(own.observed))} by the runner's"
    )


def _is_cleared(own: Evidence, allowed: float) -> bool:
    """Whether legs that were looked at again clear those that count: no gap, and no slower than they were."""
    again = own.looks
    return (
        again is not None
        and bool(again.calls)
        and again.unexplained <= allowed
        and own.batch >= _CLEARED * again.fastest
    )


def _floor(own: Evidence, ceilings: Ceilings, *, flops: int, bytes_: int) -> str | None:
    least = max(
        flops / ceilings.flops if ceilings.flops else 0.0, bytes_ / ceilings.bytes if ceilings.bytes else 0.0
    )
    least /= _FLOOR_FACTOR
    if own.batch >= least:
        return None
    return (
        f"{_microseconds(own.batch)} per call is faster than this machine can compute and move what one call "
        f"must: {_microseconds(least)} at twice its measured ceilings"
    )


def _probes(own: Evidence, baseline: Evidence | None) -> str | None:
    found = own.probe
    if found is None:
        return None
    usual = baseline.probe if baseline is not None and baseline.calls else None
    if baseline is None or usual is None:
        allowed = _PROBE_FACTOR_ALONE * own.batch + _PROBE_SECONDS_ALONE
    else:
        # On a busy machine a single call costs more, of a short call a multiple: the baseline says how much.
        alike = _PROBE_LIKE_BASELINE * usual / baseline.fastest * own.batch
        slack = _PROBE_SECONDS if own.batch > _SHORT else _PROBE_SECONDS_SHORT
        plain = _PROBE_FACTOR * own.batch + max(0.0, usual - baseline.fastest)
        allowed = max(plain, alike, _excused(own)) + slack
    if found <= allowed:
        return None
    compared = ""
    if usual is not None and baseline is not None:
        compared = f" (its baseline: {_microseconds(baseline.fastest)} and {_microseconds(usual)})"
    return (
        f"faster in a batch, {_microseconds(own.batch)} per call, than with values never seen, "
        f"{_microseconds(found)}{compared}"
    )


def _excused(own: Evidence) -> float:
    """Seconds that a call with new values may take because one with values that it has seen does, too."""
    if own.echo is None:
        return 0.0
    most = min(_ECHO_FACTOR * own.batch, _PROBE_FACTOR * own.batch + _ECHO_SECONDS)
    return min(_PROBE_LIKE_ECHO * own.echo, most)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:.3g} µs"
