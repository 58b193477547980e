"""The worker process: one framework that prepares, checks and times implementations of one case at a time.

`worker_process` starts it as `python -m fuseproof.measure.worker FRAMEWORK`. A request is one line
`{"do": NAME, ...}` (see `fuseproof.child_process`), the first of them `start`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuseproof import frameworks
from fuseproof.child_process import serve
from fuseproof.frameworks import Framework, Result, WrongResultError
from fuseproof.implementations import Implementation, resolve_function
from fuseproof.measure import ceilings, neutrality, opening, tensors
from fuseproof.measure.guard import Guard
from fuseproof.measure.opening import opened
from fuseproof.measure.prepared import Inputs, Prepared

# Bound before any other code is loaded, which may replace what these names stand for elsewhere.
_clock, _close_to, _finite = time.perf_counter, np.allclose, np.isfinite

# Elements of an output that are read while the clock runs, and how far they may differ afterwards, relative
# to the largest: sums in another order do.
_WITNESSES = 16
_LATE_TOLERANCE = 1e-2

# Idle time around each profiled call: keeps calls apart though clocks of host and device disagree by less.
_PROFILE_GAP = 0.002


@dataclass(kw_only=True)
class Armed:
    """A leg that is ready to be timed, and what it left for `inspect`.

    part: the round and the number of its calls after which the result is kept; nobody outside knows them.
    """

    prepared: Prepared
    rounds: int
    calls: int
    draw: int
    part: tuple[int, int]
    kept_set: int
    result: Result | None = None
    witness: Any = None


class Worker:
    """Answers requests; every public method is one, with plain data in and out."""

    def __init__(self, framework: Framework, device: str = "cpu") -> None:
        self._framework = framework
        self._device = device
        self._prepared: dict[str, Prepared] = {}
        self._guard: Guard | None = None
        self._random = random.SystemRandom()

    def open_case(
        self, *, group: str, seed: int, last_level_cache: int, workload: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Forget the previous case and choose the sets of inputs of this one; `seed` is that of `Values`.

        workload: its description, if it is from outside.
        """
        self._prepared.clear()
        self._armed: Armed | None = None
        self._framework.reset()
        self._case = opened(group, workload)
        use_precision = functools.partial(self._framework.use_precision, self._case.dtype)
        if self._guard is None:
            use_precision()
        else:
            self._guard.allow(use_precision)
        self._inputs = Inputs(self._framework, self._case, seed, last_level_cache)
        return {"input_sets": self._inputs.count}

    def warm_up_compiler(self) -> dict[str, Any]:
        self._framework.warm_up_compiler()
        return {}

    def prepare(self, *, implementation: dict[str, Any], beside: str = "") -> dict[str, Any]:
        """Import the target, move inputs to the device, compile, and time the first call.

        beside: the target of its baseline, loaded first, so that it is seen if that is replaced.
        """
        own, case = Implementation.from_json(implementation), self._case
        workload = case.workload
        self._graphs = self._framework.graphs()
        if own.is_foreign and self._guard is None:
            if beside:
                resolve_function(beside)
            self._guard = Guard(self._framework)
        function = resolve_function(own.target)
        if self._guard is not None:
            self._guard.watch()
        case.refuse_absent_inputs(own.consumes)
        step = opening.step(self._framework, function, case, own.compiled, own.consumes)
        first_output = next(iter(workload.results(case.pass_).values()))
        places = np.random.default_rng().integers(first_output.size, size=_WITNESSES)
        prepared = Prepared.bind(own, step, self._inputs, self._framework.witness(places))
        call = prepared.first(3)
        started = _clock()
        raw = call()
        self._framework.synchronize(raw)
        first_call = _clock() - started
        tensors.refuse_other(self._framework, case, step.unpack(raw), own.layout)
        prepared.witness(raw)  # what reads a witness, and what copies a result, may be compiled too
        prepared.kept(raw)
        # The second call may still specialise (TensorFlow traces, XLA moves constants); the third is steady.
        self._framework.synchronize(call())
        started = _clock()
        self._framework.synchronize(call())
        steady = _clock() - started
        self._prepared[own.name] = prepared
        found: dict[str, Any] = {"first_call_seconds": first_call, "call_seconds": steady}
        return found if step.deployment is None else {**found, "deployment": vars(step.deployment)}

    def graphs(self) -> dict[str, Any]:
        """What was compiled since the last `prepare` began; empty if that is not known."""
        before = self._graphs
        return {name: max(0, count - before.get(name, 0)) for name, count in self._framework.graphs().items()}

    def check(self, *, name: str, draws: list[int], files: list[str]) -> dict[str, Any]:
        """Write the results for the values of each draw, in turn, to the files; `Referee.compare` reads them.

        The second catches an output that is a stale buffer of the first. Raises WrongResultError for what no
        error can express: another shape, another dtype, a changed input, another number of results.
        """
        prepared = self._prepared[name]
        results = self._case.workload.results(self._case.pass_).values()
        largest = max(results, key=lambda tensor: tensor.size).shape
        for draw, file in zip(draws, files, strict=True):
            given = self._inputs.new(draw, prepared.implementation.layout)
            with self._framework.poisoned_memory(largest):
                raw = prepared.step.bind(*given)()
                self._framework.synchronize(raw)
            self._hand_over(prepared, prepared.step.unpack(raw), file)
            self._inputs.refuse_changed(given, draw, prepared.implementation)
        self.compare_state()
        return {}

    def peak_memory(self, *, name: str) -> dict[str, Any]:
        prepared = self._prepared[name]
        call = prepared.first(frameworks.PEAK_MEMORY_CALLS)
        return {"bytes": None if prepared.step.bound_results else self._framework.peak_memory(call)}

    def arm(self, *, name: str, draw: int, rounds: int, calls: int, warm_up: int) -> dict[str, Any]:
        """Get a leg ready: new values in the inputs' own memory, and `warm_up` untimed calls.

        A leg of one call gets the values in `time`, so that nobody has seen them. What draws them is slower
        than what writes them, by more than the runner's clock allows: it comes before.
        """
        prepared = self._prepared[name]
        part = self._random.randrange(rounds), self._random.randint(1, calls)
        kept_set = self._inputs.upcoming(warm_up + part[0] * calls + part[1])
        self._armed = Armed(
            prepared=prepared, rounds=rounds, calls=calls, draw=draw, part=part, kept_set=kept_set
        )
        if rounds * calls > 1:
            self._refill(prepared, kept_set, draw)
        else:
            self._inputs.values.windows(draw)
        for _ in range(warm_up):
            for call in prepared.next(1):
                self._framework.synchronize(call())
        if warm_up and prepared.step.stateful:  # the clock starts with the state that was drawn
            prepared.bind_again(kept_set)
        return {}

    def time(self) -> dict[str, Any]:
        """Seconds per call of each round of the leg that is ready, and compilations meanwhile."""
        armed = self._armed
        if armed is None:
            raise RuntimeError("no leg is ready")
        before = self._framework.compilations()
        wall, device = [], []
        if armed.rounds * armed.calls == 1:
            self._refill(armed.prepared, armed.kept_set, armed.draw)
        for index in range(armed.rounds):
            host_seconds, device_seconds = self._round(armed, armed.part[1] if index == armed.part[0] else 0)
            wall.append(host_seconds / armed.calls)
            if device_seconds is not None:
                device.append(device_seconds / armed.calls)
        compilations = self._framework.compilations() - before
        return {"wall": wall, **({"device": device} if device else {}), "compilations": compilations}

    def inspect(self, *, file: str, draws: list[int], files: list[str]) -> dict[str, Any]:
        """Hand over the result that the last leg kept, and time single calls with values never seen.

        draws, files: of the single calls, whose results are handed over too. Gives the seconds until each
        returned, and until its results were there. `echoes` are the same of each call made once more in the
        same way, with the values that it has seen by then; none where the sets of inputs take turns. Raises
        WrongResultError for a result that was not there when the clock stopped, or an input that was changed.
        """
        armed, self._armed = self._armed, None
        if armed is None or armed.result is None:
            raise RuntimeError("no leg was timed")
        prepared = armed.prepared
        self._hand_over(prepared, armed.result, file)
        self._refuse_late(armed)
        own = prepared.implementation
        self._inputs.refuse_changed(self._inputs.of_layout(own.layout)[armed.kept_set], armed.draw, own)
        probes, echoes = [], []
        for draw, probe_file in zip(draws, files, strict=True):
            *seconds, raw = self._single(prepared, draw)
            probes.append(seconds)
            self._hand_over(prepared, prepared.step.unpack(raw), probe_file)
            del raw
            if self._inputs.count == 1:
                echoes.append(self._single(prepared, draw)[:2])
        # A module goes on from call to call: so many steps led to the result that was kept.
        steps = armed.part[0] * armed.calls + armed.part[1] if prepared.step.stateful else 1
        return {"probes": probes, "echoes": echoes, "steps": steps}

    def _single(self, prepared: Prepared, draw: int) -> tuple[float, float, Any]:
        """Time a single call with the values of a draw, which are written just before."""
        self._inputs.values.windows(draw)  # what is drawn as a whole is kept: that takes longer than a call
        # Before the untimed call: comparing takes as long as several calls, and other memory.
        self.compare_state()
        for call in prepared.next(1):
            self._framework.synchronize(call())
        self._refill(prepared, self._inputs.upcoming(1), draw)
        (call,) = prepared.next(1)
        return self._framework.single(call)

    def compare_state(self) -> dict[str, Any]:
        """How many settings are as before; asked after every leg.

        Raises WrongResultError if code from outside has changed this process.
        """
        return {"compared": 0 if self._guard is None else self._guard.compare()}

    def ceilings(self, *, dtype: str) -> dict[str, Any]:
        """The most `bytes` and `flops` per second that the framework reaches here, by `ceilings`."""
        return ceilings.measured(self._framework, self._device, dtype)

    def profile(self, *, name: str, folder: str, calls: int, memory: bool, stacks: bool) -> dict[str, Any]:
        """Trace `calls` single calls into `folder`: Unix times, and seconds with and without the profiler.

        Never in a process that times: a profiler slows later calls too.
        """
        prepared = self._prepared[name]
        before = self._framework.compilations()
        off = [self._one_call(prepared, after=_PROFILE_GAP)[2] for _ in range(calls + 1)][1:]
        with self._framework.profile(Path(folder), memory=memory, stacks=stacks) as found:
            self._one_call(prepared)  # takes what a profiler does once, at the first call
            on = [self._one_call(prepared, after=_PROFILE_GAP) for _ in range(calls)]
            time.sleep(_PROFILE_GAP)
        if self._framework.compilations() != before:
            raise RuntimeError("it was compiled again while it was profiled")
        return {
            "calls": [[start, end] for start, end, _ in on],
            "on_seconds": [seconds for _, _, seconds in on],
            "off_seconds": off,
            **found,
        }

    def kernel_names(self, *, names: list[str]) -> dict[str, Any]:
        return {"names": self._framework.kernel_names(names)}

    def repeat(self, *, name: str, seconds: float) -> dict[str, Any]:
        """Call for at least `seconds`: Unix times of start and end, and the number of calls."""
        prepared = self._prepared[name]
        self._one_call(prepared)
        calls = 0
        start = time.time_ns()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self._framework.synchronize(prepared.first(1)())
            calls += 1
        return {"start_ns": start, "end_ns": time.time_ns(), "calls": calls}

    def _one_call(self, prepared: Prepared, *, after: float = 0.0) -> tuple[int, int, float]:
        """Unix start and end, and seconds, of one call and the wait for its results.

        Sleeps `after` seconds before preparing the call (copying what it consumes) and again before the call,
        so that the trace shows them apart. Results are freed after the end: no call frees those of another.
        """
        time.sleep(after)
        call = prepared.first(1)
        time.sleep(after)
        start, started = time.time_ns(), time.perf_counter()
        result = call()
        self._framework.synchronize(result)
        seconds, end = time.perf_counter() - started, time.time_ns()
        del result
        return start, end, seconds

    def _round(self, armed: Armed, kept_after: int) -> tuple[float, float | None]:
        """Seconds of one round on the host and on the device, if it has a clock of its own.

        After `kept_after` calls, if not 0, a result is kept. In several batches where the copies that the
        calls consume would take too much memory at once.
        """
        prepared = armed.prepared
        host, device = 0.0, None
        done = 0
        most = prepared.most_at_once or armed.calls
        while done < armed.calls:
            size = min(armed.calls - done, most)
            keeps = done < kept_after <= done + size
            if keeps:
                size = kept_after - done
            batch = self._framework.batch(prepared.next(size))
            if keeps:  # at once: what is not there yet must not have time to come
                armed.witness = self._witness(prepared, batch.last)
            done += size
            host += batch.host
            if batch.device is not None:
                device = (device or 0.0) + batch.device
            if keeps:
                armed.result = prepared.kept(batch.last)
            del batch
        return host, device

    def _witness(self, prepared: Prepared, raw: Any) -> Any:
        try:
            return prepared.witness(raw)
        except Exception:
            result, layout = prepared.step.unpack(raw), prepared.implementation.layout
            tensors.refuse_other(self._framework, self._case, result, layout)  # says what it is instead
            raise

    def _refill(self, prepared: Prepared, index: int, draw: int) -> None:
        """New values for a set of inputs, and new calls where its tensors had to be replaced."""
        layout = prepared.implementation.layout
        replaced = self._inputs.refill(index, draw, layout)
        for each in self._prepared.values():
            if each.implementation.layout == layout and (replaced or each.holds_copies):
                each.bind_again(index)

    def _hand_over(self, prepared: Prepared, result: Result, file: str) -> None:
        arrays = tensors.to_arrays(self._framework, self._case, result, prepared.implementation.layout)
        tensors.write_results(Path(file), arrays, self._case)

    def _refuse_late(self, armed: Armed) -> None:
        """Raise WrongResultError if the output is not what it was before the clock was stopped."""
        assert armed.result is not None
        then = self._framework.to_numpy(armed.witness)
        now = self._framework.to_numpy(armed.prepared.some(armed.prepared.first_of(armed.result)))
        largest = float(abs(now[_finite(now)]).max(initial=0.0))
        if not _close_to(then, now, rtol=0.0, atol=_LATE_TOLERANCE * largest, equal_nan=True):
            raise WrongResultError("the output was not there yet when the clock stopped")


class Server:
    """Hands requests on to a worker of class `kind`, which the first of them, `start`, makes."""

    def __init__(self, kind: type[Worker], framework: str) -> None:
        self._kind = kind
        self._framework = framework
        self._answers: dict[str, Callable[..., dict[str, Any]]] = {"start": self._start}

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        do = request.pop("do")
        try:
            return self._answers[do](**request)
        except NotImplementedError:
            raise
        except Exception:
            traceback.print_exc()  # to the log beside the run
            raise

    def _start(self, *, device: str, threads: int, cpus: list[int]) -> dict[str, Any]:
        """Load the framework: its description."""
        if cpus:
            # Before the framework is imported: JAX sizes its thread pool by the affinity it finds.
            os.sched_setaffinity(0, cpus)
        framework = frameworks.load(self._framework)
        framework.configure(device=device, threads=threads)
        self.serve(self._kind(framework, device))
        overhead = neutrality.call_overhead(framework)
        return {**framework.description(), "call_overhead_seconds": overhead}

    def serve(self, worker: Worker) -> None:
        """Answer by the worker's methods as they are now, whatever is done to its class later."""
        names = [name for name in dir(worker) if not name.startswith("_")]
        self._answers |= {name: getattr(worker, name) for name in names}


def _die_with_parent() -> None:
    # A hung worker would outlive a killed parent and disturb every later measurement.
    pr_set_pdeathsig = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main(kind: type[Worker] = Worker) -> None:
    """Serve until standard input ends; `kind` may answer more than a Worker does."""
    _die_with_parent()
    serve(Server(kind, sys.argv[1]).handle)


if __name__ == "__main__":
    main()
