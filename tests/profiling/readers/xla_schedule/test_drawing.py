"""Static schedules as timelines: widths are the compiler's cycles or marked unknown, memory is its own."""

from __future__ import annotations

import copy
import json

import pytest
from support.browser import open_viewer
from support.xla_schedules import RESULT, step

from fuseproof.cli import main
from fuseproof.errors import UserError
from fuseproof.profiling import readers
from fuseproof.profiling.analysis import summary
from fuseproof.profiling.pages import timeline_page
from fuseproof.profiling.readers import xla_schedule
from fuseproof.profiling.timeline.model import KINDS
from fuseproof.profiling.writers import perfetto


def drawn(timeline):
    s = timeline.slices
    return [
        (timeline.lanes[lane].name, timeline.names[name], KINDS[kind], start, start + duration)
        for lane, name, kind, start, duration in zip(
            s.lane.tolist(),
            s.name.tolist(),
            s.kind.tolist(),
            s.start_ns.tolist(),
            s.duration_ns.tolist(),
            strict=True,
        )
    ]


def test_widths_are_estimates_or_marked_as_unknown():
    timeline = xla_schedule.to_timeline(RESULT, "pallas")
    assert (timeline.source, timeline.time_unit) == ("tpu-static", "cycles")
    assert drawn(timeline) == [
        ("schedule", "add_fusion", "kernel", 0, 300),
        ("schedule", "kernel", "unestimated", 300, 500),  # the mean of 300 and 100
        ("schedule", "sum", "kernel", 500, 600),
        ("in flight, start to wait", "copy.2", "memcpy", 0, 500),
        ("values in HBM", "add_fusion", "other", 0, 500),
        ("values in VMEM", "copy-start.2{0}", "other", 0, 600),
    ]
    (device,) = timeline.devices()
    assert (device.kernels, device.busy_ns) == (2, 400)  # only what has an estimate counts
    assert "1 instruction of the schedule without an estimate: drawn 200 cycles wide" in timeline.warnings[0]
    assert timeline.slices.columns["cycles"].value.tolist() == [300, 100]
    assert timeline.slices.columns["cycles"].origin == "compile-time estimate"
    assert {lane.kind for lane in timeline.lanes} == {"static"}
    assert [lane.derived for lane in timeline.lanes] == [False, True, True, True]


def test_memory_is_the_compiler_s_assignment():
    timeline = xla_schedule.to_timeline(RESULT, "pallas")
    total, hbm, vmem = timeline.memory
    assert {memory.semantics for memory in timeline.memory} == {"static-plan"}
    assert total.running_bytes().tolist() == [100, 132, 140, 164, 164, 120, 100]
    assert total.peak_bytes == total.stated_peak_bytes == RESULT["peak_bytes"]
    assert (hbm.peak_bytes, vmem.peak_bytes) == (140, 72)  # scratch of the kernel's own code in VMEM
    assert total.time_ns.tolist() == [0, 0, 0, 300, 500, 500, 600]


def test_without_any_estimate_a_warning_names_the_fixed_width():
    result = copy.deepcopy(RESULT)
    for each in result["schedule"]:
        each["estimated_cycles"] = None
    timeline = xla_schedule.to_timeline(result, "none")
    assert timeline.devices() == ()
    assert f"{xla_schedule.WIDTH_WITHOUT_ESTIMATES:,} cycles wide (none has one)" in timeline.warnings[0]
    assert [end - start for lane, *_, start, end in drawn(timeline) if lane == "schedule"] == [10_000] * 3


def test_figures_count_only_instructions_with_an_estimate():
    text = summary.render_text(xla_schedule.to_timeline(RESULT, "pallas"))
    assert "2 instructions with an estimate, at least 400 cycles (estimated)\n" in text
    result = copy.deepcopy(RESULT)
    result["schedule"] = [each for each in result["schedule"] if each["opcode"] != "custom-call"]
    text = summary.render_text(xla_schedule.to_timeline(result, "jax.jit"))
    assert "2 instructions with an estimate, 400 cycles (estimated)\n" in text


def test_the_page_gives_a_schedule_no_share_of_busy_time(browser, tmp_path):
    file = tmp_path / "schedule.html"
    file.write_text(timeline_page.to_html([xla_schedule.to_timeline(RESULT, "pallas")]), encoding="utf-8")
    with open_viewer(browser, file.as_uri()) as (page, log):
        facts = page.locator(".stage > p").text_content()
        assert "2 instructions with an estimate, at least 400 cycles" in facts and "%" not in facts
        table = page.locator("#kernel-summary").text_content()
        assert "2 instructions with an estimate of 2 names" in table
        assert log.errors == []


@pytest.mark.parametrize("many", [False, True])
def test_the_command_reads_what_compile_prints(many, tmp_path, capsys):
    file = tmp_path / "compiled.json"
    skipped = {"status": "skipped", "reason": "torch_xla", "implementation": "triton", "estimate": True}
    file.write_text(json.dumps([skipped, RESULT, RESULT] if many else RESULT, indent=1))
    assert main(["timeline", str(file), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    for document in printed if many else [printed]:
        assert (document["source"], document["time_unit"]) == ("tpu-static", "cycles")
        assert document["memory"][0]["peak_bytes"] == RESULT["peak_bytes"]
    assert len(readers.load_all(tmp_path)) == (2 if many else 1)
    if many:
        with pytest.raises(UserError, match="holds 2 programs"):
            readers.load(file)


def test_a_schedule_and_a_trace_have_no_common_axis(tmp_path, capsys):
    event = {"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 1.5, "dur": 2}
    (tmp_path / "a.json").write_text(json.dumps({"traceEvents": [event]}))
    (tmp_path / "b.json").write_text(json.dumps(RESULT))
    page = tmp_path / "x.html"
    assert main(["timeline", str(tmp_path), "-o", str(page)]) == 2
    assert "no common axis" in capsys.readouterr().err
    assert not page.exists()


def test_the_page_and_perfetto_show_a_schedule(tmp_path):
    timeline = xla_schedule.to_timeline(RESULT, "pallas")
    text = timeline_page.to_html([timeline])
    assert "Nothing here was measured" in text and '"unit":"cycles"' in text
    perfetto.write([timeline], tmp_path / "x.pftrace")
    assert (tmp_path / "x.pftrace").stat().st_size > 0


def _without(key):
    result = copy.deepcopy(RESULT)
    del result["schedule"][2][key]
    return result


@pytest.mark.parametrize(
    "broken",
    [
        {**RESULT, "schedule": None},
        {**RESULT, "memory_plan": None},
        {**RESULT, "schedule": [1]},
        {**RESULT, "schedule": [step("a", "fusion", -5)]},
        {**RESULT, "schedule": [step("a", "fusion", 1 << 70)]},
        {**RESULT, "schedule": [step("a", "fusion", op_name=-1)]},
        {**RESULT, "schedule": [step("a", "fusion", 5, hbm="many")]},
        {**RESULT, "status": "failed", "reason": "out of memory", "schedule": None},
        _without("instruction"),
        _without("vmem_scoped_bytes"),
    ],
)
def test_any_other_result_is_one_line_and_exit_code_2(broken, tmp_path, capsys):
    file = tmp_path / "x.json"
    file.write_text(json.dumps(broken))
    assert main(["timeline", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fuseproof: ") and error.count("\n") == 1
    assert ("out of memory" in error) == (broken.get("status") == "failed")
