"""Counting without the code under test: plain loops over what the standard readers give."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

Interval = tuple[Any, Any]


def union(intervals: Iterable[Interval]) -> Any:
    covered: Any = 0
    upto: Any = None
    for start, end in sorted(intervals):
        if upto is None or start > upto:
            covered += end - start
            upto = end
        elif end > upto:
            covered += end - upto
            upto = end
    return covered


def kineto(path: Path) -> tuple[dict[int, list[Interval]], int]:
    """Exact nanosecond intervals of kernels, copies and sets by device; and how many slices there are."""
    with gzip.open(path) as file:
        events = json.load(file, parse_float=Decimal)["traceEvents"]
    devices: dict[int, list[Interval]] = {}
    slices = 0
    for event in events:
        if event.get("ph") != "X":
            continue
        slices += 1
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            start = event["ts"] * 1000
            end = start + event["dur"] * 1000
            assert start == int(start) and end == int(end)
            devices.setdefault(event["args"]["device"], []).append((int(start), int(end)))
    return devices, slices


def xplane(data: bytes) -> tuple[dict[str, list[Interval]], int]:
    """Intervals of streams (GPU) or operations (TPU) by device plane, as jaxlib's ProfileData gives them."""
    from jax.profiler import ProfileData

    devices: dict[str, list[Interval]] = {}
    slices = 0
    for plane in ProfileData.from_serialized_xspace(data).planes:
        for line in plane.lines:
            events = [(event.start_ns, event.start_ns + event.duration_ns) for event in line.events]
            slices += len(events)
            if plane.name.startswith("/device:") and (
                line.name.startswith("Stream") or line.name in ("XLA Ops", "Async XLA Ops")
            ):
                devices.setdefault(plane.name, []).extend(events)
    return devices, slices
