"""What counts as a kernel of which call, on traces small enough to count by hand."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fuseproof.profiling import kernel_count, readers
from fuseproof.profiling.capture.record import ProfiledCall
from fuseproof.profiling.timeline.model import empty_slices

UNIX = 1_790_000_000_000_000_000  # Unix nanoseconds of microsecond 0 of the Kineto traces here


def call(start_us, end_us):
    return ProfiledCall(start_ns=UNIX + start_us * 1000, end_ns=UNIX + end_us * 1000)


@pytest.fixture
def kineto(tmp_path):
    def load(*events):
        path = tmp_path / "trace.json"
        path.write_text(json.dumps({"baseTimeNanoseconds": UNIX, "traceEvents": events}))
        return readers.load(path)

    return load


def event(category, name, start, duration, *, process=1, thread=1, **arguments):
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": process,
        "tid": thread,
        "ts": start,
        "dur": duration,
        "args": arguments,
    }


def names_by_call(timeline, calls):
    slices = timeline.slices
    return [
        [timeline.names[slices.name[index]] for index in mine]
        for mine in kernel_count.by_call(timeline, calls)
    ]


def test_the_outermost_operator_that_computes_counts(kineto):
    timeline = kineto(
        event("cpu_op", "aten::warm_up", -9000, 10),
        event("cpu_op", "aten::layer_norm", 100, 50),
        event("cpu_op", "aten::native_layer_norm", 110, 30),
        event("cpu_op", "aten::mul", 115, 5),
        event("cpu_op", "aten::mul", 160, 5),
        event("user_annotation", "cpp_fused_0", 170, 5),
        event("cpu_op", "aten::mul", 120, 5, thread=2),
        event("cpu_op", "aten::mul", 2500, 5),  # between two calls, far from both
        event("cpu_op", "aten::mul", 5100, 5),
    )
    assert kernel_count.names_to_judge(timeline) == [
        "aten::layer_norm",
        "aten::mul",
        "aten::native_layer_norm",
        "aten::warm_up",
        "cpp_fused_0",
    ]
    marked = kernel_count.mark(
        timeline, ["aten::native_layer_norm", "aten::mul", "aten::warm_up", "cpp_fused_0"]
    )
    assert names_by_call(marked, [call(100, 200), call(5000, 5200)]) == [
        ["aten::native_layer_norm", "aten::mul", "aten::mul", "cpp_fused_0"],
        ["aten::mul"],
    ]
    (device,) = marked.devices()
    assert (device.name, device.kernels, device.busy_ns) == ("CPU", 7, 1000 * (10 + 30 + 5 + 5 + 5 + 5))
    assert timeline.devices() == ()  # the reader's timeline is unchanged
    assert kernel_count.rule("torch", timeline) == kernel_count.RULES["torch"]


def test_on_a_device_kernels_belong_to_the_call_that_launched_them(kineto):
    on_gpu = {"process": 0, "thread": 7, "device": 0}
    timeline = kineto(
        event("cpu_op", "aten::mul", 100, 50),
        event("cuda_runtime", "cudaLaunchKernel", 120, 5, correlation=1),
        event("cuda_runtime", "cudaLaunchKernel", 5100, 5, correlation=2),
        event("kernel", "launched in the first call, run in the second", 5050, 9, correlation=1, **on_gpu),
        event("kernel", "second", 5120, 10, correlation=2, **on_gpu),
        event("kernel", "ncclDevKernel_AllReduce", 5130, 10, **on_gpu),
        event("gpu_memcpy", "Memcpy HtoD", 5140, 10, **on_gpu),
        event("gpu_memset", "Memset", 5150, 10, **on_gpu),
        event("gpu_user_annotation", "call", 5000, 500, **on_gpu),
    )
    assert kernel_count.names_to_judge(timeline) == []
    marked = kernel_count.mark(timeline, ["aten::mul"])
    assert names_by_call(marked, [call(100, 200), call(5000, 5200)]) == [
        ["launched in the first call, run in the second"],
        ["second", "ncclDevKernel_AllReduce"],
    ]
    assert kernel_count.rule("torch", timeline) == kernel_count.DEVICE_RULE


def test_a_device_that_only_copied_ran_no_kernel(kineto):
    timeline = kineto(
        event("cpu_op", "aten::copy_", 100, 50),
        event("gpu_memcpy", "Memcpy DtoD", 120, 10, process=0, thread=7, device=0),
    )
    marked = kernel_count.mark(timeline, ["aten::copy_"])
    assert names_by_call(marked, [call(100, 200)]) == [[]]
    assert kernel_count.rule("torch", marked) == kernel_count.DEVICE_RULE


def test_a_snapshot_of_memory_has_no_slices_to_mark(kineto):
    timeline = kineto(event("cpu_op", "aten::mul", 0, 1))
    empty = dataclasses.replace(timeline, slices=empty_slices(), lanes=(), names=())
    assert len(kernel_count.mark(empty, ["aten::mul"]).slices) == 0


@pytest.fixture
def xspace(tmp_path):
    """Loads an XSpace of planes; of each: lines, by name, of events (name, start ns, duration ns, is HLO)."""
    profiler = pytest.importorskip("jax.profiler", reason="needs jaxlib to write XSpaces")

    def load(planes):
        text = []
        for plane, lines in planes.items():
            names = sorted({name for events in lines.values() for name, *_ in events})
            body = "".join(
                f"event_metadata {{ key: {number} value {{ id: {number} name: '{name}' }} }}\n"
                for number, name in enumerate(names, 1)
            )
            body += "stat_metadata { key: 1 value { id: 1 name: 'hlo_op' } }\n"
            for line, events in lines.items():
                body += f"lines {{ name: '{line}' timestamp_ns: {UNIX}\n"
                for name, start, duration, is_hlo in events:
                    stats = f"stats {{ metadata_id: 1 str_value: '{name}' }}" if is_hlo else ""
                    body += (
                        f"events {{ metadata_id: {names.index(name) + 1} offset_ps: {start * 1000} "
                        f"duration_ps: {duration * 1000} {stats} }}\n"
                    )
                body += "}\n"
            text.append(f"planes {{ name: '{plane}' {body} }}")
        path = tmp_path / "host.xplane.pb"
        path.write_bytes(profiler.ProfileData.text_proto_to_serialized_xspace("\n".join(text)))
        return readers.load(path)

    return load


def test_thunks_of_the_cpu_run_to_their_end_on_another_thread(xspace):
    timeline = xspace(
        {
            "/host:CPU": {
                "pool 1": [
                    ("call", 0, 5_000, False),
                    ("while.1", 1_000, 3_000, True),
                    ("add", 1_100, 500, True),
                    ("end: add", 1_550, 10, False),
                    ("add", 2_000, 500, True),
                    ("dot.2", 3_000, 100, True),
                    ("sort.1", 3_500, 100, True),
                ],
                "pool 2": [("end: add", 2_900, 10, False), ("end: dot.2", 4_500, 10, False)],
            }
        }
    )
    marked = kernel_count.mark(timeline, [])
    only = [ProfiledCall(start_ns=UNIX, end_ns=UNIX + 5_000)]
    assert names_by_call(marked, only) == [["add", "add", "dot.2", "sort.1"]]
    (mine,) = kernel_count.by_call(marked, only)
    assert marked.slices.duration_ns[mine].tolist() == [500, 900, 1_500, 100]
    # Sorted still, and what crosses lies in sub-lanes of its own; the HLO ops have moved with their slices.
    order = list(zip(marked.slices.lane, marked.slices.start_ns, -marked.slices.duration_ns, strict=True))
    assert order == sorted(order)
    assert max(lane.depth for lane in marked.lanes) >= 3
    column = marked.slices.columns["hlo_op"]
    assert [marked.names[column.get(index)] for index in mine] == ["add", "add", "dot.2", "sort.1"]


def test_an_end_that_is_missing_moves_no_other(xspace):
    thunks = [("add", 1_000, 100, True), ("add", 2_000, 100, True)]
    timeline = xspace({"/host:CPU": {"pool": thunks, "pool 2": [("end: add", 3_000, 10, False)]}})
    marked = kernel_count.mark(timeline, [])
    assert marked.slices.duration_ns.tolist() == timeline.slices.duration_ns.tolist()


def test_a_tpu_counts_its_operations_and_not_its_loops(xspace):
    """Synthetic, to the schema: not verified on hardware."""
    step = [
        ("while.3", 0, 900_000, True),
        ("fusion.1", 100_000, 200_000, True),
        ("all-reduce.2", 400_000, 100_000, True),
        ("copy.4", 600_000, 100_000, True),
    ]

    def at(start):
        return [(name, start + offset, duration, is_hlo) for name, offset, duration, is_hlo in step]

    second = 4_000_000
    timeline = xspace(
        {
            "/device:TPU:0": {
                "Steps": [("0", 0, 1_000_000, False), ("1", second, 1_000_000, False)],
                "XLA Modules": [("jit_step(1)", 0, 1_000_000, False)],
                "XLA Ops": at(0) + at(second),
            },
            "/host:CPU": {"python": [("PjitFunction(step)", 0, 100_000, False)]},
        }
    )
    # The host's stamps are half a millisecond late.
    calls = [
        ProfiledCall(start_ns=UNIX + start + 500_000, end_ns=UNIX + start + 1_400_000)
        for start in (0, second)
    ]
    marked = kernel_count.mark(timeline, [])
    assert names_by_call(marked, calls) == [["fusion.1", "all-reduce.2"]] * 2
    assert kernel_count.rule("jax", marked) == kernel_count.DEVICE_RULE
