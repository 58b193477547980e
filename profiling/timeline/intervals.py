"""Arithmetic on intervals: unions, overlaps, and sub-lanes in which nothing overlaps. Vectorised."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


def union_length(start: Times, end: Times) -> int:
    """Nanoseconds covered by at least one of the intervals [start, end)."""
    if len(start) == 0:
        return 0
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    covered_to = np.maximum.accumulate(end)
    # Each interval adds the part beyond the ends of all earlier ones.
    before = np.concatenate(([start[0]], covered_to[:-1]))
    return int(np.maximum(covered_to - np.maximum(start, before), 0).sum())


def count_overlaps(lane: NDArray[np.int32], start: Times, end: Times) -> int:
    """Number of intervals that begin before an earlier one of the same lane ends."""
    order = np.lexsort((-end, start, lane))
    lane, start, end = lane[order], start[order], end[order]
    return sum(
        int(np.count_nonzero(start[a + 1 : b] < np.maximum.accumulate(end[a : b - 1])))
        for a, b in _groups(lane)
        if b - a > 1
    )


def sub_lanes(lane: NDArray[np.int32], start: Times, duration: Times) -> NDArray[np.uint16]:
    """A sub-lane for each interval so that within one (lane, sub-lane) nothing overlaps.

    Expects intervals sorted by lane, start, longest first. Nested intervals get their nesting depth, as in a
    flame chart; in a lane where intervals cross, each gets the first free sub-lane. An instant occupies 1 ns.
    """
    end = start + np.maximum(duration, 1)
    depth = np.zeros(len(start), np.int64)
    for a, b in _groups(lane):
        if b - a == 1:
            continue
        starts, ends = start[a:b], end[a:b]
        if not (starts[1:] < np.maximum.accumulate(ends)[:-1]).any():
            continue
        # Earlier begins minus ended ones: the nesting depth, if the intervals nest.
        nested = np.arange(b - a) - np.searchsorted(np.sort(ends), starts, side="right")
        depth[a:b] = nested if _fits(nested, starts, ends) else _first_free(starts, ends)
    return np.minimum(depth, np.iinfo(np.uint16).max).astype(np.uint16)


def _groups(lane: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Bounds of the runs of equal values."""
    if len(lane) == 0:
        return []
    cuts = (np.flatnonzero(np.diff(lane)) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(lane)], strict=True))


def _fits(depth: Times, start: Times, end: Times) -> bool:
    order = np.argsort(depth, kind="stable")
    same = depth[order][1:] == depth[order][:-1]
    return not (same & (start[order][1:] < end[order][:-1])).any()


def _first_free(start: Times, end: Times) -> Times:
    """Greedy interval colouring: each gets the lowest free sub-lane, which uses the fewest sub-lanes."""
    depth = np.zeros(len(start), np.int64)
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    used = 0
    for i, (begin, finish) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lowest = heapq.heappop(free)
        else:
            lowest, used = used, used + 1
        depth[i] = lowest
        heapq.heappush(busy, (finish, lowest))
    return depth
