"""XSpaces written as text protos, read here and by jaxlib's ProfileData. TPU: not verified on hardware."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import brute_force

from fuseproof.errors import UserError
from fuseproof.profiling import readers
from fuseproof.profiling.analysis import summary
from fuseproof.profiling.readers.xplane import protobuf
from fuseproof.profiling.timeline.model import KINDS

jax_profiler = pytest.importorskip("jax.profiler", reason="needs jaxlib to write XSpaces")


def line(name, events, *, timestamp_ns=1000, rest=""):
    """`events`: (metadata id, offset ps, duration ps, stats)."""
    body = "\n".join(
        f"events {{ metadata_id: {number} offset_ps: {offset} duration_ps: {duration} {stats} }}"
        for number, offset, duration, stats in events
    )
    return f'lines {{ name: "{name}" timestamp_ns: {timestamp_ns} {rest} {body} }}'


def metadata(names, stats=()):
    """Event and stat metadata; `names` maps an id to a name, or to (name, display name, stats)."""
    out = []
    for number, name in names.items():
        name, display, own = name if isinstance(name, tuple) else (name, "", "")
        out.append(
            f"event_metadata {{ key: {number} value {{ id: {number} name: '{name}' "
            f"{f'display_name: {display!r}' if display else ''} {own} }} }}"
        )
    for number, name in enumerate(stats, 1):
        out.append(f"stat_metadata {{ key: {number} value {{ id: {number} name: '{name}' }} }}")
    return "\n".join(out)


def plane(name, *parts):
    return f"planes {{ name: '{name}' {' '.join(parts)} }}"


def serialized(*parts):
    return jax_profiler.ProfileData.text_proto_to_serialized_xspace("\n".join(parts))


@pytest.fixture
def load(tmp_path):
    def load(data, name="host.xplane.pb"):
        path = tmp_path / name
        path.write_bytes(data)
        return readers.load(path)

    return load


def kinds_of(timeline):
    return {
        timeline.names[n]: KINDS[k] for n, k in zip(timeline.slices.name, timeline.slices.kind, strict=True)
    }


HLO = "%fusion.1 = bf16[8,128]{1,0:T(8,128)} fusion(bf16[8,128] %p), kind=kLoop"
TPU = plane(
    "/device:TPU:0",
    line("Steps", [(10, 0, 90_000_000, "")]),
    line("XLA Modules", [(11, 0, 80_000_000, "stats { metadata_id: 3 uint64_value: 77 }")]),
    line(
        "XLA Ops",
        [
            (1, 0, 10_000_400, ""),
            (2, 10_000_400, 5_000_000, ""),
            (3, 20_000_000, 2_500_000, ""),
            (4, 30_000_000, 1_000_000, ""),
            (1, 40_000_000, 10_000_000, "stats { metadata_id: 1 uint64_value: 5 }"),
        ],
    ),
    line("Async XLA Ops", [(5, 12_000_000, 30_000_000, ""), (6, 15_000_000, 3_000_000, "")]),
    line("Framework Name Scope", [(12, 0, 90_000_000, "")]),
    line("TensorFlow Ops", [(12, 0, 90_000_000, "")]),
    metadata(
        {
            1: (
                HLO,
                "fusion.1",
                "stats { metadata_id: 1 uint64_value: 1000 } stats { metadata_id: 2 uint64_value: 64 } "
                "stats { metadata_id: 4 str_value: 'loop fusion' } stats { metadata_id: 5 ref_value: 6 }",
            ),
            2: "%convolution.2 = f32[] convolution()",
            3: "all-reduce.3",
            4: "copy.4",
            5: "copy-start.5",
            6: "all-gather-start.6",
            10: "1",
            11: "jit_f(123)",
            12: "attention",
        },
        ["flops", "bytes_accessed", "run_id", "hlo_category", "tf_op", "jit(f)/dot_general", "peak"],
    ),
    "stats { metadata_id: 7 double_value: 197.5 }",
)


def test_tpu_plane(load):
    data = serialized(TPU, 'hostnames: "worker-0"')
    timeline = load(data)
    (device,) = timeline.devices()
    intervals, slices = brute_force.xplane(data)
    assert device.name == "/device:TPU:0"
    assert device.kernels == len(intervals["/device:TPU:0"]) == 7
    assert device.busy_ns == round(brute_force.union(intervals["/device:TPU:0"])) == 50_000
    assert len(timeline.slices) == slices == 11
    kinds = kinds_of(timeline)
    assert kinds["fusion.1"] == kinds["%convolution.2 = f32[] convolution()"] == "kernel"
    assert kinds["all-reduce.3"] == kinds["all-gather-start.6"] == "collective"
    assert kinds["copy.4"] == kinds["copy-start.5"] == "memcpy"
    assert {lane.name for lane in timeline.lanes if lane.derived} == {
        "Steps",
        "Framework Name Scope",
        "TensorFlow Ops",
    }
    assert timeline.lanes[0].process == "worker-0"
    assert timeline.notes["/device:TPU:0 peak"] == "197.5"


def test_stats_of_the_metadata_are_merged_into_events(load):
    timeline = load(serialized(TPU))
    columns = timeline.slices.columns
    first, last = np.flatnonzero([timeline.names[n] == "fusion.1" for n in timeline.slices.name])
    assert (columns["flops"].get(first), columns["flops"].get(last)) == (1000, 5)  # its own goes before
    assert columns["flops"].origin == "compile-time estimate"
    assert columns["bytes_accessed"].get(last) == 64
    assert timeline.names[columns["hlo_category"].get(first)] == "loop fusion"
    assert timeline.names[columns["framework_op"].get(first)] == "jit(f)/dot_general"
    assert timeline.names[columns["long_name"].get(first)] == HLO
    other = next(i for i, n in enumerate(timeline.slices.name) if timeline.names[n] == "copy.4")
    assert columns["flops"].get(other) is None


def test_neighbours_in_picoseconds_neither_overlap_nor_part(load):
    ends = np.cumsum(np.full(1000, 1234))
    events = [(1, int(end - 1234), 1234, "") for end in ends]
    timeline = load(serialized(plane("/device:TPU:0", line("XLA Ops", events), metadata({1: "op"}))))
    (device,) = timeline.devices()
    assert (device.busy_ns, device.overlaps) == (1234, 0)
    assert timeline.lanes[0].depth == 1


GPU_LINES = (
    line(
        "Stream #16(Kernel)",
        [
            (
                1,
                0,
                4_000_000,
                "stats { metadata_id: 1 uint64_value: 9 } stats { metadata_id: 2 str_value: "
                "'regs:32 static_shared:16 dynamic_shared:1024 grid:4,2,1 block:128,1,1 occ_pct:50' }",
            ),
            (1, 3_000_000, 4_000_000, "stats { metadata_id: 2 ref_value: 4 }"),
            (4, 20_000_000, 1_000_000, ""),
        ],
    ),
    line(
        "Stream #17(MemcpyH2D,Memset)",
        [
            (
                2,
                1_000_000,
                3_000_000,
                "stats { metadata_id: 3 str_value: 'kind_src:host kind_dst:device size:4096 async:1' }",
            ),
            (3, 30_000_000, 500_000, ""),
        ],
    ),
    metadata(
        {
            1: "fusion_kernel",
            2: "MemcpyH2D",
            3: "Memset",
            4: "ncclDevKernel_AllReduce",
            5: "fusion",
            6: "jit_f",
        },
        [
            "correlation_id",
            "kernel_details",
            "memcpy_details",
            " grid:16,1,1 block:512,1,1 private_mem:0 group_mem:0 occ_pct:0",
        ],
    ),
)
DERIVED = (
    line("XLA Ops", [(5, 0, 7_000_000, "")]),
    line("XLA Modules", [(6, 0, 50_000_000, "")]),
    line("Steps", [(6, 0, 50_000_000, "")]),
)


@pytest.mark.parametrize("derived", [(), DERIVED], ids=["raw", "with xprof's lines"])
def test_gpu_plane_counts_streams_only(load, derived):
    data = serialized(plane("/device:GPU:0", *GPU_LINES, *derived))
    timeline = load(data)
    (device,) = timeline.devices()
    assert (device.kernels, device.busy_ns, device.overlaps) == (5, 8_500, 1)
    assert kinds_of(timeline)["Memset"] == "memset"
    assert kinds_of(timeline)["ncclDevKernel_AllReduce"] == "collective"
    columns = timeline.slices.columns
    assert columns["grid"].value.tolist() == [[4, 2, 1], [16, 1, 1]]
    assert columns["shared_memory"].value.tolist() == [1040, 0]
    assert columns["registers"].value.tolist() == [32]
    assert columns["occupancy"].value.tolist() == [50.0]
    assert columns["bytes"].value.tolist() == [4096]
    assert timeline.slices.correlation[:2].tolist() == [9, -1]


def test_the_lines_of_an_unknown_accelerator_are_its_work(load):
    lines = line("Compute Engine 3", [(1, 0, 5_000_000, "")]) + line("DMA", [(2, 2_000_000, 6_000_000, "")])
    timeline = load(serialized(plane("/device:NPU:0", lines, metadata({1: "a", 2: "b"}))))
    assert timeline.devices()[0].busy_ns == 8_000


def test_several_hosts_in_one_file(load):
    one = plane("/device:TPU:0", line("XLA Ops", [(1, 0, 5_000_000, "")]), metadata({1: "a"}))
    timeline = load(serialized(one, one, 'hostnames: "east"', 'hostnames: "west"'))
    assert [device.name for device in timeline.devices()] == ["/device:TPU:0", "/device:TPU:0 (west)"]


def test_old_schema_without_display_names_or_stats(load):
    host = plane(
        "/host:CPU",
        "lines { display_name: 'main thread' events { metadata_id: 1 duration_ps: 1000 } "
        "events { metadata_id: 99 offset_ps: 5000 duration_ps: 1000 } }",
        metadata({1: "MatMul:MatMul"}),
    )
    timeline = load(serialized(host))
    assert [lane.name for lane in timeline.lanes] == ["main thread"]
    assert kinds_of(timeline) == {"MatMul:MatMul": "framework_op", "event 99": "other"}


def test_operations_of_xla_on_the_cpu_are_kernels(load):
    op = "stats { metadata_id: 1 str_value: 'dot.3' }"
    launch = op + " stats { metadata_id: 2 uint64_value: 4 }"
    lines = line("tf_XLAEigen/1", [(1, 0, 5_000_000, op), (2, 6_000_000, 1_000_000, launch)])
    host = plane(
        "/host:CPU", lines, metadata({1: "dot.3", 2: "cuLaunchKernel"}, ["hlo_op", "correlation_id"])
    )
    (device,) = load(serialized(host)).devices()
    assert (device.name, device.kernels, device.busy_ns) == ("CPU", 1, 5_000)
    # Where there is a device, what the host does is not its work.
    found = load(serialized(host, TPU)).devices()
    assert [device.name for device in found] == ["/device:TPU:0"]


def test_allocators(load):
    stats = ["allocator_name", "bytes_allocated", "peak_bytes_in_use", "allocation_bytes", "addr"]

    def event(number, at, allocated, size, address, name):
        return (
            number,
            at,
            0,
            f"stats {{ metadata_id: 1 str_value: '{name}' }} "
            f"stats {{ metadata_id: 2 int64_value: {allocated} }} "
            f"stats {{ metadata_id: 3 int64_value: 900 }} stats {{ metadata_id: 4 int64_value: {size} }} "
            f"stats {{ metadata_id: 5 uint64_value: {address} }}",
        )

    lines = line(
        "thread",
        [
            event(2, 9_000_000, 100, 200, 1 << 63, "GPU_0_bfc"),
            event(1, 1_000_000, 300, 200, 1 << 63, "GPU_0_bfc"),
            event(1, 2_000_000, 64, 64, 7, "xla_cpu"),
        ],
    )
    host = plane("/host:CPU", lines, metadata({1: "MemoryAllocation", 2: "MemoryDeallocation"}, stats))
    gpu = plane("/device:GPU:0", *GPU_LINES)
    gpu_memory, cpu_memory = load(serialized(gpu, host)).memory
    assert (cpu_memory.device, cpu_memory.allocator) == ("CPU", "xla_cpu")
    assert (gpu_memory.device, gpu_memory.size.tolist()) == ("/device:GPU:0", [200, -200])
    assert gpu_memory.address.tolist() == [1 << 63] * 2
    assert gpu_memory.peak_bytes == 300  # within the record; the 900 were before it


def test_warnings_of_the_profiler_and_dropped_events(load):
    timeline = load(serialized(TPU, 'errors: "1234 events were dropped: buffer full"', 'warnings: "slow"'))
    assert timeline.dropped_events == 1234
    assert timeline.warnings[1] == "the profiler says: slow"
    assert load(serialized(TPU)).dropped_events is None
    reported = plane(
        "Task Environment", metadata({}, ["dropped_traces"]), "stats { metadata_id: 1 uint64_value: 3 }"
    )
    assert summary.document(load(serialized(TPU, reported)))["dropped_events"] == 3


@pytest.mark.parametrize("share", [0.1, 0.45, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_cut_short(load, share, compress):
    events = [(1 + i % 2, i * 1000, 900, "stats { metadata_id: 1 uint64_value: 3 }") for i in range(2000)]
    one = plane("/device:TPU:0", line("XLA Ops", events), metadata({1: "a", 2: "b"}, ["flops"]))
    data = serialized(one, one)
    data = gzip.compress(data, mtime=0) if compress else data
    timeline = load(data[: int(len(data) * share)])
    assert 0 < len(timeline.slices) <= 4000
    assert "cut short" in timeline.warnings[0]


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"\n\x05",
        b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\n\x03\x12\x01a",
        b"\n\x05\x0b\x0c\x0b\x0c\x0b",
        b"\n\x04\x12\x02ab" * 3,
        b"\n" + b"\x80" * 100,
        b"\n\x0b\x12\x01a\x1a\x06\x22\x7f\x08\x01\x10\x02",
        b'\x12\x05error"',
    ],
)
def test_damaged_or_empty_is_refused_in_one_line(load, data):
    with pytest.raises(UserError) as caught:
        load(data)
    assert "\n" not in str(caught.value)


def test_many_slices_in_bounded_memory(tmp_path):
    """Only the resident set of a fresh process shows the memory in use, NumPy's included."""
    count = 300_000
    events = b"".join(
        b"\x22" + bytes((len(body),)) + body
        for body in (
            b"\x08\x01\x10" + wire_varint(i * 1000) + b"\x18\xe7\x07\x22\x05\x08\x01\x18\xd2\x09"
            for i in range(count)
        )
    )
    body = b"\x12\x07XLA Ops" + events
    one = b"\x12\x0d/device:TPU:0\x1a" + wire_varint(len(body)) + body
    one += b"\x22\x09\x08\x01\x12\x05\x08\x01\x12\x01a" + b"\x2a\x0d\x08\x01\x12\x09\x08\x01\x12\x05flops"
    path = tmp_path / "many.xplane.pb"
    path.write_bytes(b"\n" + wire_varint(len(one)) + one)
    # VmHWM and not ru_maxrss, which starts at the size of the process that forked.
    code = (
        "import re, sys; from fuseproof.profiling import readers;"
        "from fuseproof.profiling.readers import xplane;"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]);"
        "before = peak(); t = readers.load(sys.argv[1]);"
        "print(len(t.slices), t.devices()[0].busy_ns, len(t.slices.columns['flops'].index), peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=300
    )
    slices, busy, flops, kibibytes = map(int, done.stdout.split())
    assert (slices, busy, flops) == (count, count, count)
    assert kibibytes << 10 < 390 * count


def wire_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes((value,))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2**64 - 1)), max_size=20))
def test_columns_read_what_the_scalar_reader_reads(fields):
    message = b"".join(wire_varint(number << 3) + wire_varint(value) for number, value in fields)
    data = np.frombuffer(message or b"\0", np.uint8)
    ranges = protobuf.Ranges(np.array([0, 0]), np.array([len(message), 0]))
    columns = [
        (int(part.number[0]), int(part.value[0])) for part in protobuf.fields(data, ranges) if len(part.row)
    ]
    assert columns == fields
    assert [(n, v) for n, _, v, _, _ in protobuf.scalar_fields(data, 0, len(message))] == fields
