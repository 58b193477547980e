"""Which kernels became which: joined by evidence in the traces, every kernel in one row, counted once."""

from __future__ import annotations

import json

import pytest
from support import shared
from support.xla_schedules import RESULT, step

from fuseproof.profiling import readers
from fuseproof.profiling.analysis import kernel_diff, kernels
from fuseproof.profiling.readers import xla_schedule
from fuseproof.profiling.timeline.intervals import union_length
from fuseproof.profiling.timeline.model import DEVICE_WORK


class Trace:
    """A Kineto trace of one thread and one stream: operators that nest, launches in them, their kernels."""

    def __init__(self):
        self.events, self.now, self.correlation = [], 1_000, 0

    def operator(self, name, *inner):
        """`inner`: names of kernels it launches, or functions that record what is inside."""
        begin = self.now
        self.now += 1
        for one in inner:
            one() if callable(one) else self.kernel(one)
        self.now += 1
        self.events.append(self._event("cpu_op", name, 1, begin, self.now - begin))
        self.now += 1
        return self

    def kernel(self, name, duration=10):
        self.correlation += 1
        arguments = {"correlation": self.correlation}
        self.events.append(self._event("cuda_runtime", "cudaLaunchKernel", 1, self.now, 1, arguments))
        self.events.append(
            self._event("kernel", name, 7, self.now + 2, duration, {**arguments, "device": 0}, pid=0)
        )
        self.now += duration + 5

    def _event(self, cat, name, tid, ts, dur, args=None, pid=99):
        where = {"pid": pid, "tid": tid, "ts": ts, "dur": dur}
        return {"ph": "X", "cat": cat, "name": name, "args": args or {}, **where}

    def load(self, path):
        path.write_text(json.dumps({"traceEvents": self.events}))
        return readers.load(path)


def named(row):
    return (
        row.relation,
        [(k.name, k.count) for k in row.before],
        [(k.name, k.count) for k in row.after],
        row.joined_by,
    )


@pytest.fixture
def eager(tmp_path):
    trace = Trace()
    for _ in range(2):
        trace.operator("aten::linear", lambda: trace.operator("aten::addmm", "gemm_a"))
        trace.operator("aten::gelu", "elementwise<gelu>")
        trace.operator("aten::add_", "elementwise<add>").operator("aten::add", "elementwise<add>")
        trace.operator("aten::layer_norm", lambda: trace.operator("aten::native_layer_norm", "norm", "cast"))
        trace.operator("aten::sort", "radix").operator("aten::copy_", "Memcpy")
    return trace.load(tmp_path / "eager.json")


@pytest.fixture
def compiled(tmp_path):
    trace = Trace()

    def inside():
        trace.operator("aten::addmm", "gemm_b")
        trace.kernel("triton_poi_fused_add_gelu_0")
        trace.kernel("triton_per_fused_native_layer_norm_1")
        trace.kernel("triton_poi_fused_mean_2")
        trace.operator("aten::copy_", "Memcpy")

    for _ in range(2):
        trace.operator("Torch-Compiled Region: 0/0", inside)
    return trace.load(tmp_path / "compiled.json")


def test_eager_kernels_join_those_that_inductor_names_after_their_operators(eager, compiled):
    difference = kernel_diff.compare(eager, compiled)
    assert [named(row) for row in difference.rows] == [
        (
            "merged",
            [("elementwise<gelu>", 2), ("elementwise<add>", 4)],
            [("triton_poi_fused_add_gelu_0", 2)],
            "operators add, gelu",
        ),
        (
            "merged",
            [("norm", 2), ("cast", 2)],
            [("triton_per_fused_native_layer_norm_1", 2)],
            "operator native_layer_norm",
        ),
        ("only-before", [("radix", 2)], [], ""),
        ("only-after", [], [("triton_poi_fused_mean_2", 2)], ""),
        ("matched", [("Memcpy", 2)], [("Memcpy", 2)], "the same name"),
        ("matched", [("gemm_a", 2)], [("gemm_b", 2)], "operator addmm"),
    ]
    assert (difference.before.count, difference.after.count) == (16, 10)
    assert difference.before.unit == "kernel" and difference.before.busy_ns == 16 * 10_000


def test_numbers_are_per_call(eager, compiled):
    half = eager.span_ns // 2 + 1
    difference = kernel_diff.compare(
        eager, compiled, before_calls=[(0, half), (half, 2 * half)], after_calls=[(0, compiled.span_ns // 2)]
    )
    assert (difference.before.count, difference.after.count) == (8, 5)
    assert difference.count("merged") == (5, 2)
    assert difference.sentence() == (
        "8 kernels became 5; 5 merged into 2; 1 only before; 1 only after; "
        "2 matched with 2. Busy 80.0 µs → 50.0 µs per call."
    )
    gelu = next(row for row in difference.rows if row.before and row.before[0].name == "elementwise<gelu>")
    assert gelu.before[0] == kernels.Kernel(name="elementwise<gelu>", count=1, time_ns=10_000)


def test_kernels_without_a_common_operator_are_not_joined(tmp_path):
    first = Trace().operator("aten::t", "k1").load(tmp_path / "a.json")
    second = Trace().operator("aten::t", "k2").load(tmp_path / "b.json")
    rows = kernel_diff.compare(first, second).rows
    assert [row.relation for row in rows] == ["only-before", "only-after"]  # both only regroup memory


def test_a_timeline_with_itself_only_matches(eager):
    difference = kernel_diff.compare(eager, eager)
    assert {row.relation for row in difference.rows} == {"matched"}
    assert difference.count("matched") == (16, 16)
    assert difference.sentence().endswith("Busy 160 µs → 160 µs over the whole trace.")


def test_outermost_operators_take_the_place_of_missing_kernels(tmp_path):
    before = Trace()
    before.operator("aten::linear", lambda: before.operator("aten::addmm"))
    before.operator("aten::gelu").operator(
        "aten::layer_norm", lambda: before.operator("aten::native_layer_norm")
    )
    after = Trace()

    def inside():
        after.operator("aten::addmm").operator("graph_0_cpp_fused_gelu_native_layer_norm_0")

    after.operator("## Call CompiledFxGraph f ##", inside)
    difference = kernel_diff.compare(before.load(tmp_path / "a.json"), after.load(tmp_path / "b.json"))
    assert (difference.before.unit, difference.before.count, difference.after.count) == ("operator", 3, 2)
    merged, matched = difference.rows
    assert named(merged)[1:3] == (
        [("aten::gelu", 1), ("aten::layer_norm", 1)],
        [("graph_0_cpp_fused_gelu_native_layer_norm_0", 1)],
    )
    assert named(matched) == ("matched", [("aten::linear", 1)], [("aten::addmm", 1)], "operator addmm")


@pytest.mark.parametrize(
    "pair",
    [("h100_owlv2.kineto.json.gz", "h100_bert.kineto.json.gz"),
     ("h100_bert.kineto.json.gz", "mi300_torch_compile_triton.kineto.json.gz"),
     ("h100_bert.kineto.json.gz", "mi300_jax_conv.xplane.pb")],
)  # fmt: skip
def test_samples_lose_no_kernel_and_count_none_twice(pair):
    timelines = [readers.load(shared.sample(name)) for name in pair]
    difference = kernel_diff.compare(*timelines)
    for k, (timeline, side) in enumerate(zip(timelines, (difference.before, difference.after), strict=True)):
        found = [kernel for row in difference.rows for kernel in (row.before, row.after)[k]]
        assert sum(kernel.count for kernel in found) == side.count
        assert side.count == sum(device.kernels for device in timeline.devices())
        chosen = timeline.select(timeline.lane_mask(derived=False), DEVICE_WORK)
        total = timeline.slices.duration_ns[chosen].sum()
        assert sum(kernel.time_ns for kernel in found) == pytest.approx(total)
        names = {timeline.names[name] for name in timeline.slices.name[chosen]}
        assert {kernel.name for kernel in found} <= {kernels._NUMBERED.sub("", n) for n in names} | names
        s = timeline.slices
        assert side.busy_ns == union_length(s.start_ns[chosen], s.end_ns[chosen])


def test_vague_names_of_xla_do_not_join():
    """`fusion` of one program and `fusion` of another share the words for how, not for what."""

    def scheduled(first, second):
        steps = [
            step("fusion.1", "fusion", 300, op_name=first),
            step("add_tanh_fusion", "fusion", 50),
            step("fusion.2", "fusion", 100, op_name=second),
        ]
        memory = {**RESULT["memory_plan"], "buffers": []}
        return xla_schedule.to_timeline({**RESULT, "schedule": steps, "memory_plan": memory}, "program")

    difference = kernel_diff.compare(
        scheduled("jit(f)/dot", "jit(f)/dot"), scheduled("jit(f)/sort", "jit(f)/sort")
    )
    assert {row.relation: [k.name for k in (*row.before, *row.after)] for row in difference.rows} == {
        "only-before": ["fusion"],
        "only-after": ["fusion"],
        "matched": ["add_tanh_fusion", "add_tanh_fusion"],
    }
    (unnamed, _) = kernel_diff.compare(scheduled(None, None), scheduled(None, None)).rows
    assert unnamed.joined_by == "the same name, which does not say what is computed"
    assert difference.per == "in the program"
    assert difference.sentence().endswith("Busy 450 cycles → 450 cycles in the program.")


def test_xla_fusions_are_joined_by_their_words():
    timeline = readers.load(shared.sample("mi300_jax_conv.xplane.pb"))
    assert {row.relation for row in kernel_diff.compare(timeline, timeline).rows} == {"matched"}
