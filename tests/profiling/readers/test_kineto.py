"""Kineto JSON: exact times, old and new schemas, other vendors, and files that are something else."""

from __future__ import annotations

import gzip
import json
import os
import time
import tracemalloc
import zlib
from decimal import Decimal

import numpy as np
import pytest

from fuseproof.errors import UserError
from fuseproof.profiling import readers
from fuseproof.profiling.analysis import summary
from fuseproof.profiling.readers import event_stream, microseconds, trace_file
from fuseproof.profiling.timeline.model import KINDS


def kernel(start, duration, *, device=0, stream=7, name="k", category="kernel", **arguments):
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": device,
        "tid": stream,
        "ts": start,
        "dur": duration,
        "args": {"device": device, "stream": stream, "correlation": 1, **arguments},
    }


@pytest.fixture
def load(tmp_path):
    """Load what is given: bytes as they are, anything else as JSON."""

    def load(content, name="trace.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return readers.load(path)

    return load


def refused(load, content, *words):
    with pytest.raises(UserError) as caught:
        load(content)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    for word in words:
        assert word in message


def of_kind(timeline, kind):
    return [timeline.names[n] for n in timeline.slices.name[timeline.slices.kind == KINDS.index(kind)]]


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("kernel", "kernel"),
        ("Kernel", "kernel"),
        ("concurrent_kernel", "kernel"),
        ("gpu_memcpy", "memcpy"),
        ("Memcpy", "memcpy"),
        ("gpu_memset", "memset"),
        ("cuda_runtime", "host_call"),
        ("xpu_runtime", "host_call"),
        ("privateuse1_driver", "host_call"),
        ("cuda_driver", "host_call"),
        ("python_function", "host_call"),
        ("cpu_op", "framework_op"),
        ("Operator", "framework_op"),
        ("user_annotation", "user_range"),
        ("gpu_user_annotation", "user_range"),
        ("overhead", "overhead"),
        ("cuda_sync", "other"),
        ("Trace", "other"),
        (None, "other"),
        ("", "other"),
    ],
)
def test_kind_follows_from_the_category_of_any_schema(load, category, kind):
    assert of_kind(load({"traceEvents": [kernel(1, 2, category=category)]}), kind) == ["k"]


def test_collectives_are_kernels_too(load):
    timeline = load({"traceEvents": [kernel(0, 5, name="ncclDevKernel_AllReduce_Sum_f32"), kernel(10, 5)]})
    assert of_kind(timeline, "collective") == ["ncclDevKernel_AllReduce_Sum_f32"]
    assert timeline.devices()[0].kernels == 2


def test_what_is_derived_or_only_waits_is_never_counted(load):
    events = [
        kernel(0, 10),
        kernel(0, 100, category="gpu_user_annotation", name="ProfilerStep#1"),
        kernel(5, 50, category="cuda_sync", name="Stream Sync"),
    ]
    (device,) = load({"traceEvents": events}).devices()
    assert (device.kernels, device.busy_ns, device.overlaps) == (1, 10_000, 0)


def test_host_process_with_the_number_of_a_device(load):
    events = [kernel(0, 10), kernel(0, 30, category="python_function", stream=0, name="main")]
    timeline = load({"traceEvents": events})
    assert [lane.kind for lane in timeline.lanes] == ["device", "host"]
    assert timeline.devices()[0].busy_ns == 10_000


def test_unknown_is_not_zero(load):
    events = [
        kernel(0, 1, **{"est. achieved occupancy %": 0, "registers per thread": 0, "grid": [1, 2, 3]}),
        kernel(2, 1, correlation=None),
    ]
    timeline = load({"traceEvents": events})
    assert "occupancy" not in timeline.slices.columns
    assert timeline.slices.columns["registers"].get(0) == 0
    assert timeline.slices.columns["registers"].get(1) is None
    assert timeline.slices.columns["grid"].get(0) == [1, 2, 3]
    assert timeline.slices.correlation.tolist() == [1, -1]
    assert summary.document(timeline)["dropped_events"] is None


@pytest.mark.parametrize("devices", [1, 8])
def test_devices_are_counted_separately(load, devices):
    events = [kernel(20 * i, 10 + number, device=number) for number in range(devices) for i in range(5)]
    properties = [{"id": number, "name": f"GPU of make {number}"} for number in range(devices)]
    found = load({"traceEvents": events, "deviceProperties": properties}).devices()
    assert [device.name for device in found] == [f"GPU {n} GPU of make {n}" for n in range(devices)]
    assert [device.busy_ns for device in found] == [50_000 + 5000 * n for n in range(devices)]


def test_overlapping_slices_of_a_stream_are_kept_in_sub_lanes(load):
    timeline = load({"traceEvents": [kernel(0, 10), kernel(5, 10), kernel(8, 1), kernel(20, 1)]})
    (lane,) = timeline.lanes
    assert lane.depth == 3
    assert sorted(timeline.slices.depth.tolist()) == [0, 0, 1, 2]
    (device,) = timeline.devices()
    assert (device.kernels, device.busy_ns, device.overlaps) == (4, 16_000, 2)


def test_same_correlation_on_two_kernels(load):
    timeline = load({"traceEvents": [kernel(0, 1, correlation=5), kernel(2, 1, correlation=5)]})
    assert timeline.slices.correlation.tolist() == [5, 5]


def test_pairs_of_begin_and_end(load):
    common = {"pid": 1, "tid": 1, "cat": "cpu_op"}
    events = [
        {"ph": "B", "name": "outer", "ts": 1, **common},
        {"ph": "B", "name": "inner", "ts": 2.5, **common},
        {"ph": "E", "ts": 4.125, **common},
        {"ph": "E", "ts": 9, **common},
        {"ph": "B", "name": "open", "ts": 10, **common},
    ]
    timeline = load(events)
    assert timeline.slices.duration_ns.tolist() == [8000, 1625]
    assert timeline.slices.depth.tolist() == [0, 1]
    assert timeline.warnings == ("1 events began and never ended are not shown",)


def test_counters_of_the_trace(load):
    events = [kernel(0, 1)] + [
        {"ph": "C", "name": "SM clock", "pid": 0, "ts": at, "args": {"MHz": value}}
        for at, value in ((2, 1500), (1, 1400.5))
    ]
    (counter,) = load({"traceEvents": events}).counters
    assert (counter.time_ns.tolist(), counter.value.tolist()) == ([1000, 2000], [1400.5, 1500])


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1.5", 1500),
        ("3603029046213.755", 3603029046213755),
        ("1698774893410552.123", 1698774893410552123),
        ("1698774893410552", 1698774893410552000),
        ('"1698774893410552.123"', 1698774893410552123),
        ('"12.001"', 12001),
        ("-3.25", -3250),
        ("1.7e15", 1_700_000_000_000_000_000),
    ],
)
def test_microseconds_are_read_exactly(load, text, nanoseconds):
    event = json.dumps(kernel("TIME", 0.001)).replace('"TIME"', text)
    timeline = load(('{"traceEvents": [' + event + "]}").encode())
    assert timeline.origin_ns == nanoseconds
    assert timeline.slices.duration_ns.tolist() == [1]


def test_unix_microseconds_with_decimals_keep_their_nanoseconds(load):
    """As floats these are 250 ns apart; the text has every nanosecond."""
    starts = [Decimal(1698774893410552) + Decimal(i) / 1000 for i in range(0, 5000, 7)]
    events = ",".join(json.dumps(kernel("TIME", 0.003)).replace('"TIME"', str(start)) for start in starts)
    timeline = load(('{"traceEvents": [' + events + "]}").encode())
    assert timeline.slices.start_ns.tolist() == list(range(0, 5000, 7))
    assert timeline.origin_is_unix


def test_base_time_makes_times_absolute(load):
    document = {"baseTimeNanoseconds": 1751410836000000000, "traceEvents": [kernel(1419116104994.671, 1)]}
    assert load(document).origin_ns == 1751410836000000000 + 1419116104994671


@pytest.mark.parametrize(
    "value", [None, "NaN", "soon", "", [], {}, True, 1e300, 10**30, "1e999999999", "9" * 5000, -1e300]
)
def test_event_with_no_usable_time_is_counted_and_left_out(load, value):
    timeline = load({"traceEvents": [kernel(1, 2), kernel(value, 2)]})
    assert len(timeline.slices) == 1
    assert timeline.warnings == ("1 events without a usable time are left out",)


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity"])
def test_not_a_number_in_the_file(load, value):
    text = json.dumps({"traceEvents": [kernel(1, 2), kernel("TIME", 2)]}).encode()
    timeline = load(text.replace(b'"TIME"', value))
    assert len(timeline.slices) == 1


def test_negative_duration_and_time_beyond_the_clock(load):
    timeline = load({"traceEvents": [kernel(1, 2), kernel(5, -2), kernel(4e15, 1), kernel(-7, 1)]})
    assert timeline.slices.start_ns.tolist() == [0, 8000]
    assert timeline.warnings == ("2 events with impossible times are left out",)


def test_nanoseconds_and_back():
    assert microseconds.as_text(-1500) == "-1.500"
    values, known = microseconds.to_nanoseconds([microseconds.as_text(-1500), 2])
    assert (values.tolist(), known.all()) == ([-1500, 2000], True)


def many(count, **arguments):
    return {"traceEvents": [kernel(i, 0.5, **arguments) for i in range(count)], "traceName": "many"}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_cut_short(load, share, compress):
    text = json.dumps(many(1000)).encode()
    text = gzip.compress(text, mtime=0) if compress else text
    timeline = load(text[: int(len(text) * share)])
    assert 0 < len(timeline.slices) <= 1000
    assert timeline.warnings == ("the file is cut short: later events are missing",)


def test_cut_before_the_first_event(load):
    refused(load, b'{"schemaVersion": 1, "traceEvents": [', "no events")


def test_damaged_gzip(load):
    data = bytearray(gzip.compress(json.dumps(many(5000)).encode(), mtime=0))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UserError, match=r"damaged gzip|not valid JSON"):
        load(bytes(data))


def test_several_gzip_members_are_one_file(load):
    text = json.dumps(many(100)).encode()
    assert len(load(gzip.compress(text[:1000]) + gzip.compress(text[1000:])).slices) == 100


@pytest.mark.parametrize(
    "filler",
    [
        b" " * (1 << 20),
        b"0" * (1 << 20),
        b'{"traceEvents": [' + b"[" * (1 << 20),
        b'{"a": "' + b"x" * (1 << 20),
    ],
    ids=["spaces", "zeros", "brackets", "string"],
)
def test_gzip_bomb_is_refused_early(load, filler):
    """1 GiB in 1 MiB; the reader stops long before the end."""
    compressor = zlib.compressobj(1, wbits=31)
    bomb = compressor.compress(filler) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(filler[-1:] * (1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    bomb += block + compressor.compress(filler[-1:] * (1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    # A full flush forgets what was before, so the same compressed block may be repeated.
    bomb += block * 1021
    began = time.monotonic()
    refused(load, bomb)
    assert time.monotonic() - began < 20


def test_bomb_of_well_formed_events_is_refused(load, monkeypatch):
    monkeypatch.setattr(trace_file, "RATIO_FREE_BYTES", 16 << 20)
    event = json.dumps(kernel(1, 2)).encode() + b","
    compressor = zlib.compressobj(9, wbits=31)
    bomb = compressor.compress(b'{"traceEvents": [') + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(event + b" " * (4 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    bomb += block * 8  # 32 MiB
    refused(load, bomb, "decompression bomb")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"   \n ", "empty"),
        (b"hello", "not a known kind of trace"),
        (b"\x00" * 100, "not a known kind of trace"),
        (b"{}", "traceEvents"),
        (b"[]", "no events"),
        (b"[1, 2, 3]", "no events"),
        (b'{"benchmarks": [], "version": "5.0"}', "traceEvents"),
        (b'{"traceEvents": {}}', "traceEvents"),
        (b'{"traceEvents": null}', "traceEvents"),
        (b'{"traceEvents": []}', "no events"),
        (b'{"traceEvents": [{}]}', "no events"),
        (b'{"a": {"traceEvents": [{"ph": "X"}]}}', "traceEvents"),
        (b'{"traceEvents": [{"ph": "X"}}]', "not valid JSON"),
        (b'{"traceEvents": [{"ph" "X"}]}', "not valid JSON"),
        (b"<html></html>", "not a known kind of trace"),
        (b"\x7fELF\x02\x01\x01", "not a known kind of trace"),
    ],
)
def test_foreign_files_are_refused_in_one_line(load, content, word):
    refused(load, content, word)


def test_missing_file_and_folder_without_traces(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        readers.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="holds no trace"):
        readers.load_all(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        readers.load(tmp_path / "pipe")


@pytest.mark.parametrize("depth", [500, 5000, 200_000])
def test_deep_nesting_is_refused_or_read(load, depth):
    deep = b"[" * depth + b"]" * depth
    text = json.dumps({"traceEvents": [kernel(1, 2), kernel(4, 2, deep="DEEP")]}).encode()
    try:
        assert len(load(text.replace(b'"DEEP"', deep)).slices) == 2
    except UserError as error:
        assert "not valid JSON" in str(error)


@pytest.mark.parametrize("odd", [[], {}, ["a"], {"b": [1]}, None, 1, 1.5, True], ids=repr)
@pytest.mark.parametrize("key", ["name", "cat", "pid", "tid", "args", "ph"])
def test_odd_values_do_no_harm(load, key, odd):
    timeline = load({"traceEvents": [kernel(1, 2), {**kernel(5, 1), key: odd}]})
    assert 1 <= len(timeline.slices) <= 2


def test_strings_that_look_like_the_end_of_an_event(load):
    name = '}, {"ph": "X", "traceEvents": [ ] } \\" \\\\ ] }, {'
    events = [kernel(i, 1, name=name) for i in range(100)]
    timeline = load({"other": name, "traceEvents": events, "last": [{}, {}]})
    assert len(timeline.slices) == 100 and timeline.names == (name,)


def test_bad_escapes_and_bad_utf8_are_read_as_far_as_they_go(load):
    text = json.dumps({"traceEvents": [kernel(1, 2, name="PATH")]}).encode()
    assert load(text.replace(b"PATH", rb"C:\Users\x")).names == ("C:\\Users\\x",)
    assert load(text.replace(b"PATH", b"a\xff\xfeb\\ud800")).names == ("a\ufffd\ufffdb?",)


def test_events_and_properties_larger_than_a_block(load, monkeypatch):
    monkeypatch.setattr(event_stream, "_CHUNK_BYTES", 1 << 10)
    events = [
        kernel(i, 1, name=f"k{i}", long=[{"a": i}, {"b": "}, {" * (i % 50)}] * (i % 40)) for i in range(300)
    ]
    trailer = [{"id": 0, "name": "a GPU"}] * 200
    timeline = load({"first": trailer, "traceEvents": events, "deviceProperties": trailer})
    assert len(timeline.slices) == 300 and timeline.warnings == ()
    assert timeline.devices()[0].name == "GPU 0 a GPU"


def test_an_endless_event_is_refused(load, monkeypatch):
    monkeypatch.setattr(event_stream, "MAX_EVENT_BYTES", 1 << 20)
    monkeypatch.setattr(event_stream, "_CHUNK_BYTES", 1 << 16)
    refused(load, b'{"traceEvents": [{"ph": "X", "args": [' + b"{}," * (1 << 20), "longer than")


def test_too_many_lanes(load):
    refused(load, {"traceEvents": [kernel(i, 1, stream=i) for i in range(25_000)]}, "streams and threads")


def test_memory_stays_that_of_the_columns(load):
    """100,000 slices in 18 MB of text: less than the parsed document would take (125 MB)."""
    count = 100_000
    event = json.dumps(kernel("TIME", 0.5)).encode()
    parts = [event.replace(b'"TIME"', b"%d" % i) for i in range(count)]
    text = b'{"traceEvents": [' + b",".join(parts) + b"]}"
    del parts
    tracemalloc.start()
    try:
        timeline = load(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(timeline.slices) == count
    assert timeline.busy_ns() == count * 500
    assert np.all(np.diff(timeline.slices.start_ns) == 1000)
    assert peak < 80 << 20
