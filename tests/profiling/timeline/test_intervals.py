"""Interval arithmetic against loops that cannot be wrong."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.brute_force import union

from fuseproof.profiling.timeline import intervals as layout

INTERVALS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-20, 40), st.integers(0, 15)), min_size=0, max_size=40
)


def columns(intervals):
    ordered = sorted(intervals, key=lambda each: (each[0], each[1], -each[2]))
    lane = np.array([each[0] for each in ordered], np.int32)
    start = np.array([each[1] for each in ordered], np.int64)
    duration = np.array([each[2] for each in ordered], np.int64)
    return lane, start, duration


@given(INTERVALS)
def test_union_is_that_of_the_points(intervals):
    _, start, duration = columns(intervals)
    points = {point for _, begin, length in intervals for point in range(begin, begin + length)}
    assert layout.union_length(start, start + duration) == len(points)
    assert union((begin, begin + length) for _, begin, length in intervals) == len(points)


@given(INTERVALS)
def test_nothing_overlaps_within_a_sub_lane(intervals):
    lane, start, duration = columns(intervals)
    depth = layout.sub_lanes(lane, start, duration)
    rows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for which, row, begin, length in zip(lane, depth, start, duration, strict=True):
        rows.setdefault((which, row), []).append((begin, begin + max(length, 1)))
    for row in rows.values():
        row.sort()
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(row))


@given(INTERVALS)
def test_overlaps_are_those_that_begin_inside_an_earlier_one(intervals):
    lane, start, duration = columns(intervals)
    expected = 0
    for i in range(len(lane)):
        expected += any(lane[j] == lane[i] and start[j] + duration[j] > start[i] for j in range(i))
    assert layout.count_overlaps(lane, start, start + duration) == expected


def test_nested_slices_lie_at_their_depth():
    lane = np.zeros(4, np.int32)
    start = np.array([0, 0, 2, 6])
    duration = np.array([10, 5, 1, 2])
    assert layout.sub_lanes(lane, start, duration).tolist() == [0, 1, 2, 1]
