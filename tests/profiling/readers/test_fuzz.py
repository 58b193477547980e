"""Any bytes give a timeline or one line with the reason; no other exception, no hang, no code is run."""

from __future__ import annotations

import contextlib
import gzip
import json
import pickle
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import shared
from support.small_traces import SMALL, nested, number
from support.xla_schedules import RESULT

from fuseproof.errors import UserError
from fuseproof.profiling import readers
from fuseproof.profiling.analysis import summary
from fuseproof.profiling.timeline import intervals
from fuseproof.profiling.writers import perfetto

FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
# Audit events that no reader of data needs. (Importing executes modules: see `import_all`.)
FORBIDDEN = (
    "exec",
    "compile",
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.mkdir",
    "os.remove",
    "subprocess.Popen",
    "socket.connect",
)
_watching = False
_seen: list[str] = []


def _hook(event, _):
    if _watching and event in FORBIDDEN:
        _seen.append(event)


sys.addaudithook(_hook)


def try_to_load(data):
    """Load, summarise and export; the timeline, or None if it was refused in one short line."""
    global _watching
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        path.write_bytes(data)
        began = time.monotonic()
        _watching = True
        try:
            timeline = readers.load(path)
        except UserError as error:
            message = str(error)
            assert message and "\n" not in message and len(message) < 1000
            return None
        finally:
            _watching = False
            seen, _seen[:] = _seen.copy(), []
            assert not seen
            assert time.monotonic() - began < 30
        json.dumps(summary.document(timeline), allow_nan=False)
        summary.render_text(timeline).encode()
        holds(timeline)
        perfetto.write([timeline], Path(folder) / "out")
    return timeline


def holds(timeline):
    """The invariants of every timeline."""
    slices = timeline.slices
    assert (slices.duration_ns >= 0).all() and (slices.start_ns >= 0).all()
    assert (slices.lane >= 0).all() and (slices.lane < len(timeline.lanes)).all()
    assert (slices.name >= 0).all() and (slices.name < len(timeline.names)).all()
    order = np.lexsort((-slices.duration_ns, slices.start_ns, slices.lane))
    assert (order == np.arange(len(order))).all()
    for i, lane in enumerate(timeline.lanes):
        mine = slices.lane == i
        assert slices.depth[mine].max() + 1 == lane.depth
        for row in range(min(lane.depth, 50)):
            chosen = mine & (slices.depth == row)
            assert (slices.end_ns[chosen][:-1] <= slices.start_ns[chosen][1:]).all()
    for column in slices.columns.values():
        assert (np.diff(column.index) > 0).all()
        assert len(column.index) == len(column.value) and column.index[-1] < len(slices)
        if column.names:
            assert (column.value >= 0).all() and (column.value < len(timeline.names)).all()
    for memory in timeline.memory:
        assert (np.diff(memory.time_ns) >= 0).all() and memory.time_ns[0] >= 0
        assert len(memory.running_bytes()) == len(memory)
        assert (memory.label < len(timeline.names)).all()
    for counter in timeline.counters:
        assert (np.diff(counter.time_ns) >= 0).all()
    for device in timeline.devices():
        assert 0 <= device.busy_ns <= device.span_ns
    assert intervals.union_length(slices.start_ns, slices.end_ns) <= timeline.span_ns
    for text in timeline.names:
        text.encode()


def mutations(data):
    """Cut, overwrite, insert, repeat and remove pieces of it."""
    position = st.integers(0, max(len(data) - 1, 0))
    piece = st.binary(max_size=12) | st.sampled_from(
        [
            b"\xff" * 10,
            b"\x80" * 9 + b"\x01",
            b'"',
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b"\\",
            b"1e400",
            b"-1",
            b"NaN",
            b"null",
        ]
    )
    change = st.tuples(
        st.sampled_from(["cut", "overwrite", "insert", "remove", "repeat"]), position, piece, position
    )

    def apply(changes):
        out = data
        for what, at, new, other in changes:
            if what == "cut":
                out = out[:at]
            elif what == "overwrite":
                out = out[:at] + new + out[at + len(new) :]
            elif what == "insert":
                out = out[:at] + new + out[at:]
            elif what == "remove":
                out = out[:at] + out[at + other % 64 :]
            else:
                out = out[:at] + out[at : at + other % 512] * 3 + out[at:]
        return out

    return st.lists(change, min_size=1, max_size=4).map(apply)


@pytest.fixture(scope="module", autouse=True)
def import_all(tmp_path_factory):
    path = tmp_path_factory.mktemp("warm") / "trace"
    for data in (*SMALL.values(), b'{"traceEvents": [NaN]}', b"\x80\x04c"):
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            readers.load(path)


@pytest.mark.parametrize("kind", SMALL)
def test_unmutated_files_load(kind):
    assert try_to_load(SMALL[kind]) is not None


@pytest.mark.parametrize("kind", SMALL)
@FUZZ
@given(data=st.data())
def test_mutated(kind, data):
    try_to_load(data.draw(mutations(SMALL[kind])))


@FUZZ
@given(st.binary(max_size=300))
def test_noise(data):
    try_to_load(data)


@FUZZ
@given(
    st.sampled_from([b"\n", b"\x80\x04", b"\x1f\x8b\x08\0", b"{", b"[", b'{"traceEvents": [{"ph": "X", ']),
    st.binary(max_size=300),
)
def test_noise_that_begins_like_a_trace(head, data):
    try_to_load(head + data)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
MOMENT = st.integers(-10, 10**4) | st.floats(0, 1e4) | ANY
EVENT = st.fixed_dictionaries(
    {"ph": st.sampled_from(["X", "i", "M", "C", "B", "E", "s", "b"]) | ANY, "ts": MOMENT},
    optional={
        "dur": MOMENT,
        "name": st.sampled_from(["k", "[memory]", "process_name", "thread_name"]) | ANY,
        "cat": st.sampled_from(["kernel", "gpu_memcpy", "cpu_op", "cuda_runtime"]) | ANY,
        "pid": st.integers(0, 2) | ANY,
        "tid": st.integers(0, 2) | ANY,
        "args": st.dictionaries(
            st.sampled_from(
                [
                    "device",
                    "correlation",
                    "grid",
                    "block",
                    "bytes",
                    "Bytes",
                    "Addr",
                    "Device Id",
                    "Device Type",
                    "Total Allocated",
                    "Total Reserved",
                    "name",
                    "External id",
                    "est. achieved occupancy %",
                ]
            ),
            ANY | st.lists(st.integers(), min_size=3, max_size=3),
            max_size=5,
        )
        | ANY,
    },
)


@FUZZ
@given(
    st.lists(EVENT | ANY, max_size=6),
    st.dictionaries(
        st.sampled_from(["deviceProperties", "baseTimeNanoseconds", "distributedInfo", "traceName"]),
        ANY,
        max_size=3,
    ),
)
def test_documents_of_any_values(events, top):
    try_to_load(json.dumps({**top, "traceEvents": events}).encode("utf-8", "surrogatepass"))


FIELD = st.deferred(
    lambda: st.tuples(st.integers(1, 12), st.integers(0, 2**64 - 1) | st.binary(max_size=6) | MESSAGE)
)
MESSAGE = st.lists(FIELD, max_size=5).map(
    lambda fields: b"".join(
        number(tag, value) if isinstance(value, int) else nested(tag, value) for tag, value in fields
    )
)


@FUZZ
@given(st.data())
def test_schedules_with_any_values(data):
    """A step, a buffer or a figure of a compiler's schedule is anything."""
    result = json.loads(json.dumps(RESULT))
    steps, buffers = result["schedule"], result["memory_plan"]["buffers"]
    owner = data.draw(st.sampled_from([result, result["memory_plan"], *steps, *buffers]))
    owner[data.draw(st.sampled_from(sorted(owner)))] = data.draw(ANY | st.integers(-(2**70), 2**70))
    try_to_load(json.dumps(result).encode("utf-8", "surrogatepass"))


@FUZZ
@given(
    st.lists(MESSAGE, max_size=3), st.sampled_from([b"/device:TPU:0", b"/device:GPU:0", b"/host:CPU", b"x"])
)
def test_messages_of_any_fields(planes, name):
    try_to_load(b"".join(nested(1, nested(2, name) + plane) for plane in planes) or b"\n")


@FUZZ
@given(st.lists(EVENT, max_size=3) | ANY, st.integers(2, 5))
def test_pickles_of_any_plain_data(value, protocol):
    entries = {"segments": value, "device_traces": [value, [value]]}
    try_to_load(pickle.dumps(entries, protocol))


@pytest.mark.parametrize(
    "name", ["a100_triton_example.kineto.json.gz", "mi300_jax_conv.xplane.pb", "h100_memory_timeline.raw.gz"]
)
@settings(FUZZ, max_examples=20)
@given(data=st.data())
def test_mutated_real_traces(name, data):
    raw = shared.sample(name).read_bytes()
    inside = gzip.decompress(raw) if name.endswith(".gz") else raw
    try_to_load(data.draw(mutations(data.draw(st.sampled_from([raw, inside])))))
