"""The page of captures: call marks, samples and doubts of a record, on one axis with its trace."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.browser import open_viewer

from fuseproof import implementations
from fuseproof.errors import UserError
from fuseproof.profiling.capture import loading
from fuseproof.profiling.capture.record import CaptureRecord, Energy, ProfiledCall, Series, Trace
from fuseproof.profiling.pages import profile_page
from fuseproof.profiling.timeline.model import KINDS

GROUP = "layer_norm[64x256-float32-forward]"
BEGIN = 1_790_000_000_000_000_000  # Unix ns
IMPLEMENTATIONS = {one.name: one for one in implementations.table() if one.workload == "layer_norm"}


def event(cat, name, tid, start_us, dur_us, pid=99, **args):
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": start_us,
        "dur": dur_us,
        "args": args,
    }


def a_capture(folder, name, *, lengths=(100, 120, 110), kernels=("norm",), origin=BEGIN, **changes):
    """A folder as a capture on a GPU leaves it: each call launches `kernels` one after the other, 20 us each.

    lengths: of the calls in us, a millisecond apart.
    """
    events, calls = [], []
    for i, length in enumerate(lengths):
        at = origin / 1000 + 1000 * i
        calls.append(
            ProfiledCall(start_ns=origin + 1_000_000 * i, end_ns=origin + 1_000_000 * i + length * 1000)
        )
        for k, kernel in enumerate(kernels):
            number = 100 * i + k
            events.append(event("cpu_op", f"aten::{kernel}", 1, at + 1 + 25 * k, 8))
            events.append(
                event("cuda_runtime", "cudaLaunchKernel", 1, at + 2 + 25 * k, 2, correlation=number)
            )
            events.append(
                event("kernel", kernel, 7, at + 5 + 25 * k, 20, pid=0, correlation=number, device=0)
            )
    memory = [
        {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 99, "tid": 1, "s": "t",
         "ts": (call.start_ns + offset) / 1000,
         "args": {"Total Allocated": total, "Total Reserved": 1 << 20, "Bytes": size, "Device Id": 0,
                  "Device Type": 1, "Addr": 4096}}
        for call in calls
        for offset, size, total in ((2_000, 5000, 6000), (90_000, -5000, 1000))
    ]  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "torch.json").write_text(
        json.dumps({"traceEvents": events + memory, "deviceProperties": [{"id": 0}]})
    )
    record = {
        "group": GROUP,
        "implementation": IMPLEMENTATIONS[name],
        "device": "cuda",
        "device_name": "NVIDIA H100",
        "versions": {"torch": "2.13.0"},
        "threads": 2,
        "stacks": False,
        "seed": 0,
        "calls": tuple(calls),
        "kernel_counts": (len(kernels),) * len(lengths),
        "kernel_rule": "each kernel on a stream",
        "kernel_names": (),
        "profiler_on_seconds": tuple(length / 1e6 for length in lengths),
        "profiler_off_seconds": (0.00008,) * len(lengths),
        "traces": (Trace(file="torch.json", kind="kineto"),),
    }
    CaptureRecord(**{**record, **changes}).save(folder)
    return loading.load(folder)


@pytest.fixture
def eager(tmp_path):
    return a_capture(tmp_path / "eager", "torch.eager", kernels=("add", "native_layer_norm"))


@pytest.fixture
def compiled(tmp_path):
    kernels = ("triton_per_fused_add_native_layer_norm_0",)
    return a_capture(tmp_path / "compiled", "torch.compile", lengths=(70, 60, 61), kernels=kernels)


def test_calls_and_kernels_lie_on_one_axis(eager):
    timeline = eager.timeline
    s = timeline.slices
    marks = [i for i in range(len(s)) if timeline.names[s.name[i]].startswith("profiled call")]
    assert [(int(s.start_ns[i]), int(s.end_ns[i])) for i in marks] == list(eager.calls)
    assert timeline.origin_ns + eager.calls[0][0] == BEGIN
    assert timeline.lanes[s.lane[marks[0]]].derived  # drawn, never counted
    assert eager.doubts == ()
    assert (eager.side.count, eager.side.busy_ns) == (2, 40_000)
    assert (eager.call_ns, eager.memory_rise.bytes) == (110_000, 5000)
    assert sum(device.kernels for device in timeline.devices()) == 6


def test_a_kernel_slightly_outside_its_call_belongs_to_it(tmp_path):
    """Clocks of host and device disagree by microseconds: idle time between calls is split."""
    calls = [
        (i * 1_000_000 + 50_000, i * 1_000_000 + 100_000) for i in range(3)
    ]  # kernels begin 5 us after 0
    marks = tuple(ProfiledCall(start_ns=BEGIN + start, end_ns=BEGIN + end) for start, end in calls)
    one = a_capture(tmp_path / "a", "torch.eager", calls=marks)
    assert (one.side.count, one.side.busy_ns) == (1, 20_000)
    assert [end for _, end in one.windows[:-1]] == [start for start, _ in one.windows[1:]]


def test_timelines_align_at_the_call_nearest_to_the_median(eager, compiled, tmp_path):
    assert loading.typical_call([eager]) == 2
    assert loading.typical_call([eager, compiled]) == 2
    short = a_capture(tmp_path / "short", "torch.eager-composed", lengths=(100,))
    assert loading.typical_call([eager, short]) == 0
    assert loading.typical_call([]) is None


def samples(name, unit, values, start=BEGIN - 10_000_000, step=1_000_000):
    times = tuple(start + step * i for i in range(len(values)))
    return Series(name=name, unit=unit, device="GPU 0", source="NVML", time_ns=times, value=tuple(values))


def test_samples_around_the_calls_are_drawn_and_unknown_ones_are_gaps(tmp_path):
    power = samples("power", "W", [float(i) if i != 11 else None for i in range(40)])
    bits = samples("clock_event_reasons", "bits", [0.0] * 40)
    one = a_capture(tmp_path / "a", "torch.eager", samples=(power, bits))
    (counter,) = one.timeline.counters  # a bit mask is not a quantity
    assert (counter.name, counter.unit, counter.semantics) == ("power", "W", "sampled")
    np.testing.assert_array_equal(counter.value, [10.0, np.nan, 12.0])  # 2.1 ms of calls and a margin
    assert (counter.time_ns[0] + one.timeline.origin_ns) == BEGIN


@pytest.mark.parametrize(
    ("values", "says", "doubt"),
    [
        ([0.0] * 40, "clock events during the calls: none", False),
        ([1.0] * 40, "idle", False),
        ([0.0] * 11 + [float(0x20 | 0x4)] * 29, "software power cap, software thermal slowdown", True),
        ([8.0] * 5 + [0.0] * 35, "none", False),  # before the calls
        ([None] * 40, "no sample during the calls", True),
        (None, "not sampled", True),
    ],
)
def test_throttling_counts_during_calls_only(values, says, doubt, tmp_path):
    series = () if values is None else (samples("clock_event_reasons", "bits", values),)
    one = a_capture(tmp_path / "a", "torch.eager", samples=series)
    (line,) = [line for line in profile_page.trust(one) if line[0] == "Throttling"]
    assert says in line[1] and line[2] is doubt


def doubts(one):
    return [label for label, _, doubt in profile_page.trust(one) if doubt]


def test_reasons_to_doubt(tmp_path):
    good = a_capture(tmp_path / "good", "torch.eager", device="cpu")
    assert doubts(good) == []
    bad = a_capture(
        tmp_path / "bad",
        "torch.eager",
        device="cpu",
        kernel_counts=(1, 2, 1),
        profiler_off_seconds=(0.00001,),
        warnings=("kernels differ from call to call: 1, 2, 1",),
        not_seen=("the threads of OpenMP",),
        energy=Energy(device="GPU 0", joules=30.0, seconds=1.5, calls=1000),
        dropped_events=7,
    )
    assert doubts(bad) == ["Profiler overhead", "Kernels per call", "Doubt"]
    facts = {label: text for label, text, _ in profile_page.trust(bad)}
    assert facts["Captured"].startswith("3 calls on NVIDIA H100, 2 CPU threads, seed 0")
    assert "11.00 times" in facts["Profiler overhead"]
    assert facts["Energy"].startswith("0.03 J a call")
    assert facts["Not seen"] == "the threads of OpenMP"
    assert bad.timeline.dropped_events == 7
    (described,) = profile_page.document(GROUP, [bad])["implementations"]
    assert described["dropped_events"] == 7 and described["kernels_per_call"] is None


@pytest.mark.parametrize(
    ("off", "doubted", "says"),
    [
        (0.00012, False, "0.92 times (medians)"),
        (0.004, True, "calls without the profiler were disturbed"),
        (0.00005, True, "2.20 times (medians)"),
    ],
)
def test_an_overhead_far_from_one_is_doubted_on_both_sides(off, doubted, says, tmp_path):
    one = a_capture(tmp_path / "a", "torch.eager", profiler_off_seconds=(off,))
    (line,) = [line for line in profile_page.trust(one) if line[0] == "Profiler overhead"]
    assert line[1].endswith(says) and line[2] is doubted


def test_a_trace_with_another_clock_is_doubted(tmp_path):
    calls = tuple(ProfiledCall(start_ns=BEGIN + i * 10**10, end_ns=BEGIN + i * 10**10 + 1) for i in (1, 2, 3))
    one = a_capture(tmp_path / "a", "torch.eager", calls=calls)
    assert "nothing was recorded in 3 of 3 calls" in one.doubts[0]


def test_the_document_and_the_text_have_the_differences(eager, compiled):
    document = json.loads(
        json.dumps(profile_page.document(GROUP, [eager, compiled], [("triton", "needs cuda")]))
    )
    assert [one["kernels_per_call"] for one in document["implementations"]] == [2, 1]
    assert document["failures"] == [{"implementation": "triton", "reason": "needs cuda"}]
    (difference,) = document["differences"]
    (row,) = difference["rows"]
    assert (difference["before"], difference["after"], row["relation"]) == (
        "torch.eager",
        "torch.compile",
        "merged",
    )
    assert [kernel["name"] for kernel in row["before"]] == ["add", "native_layer_norm"]
    assert row["after"][0]["time_ns_per_call"] == 20_000
    text = profile_page.render_text(GROUP, [eager, compiled], [("triton", "needs cuda")])
    assert "2 kernels became 1; 2 merged into 1. Busy 40.0 µs → 20.0 µs per call." in text
    assert "triton: not profiled: needs cuda" in text


def test_the_text_of_a_record_is_escaped(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    one = a_capture(
        tmp_path / "a", "torch.eager", kernels=(hostile,), device_name=hostile, not_seen=(hostile,)
    )
    text = profile_page.to_html(GROUP, [one, one], [(hostile, hostile)])
    assert "<img" not in text


def test_a_record_without_traces_is_refused(tmp_path):
    with pytest.raises(UserError, match="names no trace"):
        a_capture(tmp_path / "a", "torch.eager", traces=())


def test_common_facts_are_shown_once_and_doubts_with_their_timeline(eager, compiled, tmp_path):
    composed = a_capture(
        tmp_path / "composed",
        "torch.eager-composed",
        kernels=("add", "mul"),
        profiler_off_seconds=(0.00001,),
        warnings=("a warning",),
        not_seen=("something",),
    )
    text = profile_page.to_html(GROUP, [eager, compiled, composed])
    panel = text[text.index('<section id="trust">') : text.index("</main>")]
    each = panel[panel.index('id="trust-0"') :]
    assert panel.count("3 calls on NVIDIA H100, 2 CPU threads, seed 0") == 1
    assert panel.count("each kernel on a stream") == 1
    assert "<dd>2 in each of 3 calls <small>torch.eager, torch.eager-composed</small></dd>" in panel
    assert "1 in each of 3 calls" in each and "2 in each" not in each
    of_third = each[each.index('id="trust-2"') :]
    assert "11.00 times" in of_third and "a warning" in of_third and "something" in of_third
    assert of_third.count('class="doubt"') == 2 == each.count('class="doubt"')
    assert [text.count(f'id="trust-{i}"') for i in range(3)] == [1, 1, 1]
    # Doubts of one page of one timeline stand with it, as all it says.
    assert "trust-all" not in profile_page.to_html(GROUP, [composed])


def test_the_browser_shows_the_same_call_of_each(browser, eager, compiled, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(
        profile_page.to_html(GROUP, [eager, compiled], [("triton", "needs cuda")]), encoding="utf-8"
    )
    with open_viewer(browser, file.as_uri()) as (page, log):
        assert page.locator("#align").input_value() == "call:profiled call 3"
        calls = page.evaluate("app.stages.map((stage) => stage.call)")
        assert calls == [list(eager.calls[2]), list(compiled.calls[2])]
        view = page.evaluate("app.stages.map((stage) => stage.view)")
        assert view[0] == view[1] and view[0]["from"] < 0 and 110_000 < view[0]["to"] < 130_000
        # The kernels of a row lead to their slices; the table of names is about the call.
        assert page.locator("#kernel-scope").input_value() == "call"
        page.locator("button.kernel").first.click()
        selected = page.evaluate("stage.timeline.names[stage.timeline.name[stage.selected]]")
        assert selected == "add"
        assert page.locator(".failures div > *").all_text_contents() == ["triton", "needs cuda"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert log.errors == [] and log.requests == [file.as_uri()]
    # On a phone nothing of the table at the head is off screen.
    with open_viewer(browser, file.as_uri(), width=390, height=844, ratio=2, phone=True) as (page, log):
        assert page.evaluate(
            "[...document.querySelectorAll('#glance td, #glance tbody th')]"
            ".every((one) => one.getBoundingClientRect().right <= 390)"
        )
        assert page.locator("#glance td a").count() == 2
        assert log.errors == [] and log.requests == [file.as_uri()]


def test_kinds_of_a_capture_are_known(eager):
    assert {KINDS[kind] for kind in eager.timeline.slices.kind} <= {
        "kernel", "host_call", "framework_op", "user_range",
    }  # fmt: skip
