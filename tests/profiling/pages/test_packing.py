"""What is packed for the browser comes back, and takes few bytes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic_trace import synthetic
from support.timelines import a_timeline, first_event
from support.unpacking import read_column, unpack

from fuseproof.errors import UserError
from fuseproof.profiling.pages import packing
from fuseproof.profiling.timeline.model import KINDS, Column, Counter, Timeline, empty_slices


def in_rows(timeline):
    """The order in which slices are packed."""
    s = timeline.slices
    return np.lexsort((s.start_ns, s.depth, s.lane))


def assert_same(timeline, unpacked):
    s, order = timeline.slices, in_rows(timeline)
    np.testing.assert_array_equal(unpacked.lane, s.lane[order])
    np.testing.assert_array_equal(unpacked.depth, s.depth[order])
    np.testing.assert_array_equal(unpacked.start_ns, s.start_ns[order] - first_event(timeline))
    np.testing.assert_array_equal(unpacked.duration_ns, s.duration_ns[order])
    np.testing.assert_array_equal(unpacked.correlation, s.correlation[order])
    assert list(unpacked.name) == [timeline.names[i] for i in s.name[order]]
    assert list(unpacked.kind) == [KINDS[i] for i in s.kind[order]]


@pytest.mark.parametrize("count", [101, 5_000])
def test_a_packed_timeline_comes_back(count):
    timeline = synthetic(count)
    assert_same(timeline, unpack(packing.pack(timeline)))


def test_unknown_is_not_zero(small):
    unpacked = unpack(packing.pack(small))
    assert_same(small, unpacked)
    assert unpacked.detail[0] == {"grid": [8, 4, 1], "registers": 168, "flops (compile-time estimate)": 1.5e9}
    assert unpacked.detail[2] == {"registers": 0, "hlo op": small.names[0]}
    assert unpacked.detail[1] == {}


def test_a_property_with_many_values_is_a_column_of_its_own():
    timeline = synthetic(20_000)
    index = np.arange(0, 20_000, 2)
    flops = Column(index=index, value=index * 1_000_003 + 0.5)
    named = Column(index=index, value=index % len(timeline.names), names=True)
    slices = replace(timeline.slices, columns={"flops": flops, "hlo_op": named})
    unpacked = unpack(packing.pack(replace(timeline, slices=slices)))
    assert [one["name"] for one in unpacked.manifest["sparse"]] == ["flops"]
    for place, old in enumerate(in_rows(timeline).tolist()):
        expected = {} if old % 2 else {"flops": old * 1_000_003 + 0.5, "hlo op": timeline.names[old % 800]}
        assert unpacked.detail[place] == expected


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-(2**50), 2**50), max_size=40), st.booleans())
def test_any_integers_come_back(values, delta):
    columns = packing._Columns()
    where = columns.integers(np.array(values, np.int64), delta=delta)
    assert read_column(b"".join(columns.parts), where).tolist() == values


def test_a_number_no_browser_can_hold_is_refused():
    with pytest.raises(UserError, match="do some events have another clock"):
        packing._Columns().integers(np.array([2**53]))


def test_correlations_too_large_for_a_browser_still_join():
    rows = [
        (0, 10, 5, "k", "kernel", 0, 2**62),
        (1, 0, 5, "l", "host_call", 0, 2**62),
        (1, 7, 1, "l", "host_call", 0, -1),
    ]
    kernel, launch, other = unpack(packing.pack(a_timeline(rows))).correlation.tolist()
    assert kernel == launch != other == -1


def test_counters_keep_their_gaps():
    counter = Counter(
        name="power",
        unit="W",
        device="GPU 0",
        semantics="sampled",
        time_ns=np.array([5, 10, 20]),
        value=np.array([300.5, np.nan, 310.0]),
    )
    timeline = replace(a_timeline([(0, 7, 1, "k", "kernel", 0, -1)]), counters=(counter,))
    packed = packing.pack(timeline)
    assert_same(timeline, unpack(packed))
    (chart,) = unpack(packed).manifest["charts"]
    assert (chart["lowest"], chart["highest"], chart["series"][0]["step"]) == (0.0, 310.0, False)
    assert "nothing is known" in chart["meaning"]


def test_a_slice_takes_few_bytes():
    # 1 M slices must stay under 10 MB of page, base64 and all.
    assert len(packing.pack(synthetic(100_000))) * 4 / 3 < 8.5 * 100_000


def test_a_timeline_without_slices_packs():
    empty = Timeline(
        source="torch-memory", name="none", origin_ns=0, lanes=(), slices=empty_slices(), names=()
    )
    assert unpack(packing.pack(empty)).name == ()
