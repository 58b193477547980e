"""Memory snapshots are read without running code, and pickles that would run code are refused."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_snapshots import entry, snapshot

from fuseproof.errors import UserError
from fuseproof.profiling import readers
from fuseproof.profiling.readers import plain_pickle
from fuseproof.profiling.timeline.model import MEMORY_ACTIONS


@pytest.fixture
def load(tmp_path):
    def load(content):
        path = tmp_path / "snapshot.pickle"
        path.write_bytes(content)
        return readers.load(path)

    return load


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_snapshot(load, protocol):
    timeline = load(pickle.dumps(snapshot(), protocol))
    one, two = timeline.memory
    assert timeline.source == "torch-memory" and timeline.origin_is_unix
    assert (one.device, one.peak_bytes, len(one)) == ("GPU 0", 1400, 7)
    assert one.running_bytes().tolist() == [300, 400, 1400, 400, 400, 400, 400]
    assert one.reserved.tolist() == [2048] * 7
    assert [MEMORY_ACTIONS[code] for code in one.action] == [
        "reserve",
        "alloc",
        "alloc",
        "free",
        "other",
        "out_of_memory",
        "other",
    ]
    assert one.time_ns.tolist() == [0, 1000, 2000, 3000, 3000, 4000, 5000]
    assert timeline.names[one.label[1]] == "forward /home/me/model.py:12"
    assert (two.device, two.peak_bytes, two.address.tolist()) == ("GPU 1", 512, [1 << 47])
    assert len(timeline.warnings) == 1


def test_history_without_segments_starts_at_what_is_never_negative(load):
    only = {"device_traces": [[entry("free_completed", 1, 70, 10), entry("alloc", 2, 50, 20)]]}
    (memory,) = load(pickle.dumps(only)).memory
    assert memory.running_bytes().tolist() == [0, 50]


def test_entries_without_time_keep_their_order(load):
    events = [
        {"action": "alloc", "addr": 1, "size": 5, "frames": []},
        {"action": "free_requested", "addr": 1, "size": 5},
    ]
    timeline = load(pickle.dumps({"segments": [], "device_traces": [events]}))
    assert timeline.memory[0].time_ns.tolist() == [0, 1000]
    assert "no time" in timeline.warnings[0]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_cut_short_is_refused(load, share):
    data = pickle.dumps(snapshot())
    with pytest.raises(UserError, match="cut short"):
        load(data[: int(len(data) * share)])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_never_run(load, protocol, tmp_path):
    marker = tmp_path / "ran"

    class Touches:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    document = {**snapshot(), "external_annotations": [Touches()]}
    with pytest.raises(UserError, match="more than plain data"):
        load(pickle.dumps(document, protocol))
    assert not marker.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02P1\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x04}\x97.",
        b"\x80\x02(cos\nsystem\no.",
        b"\x80\x02(i__main__\nX\n.",
    ],
)
def test_opcodes_that_could_call_or_import(load, body):
    with pytest.raises(UserError) as caught:
        load(body)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo index that makes Python's Unpickler allocate 32 GB
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 63) + b".",
        b"\x80\x02\x8b" + struct.pack("<i", -5) + b".",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",  # nested 100,000 deep
        b"\x80\x02.",
        b"\x80\x02e.",
        b"\x80\x02u.",
        b"\x80\x02]]]s.",
        b"\x80\x09.",
        b"\x80\x02h\x05.",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_small_files_stay_small(load, body):
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            load(body)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_a_list_referred_to_a_million_times(load):
    """2 MB that would be a million million entries."""
    many = 1000
    inner = b"]q\x01(" + b"}" * many + b"e"
    body = b"\x80\x02}X\x0d\x00\x00\x00device_traces](" + inner + b"h\x01" * 100_000 + b"es."
    began = time.monotonic()
    with pytest.raises(UserError, match="repeats its entries"):
        load(body)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "document",
    [1, "x", None, [], {}, {"segments": 5}, [1, 2], {"segments": [], "device_traces": {}}],
    ids=repr,
)
def test_other_pickles_are_refused(load, document):
    with pytest.raises(UserError):
        load(pickle.dumps(document))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=30,
)


@settings(deadline=None)
@given(PLAIN, st.integers(3, 5))
def test_plain_data_comes_back(value, protocol):
    assert plain_pickle.loads(pickle.dumps(value, protocol), "x")[0] == value


def test_memory_timeline_of_the_profiler(tmp_path):
    rows = [
        [-1, 1, 100, 0],
        [1_700_000_000_000_000_000, 2, 50, 4],
        [1_700_000_000_000_000_010, 4, -100, 0],
        "x",
    ]
    path = tmp_path / "m.raw.json"
    path.write_text(json.dumps(rows))
    timeline = readers.load(path)
    (memory,) = timeline.memory
    assert memory.running_bytes().tolist() == [100, 150, 50]
    assert memory.time_ns.tolist() == [0, 0, 10]
    assert [timeline.names[label] for label in memory.label] == ["parameter", "activation", "parameter"]
    assert "1 entries" in timeline.warnings[0]
