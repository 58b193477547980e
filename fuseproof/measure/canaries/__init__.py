"""Implementations that cheat on purpose, for `fuseproof doctor --self-test`; two that only look as if.

A module for each framework, all with the same function names. They are loaded by path, as a user's file is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Canary:
    """One row of the self-test.

    name:   the function in each framework's module.
    does:   what it does instead of the work, in a few words.
    honest: it does the work, and has to be measured; the others have to be caught.
    device: the only device on which it can be tried, empty for any.
    """

    name: str
    does: str
    honest: bool = False
    device: str = ""


CANARIES = (
    Canary(name="refilled", does="computes in every call, beside a thread pool of its own", honest=True),
    Canary(name="prepared", does="sets itself up at its first call and keeps compiled code", honest=True),
    Canary(name="cached", does="returns what it computed for the same tensors before"),
    Canary(name="fingerprinted", does="returns what it computed for inputs with the same few elements"),
    Canary(name="every_second", does="computes in every second call only"),
    Canary(name="later_zeros", does="computes in 50 calls, then returns zeros"),
    Canary(name="threaded", does="returns at once; a thread computes later"),
    Canary(name="other_type", does="returns an object that computes when it is read"),
    Canary(name="slow_clock", does="makes the clock run at a quarter of its speed"),
    Canary(name="forged", does="writes answers of its own into the worker's pipe"),
    Canary(name="fewer_bits", does="computes in bfloat16"),
    Canary(name="fewer_rows", does="computes every second row and repeats it"),
    Canary(name="slow_baseline", does="makes the baseline's function slow"),
    Canary(name="core_taken", does="lowers the priority of the process that the next leg runs in"),
    Canary(name="side_stream", does="computes on a stream that nobody waits for", device="cuda"),
)
