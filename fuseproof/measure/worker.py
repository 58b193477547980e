"""The worker process: one framework that prepares, checks and times implementations of one case at a time.

`worker_process` starts it as `python -m fuseproof.measure.worker FRAMEWORK`. A request is one line
`{"do": NAME, ...}` (see `fuseproof.child_process`), the first of them `start`.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuseproof import frameworks
from fuseproof.cases import Case
from fuseproof.child_process import serve
from fuseproof.frameworks import Framework, Result, Step
from fuseproof.implementations import Implementation, resolve_function
from fuseproof.measure import checks, tensors
from fuseproof.measure.tensors import WrongResultError
from fuseproof.workloads.operators import DTYPES, Sampled
from fuseproof.workloads.operators.base import Arrays

# Sets of inputs the cold regime rotates through: together at least twice the last-level cache.
COLD_FACTOR = 2
# More would take minutes to make, and objects and pointers would push out more of the cache than the inputs.
MAX_INPUT_SETS = 4096
# Copies of consumed inputs that wait for one batch of calls.
_MAX_COPIES_BYTES = 256 * 2**20
_CHECK_SEEDS = 2

# Idle time around each profiled call: keeps calls apart though clocks of host and device disagree by less.
_PROFILE_GAP = 0.002


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One implementation of the current case, ready to be called."""

    implementation: Implementation
    step: Step
    sets: Sequence[tuple[dict[str, Any], Any]]  # inputs and cotangent
    calls: Sequence[Callable[[], Result]]  # one for each set


class Worker:
    """Answers requests; every public method is one, with plain data in and out."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._prepared: dict[str, Prepared] = {}
        self._next_set = 0

    def open_case(self, *, group: str, seed: int, last_level_cache: int) -> dict[str, Any]:
        """Forget the previous case and choose the sets of inputs of this one."""
        self._prepared.clear()
        self._tensors: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        self._references: dict[int, tuple[Arrays, NDArray[np.float32] | None, dict[str, Sampled]]] = {}
        self._framework.reset()
        self._case = Case.from_group(group)
        operator, dtype = self._case.operator, self._case.dtype
        self._framework.use_precision(dtype)
        one_set = operator.minimum_bytes("forward", dtype)
        count = 1 if self._case.cache == "warm" else 1 + -(-COLD_FACTOR * last_level_cache // one_set)
        if count > MAX_INPUT_SETS:
            raise NotImplementedError(
                f"a cold cache would need {count:,} sets of inputs as small as these; choose a larger shape"
            )
        self._seeds = [seed + index for index in range(count)]
        return {"input_sets": count}

    def warm_up_compiler(self) -> dict[str, Any]:
        self._framework.warm_up_compiler()
        return {}

    def prepare(self, *, implementation: dict[str, Any]) -> dict[str, Any]:
        """Import the target, move inputs to the device, compile, and time the first call."""
        own, case = Implementation(**implementation), self._case
        function = resolve_function(own.target)
        case.refuse_absent_inputs(own.consumes)
        step = self._framework.step(
            function, case.operator.options, case.pass_, own.compiled, consumes=own.consumes
        )
        if own.layout not in self._tensors:
            self._tensors[own.layout] = [self._inputs(seed, own.layout) for seed in self._seeds]
        sets = self._tensors[own.layout]
        calls = [_bind(step, inputs, cotangent) for inputs, cotangent in sets]
        prepared = Prepared(implementation=own, step=step, sets=sets, calls=calls)
        call = self._first_set(prepared, 3)
        started = time.perf_counter()
        self._framework.synchronize(call())
        first_call = time.perf_counter() - started
        # The second call may still specialise (TensorFlow traces, XLA moves constants); the third is steady.
        self._framework.synchronize(call())
        started = time.perf_counter()
        self._framework.synchronize(call())
        steady = time.perf_counter() - started
        self._prepared[own.name] = prepared
        return {"first_call_seconds": first_call, "call_seconds": steady}

    def check(self, *, name: str) -> dict[str, Any]:
        """Relative RMS error of every tensor of the result, on two sets of inputs in turn.

        The second set catches an output that is a stale buffer of the first. Raises WrongResultError for
        what no error can express: another shape, another dtype, a changed input, another number of results.
        """
        prepared, case = self._prepared[name], self._case
        operator, layout = case.operator, prepared.implementation.layout
        errors: dict[str, float] = {}
        for seed in range(_CHECK_SEEDS):
            arrays, cotangent, reference = self._checked_set(self._seeds[-1] + 1 + seed)
            inputs, device_cotangent = tensors.to_device(self._framework, case, arrays, cotangent, layout)
            kept = {
                key: tensor for key, tensor in inputs.items() if key not in prepared.implementation.consumes
            }
            before = {key: self._framework.copy(tensor) for key, tensor in kept.items()}
            with self._framework.poisoned_memory(np.empty(operator.output_shape, np.float32)):
                result = prepared.step(inputs, device_cotangent)
                self._framework.synchronize(result)
            found = tensors.to_arrays(self._framework, case, result, layout)
            for key, tensor in kept.items():
                if not self._framework.same(tensor, before[key]):
                    raise WrongResultError(f"the input {key!r} was changed by the call")
            for key, sampled in reference.items():
                error = checks.relative_rms(found[key], sampled)
                errors[key] = max(errors.get(key, 0.0), error) if error == error else error
        return {"errors": {key: value if np.isfinite(value) else None for key, value in errors.items()}}

    def _checked_set(self, seed: int) -> tuple[Arrays, NDArray[np.float32] | None, dict[str, Sampled]]:
        """Inputs and reference of a set that is never timed, made once for all implementations."""
        if seed not in self._references:
            operator, case = self._case.operator, self._case
            arrays = operator.inputs(seed, case.dtype)
            cotangent = operator.cotangent(seed, case.dtype) if case.pass_ != "forward" else None
            self._references[seed] = arrays, cotangent, operator.reference(arrays, cotangent)
        return self._references[seed]

    def peak_memory(self, *, name: str) -> dict[str, Any]:
        prepared = self._prepared[name]
        call = self._first_set(prepared, frameworks.PEAK_MEMORY_CALLS)
        return {"bytes": self._framework.peak_memory(call)}

    def leg(self, *, name: str, rounds: int, calls: int, warm_up: int) -> dict[str, Any]:
        """Seconds per call of `rounds` rounds of `calls` calls each, after `warm_up` untimed calls."""
        prepared = self._prepared[name]
        wall, device = [], []
        with self._framework.forbid_recompilation(prepared.step):
            for _ in range(warm_up):
                self._framework.synchronize(self._caller(prepared, 1)())
            for _ in range(rounds):
                host_seconds, device_seconds = self._batch(prepared, calls)
                wall.append(host_seconds / calls)
                if device_seconds is not None:
                    device.append(device_seconds / calls)
        return {"wall": wall, **({"device": device} if device else {})}

    def profile(self, *, name: str, folder: str, calls: int, memory: bool, stacks: bool) -> dict[str, Any]:
        """Trace `calls` single calls into `folder`: Unix times, and seconds with and without the profiler.

        Never in a process that times: a profiler slows later calls too.
        """
        prepared = self._prepared[name]
        with self._framework.forbid_recompilation(prepared.step):
            off = [self._one_call(prepared, after=_PROFILE_GAP)[2] for _ in range(calls + 1)][1:]
            with self._framework.profile(Path(folder), memory=memory, stacks=stacks) as found:
                self._one_call(prepared)  # takes what a profiler does once, at the first call
                on = [self._one_call(prepared, after=_PROFILE_GAP) for _ in range(calls)]
                time.sleep(_PROFILE_GAP)
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
            self._framework.synchronize(self._first_set(prepared, 1)())
            calls += 1
        return {"start_ns": start, "end_ns": time.time_ns(), "calls": calls}

    def _one_call(self, prepared: Prepared, *, after: float = 0.0) -> tuple[int, int, float]:
        """Unix start and end, and seconds, of one call and the wait for its results.

        Sleeps `after` seconds before preparing the call (copying what it consumes) and again before the call,
        so that the trace shows them apart. Results are freed after the end: no call frees those of another.
        """
        time.sleep(after)
        call = self._first_set(prepared, 1)
        time.sleep(after)
        start, started = time.time_ns(), time.perf_counter()
        result = call()
        self._framework.synchronize(result)
        seconds, end = time.perf_counter() - started, time.time_ns()
        del result
        return start, end, seconds

    def _batch(self, prepared: Prepared, calls: int) -> tuple[float, float | None]:
        """Seconds of `calls` calls on the host and on the device, if it has a clock of its own.

        In several batches where the copies that the calls consume would take too much memory at once.
        """
        operator = self._case.operator
        sizes = (math.prod(operator.input_shapes[name]) for name in prepared.implementation.consumes)
        consumed = DTYPES[self._case.dtype].itemsize * sum(sizes)
        most = max(1, _MAX_COPIES_BYTES // consumed) if consumed else calls
        host, device = 0.0, None
        while calls > 0:
            size = min(calls, most)
            calls -= size
            host_seconds, device_seconds = self._framework.batch(self._caller(prepared, size), size)
            host += host_seconds
            if device_seconds is not None:
                device = (device or 0.0) + device_seconds
        return host, device

    def _first_set(self, prepared: Prepared, count: int) -> Callable[[], Result]:
        """A call with the first set of inputs; it may be made `count` times."""
        return self._unused(prepared, count) if prepared.implementation.consumes else prepared.calls[0]

    def _caller(self, prepared: Prepared, count: int) -> Callable[[], Result]:
        """The function that makes each of the next `count` calls."""
        if prepared.implementation.consumes:
            return self._unused(prepared, count)
        return prepared.calls[0] if len(prepared.calls) == 1 else self._rotating(prepared)

    def _unused(self, prepared: Prepared, count: int) -> Callable[[], Result]:
        """A call that may be made `count` times, each with new copies of what the implementation consumes."""
        calls = []
        for _ in range(count):
            inputs, cotangent = prepared.sets[self._advance(prepared)]
            copies = {name: self._framework.copy(inputs[name]) for name in prepared.implementation.consumes}
            self._framework.synchronize((None, copies))
            calls.append(_bind(prepared.step, inputs | copies, cotangent))
        calls.reverse()
        return lambda: calls.pop()()

    def _rotating(self, prepared: Prepared) -> Callable[[], Result]:
        return lambda: prepared.calls[self._advance(prepared)]()

    def _advance(self, prepared: Prepared) -> int:
        # All implementations of the case share the counter: none finds the set that the last one used.
        self._next_set = (self._next_set + 1) % len(prepared.calls)
        return self._next_set

    def _inputs(self, seed: int, layout: str) -> tuple[dict[str, Any], Any]:
        operator, case = self._case.operator, self._case
        cotangent = operator.cotangent(seed, case.dtype) if case.pass_ != "forward" else None
        arrays = operator.inputs(seed, case.dtype)
        return tensors.to_device(self._framework, case, arrays, cotangent, layout)


def _bind(step: Step, inputs: dict[str, Any], cotangent: Any) -> Callable[[], Result]:
    return lambda: step(inputs, cotangent)


class Server:
    """Hands requests on to a worker of class `kind`, which the first of them, `start`, makes."""

    def __init__(self, kind: type[Worker], framework: str) -> None:
        self._kind = kind
        self._framework = framework
        self.worker: Worker | None = None

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        do = request.pop("do")
        try:
            if do == "start":
                return self._start(**request)
            return getattr(self.worker, do)(**request)  # type: ignore[no-any-return]
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
        self.worker = self._kind(framework)
        return framework.description()


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
