"""Samples quantities that no trace records; this module has resident memory, `nvml` the board's sensors."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from fuseproof.profiling.capture.record import Series

INTERVAL_SECONDS = 0.005
# So that a call of an hour does not fill the memory: every other sample goes, and the interval doubles.
_MOST_SAMPLES = 20_000


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One quantity: `read` gives its value now, None if the sensor does not answer."""

    name: str
    unit: str
    device: str
    source: str
    read: Callable[[], float | None]


class Sampler:
    """A context manager that reads every probe in a thread while it is open."""

    def __init__(self, probes: Sequence[Probe], *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._probes = tuple(probes)
        self._interval = interval_seconds
        self._samples: list[tuple[int, tuple[float | None, ...]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        # A sample at each end, so that everything within lies between two samples.
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def series(self) -> tuple[Series, ...]:
        """The samples so far, one series for each probe that has answered."""
        samples = list(self._samples)
        found = (
            Series(
                name=probe.name,
                unit=probe.unit,
                device=probe.device,
                source=probe.source,
                time_ns=tuple(time_ns for time_ns, _ in samples),
                value=tuple(values[index] for _, values in samples),
            )
            for index, probe in enumerate(self._probes)
        )
        return tuple(series for series in found if any(value is not None for value in series.value))

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._sample()
            if len(self._samples) >= _MOST_SAMPLES:
                del self._samples[1::2]
                self._interval *= 2

    def _sample(self) -> None:
        self._samples.append((time.time_ns(), tuple(probe.read() for probe in self._probes)))


def resident_memory(pid: int) -> Probe:
    """A probe of a process's resident bytes, as the kernel counts them; None once it has ended."""

    def read() -> float | None:
        try:
            return float(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return None

    return Probe(
        name="resident_memory", unit="bytes", device="CPU", source="resident set size, /proc", read=read
    )


def at(series: Series, time_ns: int) -> float | None:
    """The value at `time_ns`, interpolated between known samples; None before the first or after the last."""
    known = [
        (when, value) for when, value in zip(series.time_ns, series.value, strict=True) if value is not None
    ]
    for (before, low), (after, high) in itertools.pairwise(known):
        if before <= time_ns <= after:
            share = (time_ns - before) / (after - before) if after > before else 0.0
            return low + share * (high - low)
    return None
