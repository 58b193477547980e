"""The viewer in a real browser: it computes what NumPy does, and follows pointer, keys and windows.

One window serves all tests of a page; each leaves the page as it found it.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from support import shared
from support.browser import open_viewer, wait_until
from support.pages import HOSTILE
from support.synthetic_trace import synthetic
from support.timelines import a_timeline, first_event
from support.unpacking import unpack

from fuseproof.profiling import readers
from fuseproof.profiling.pages import packing, timeline_page
from fuseproof.profiling.timeline.model import DEVICE_WORK


def busy_union(timeline, t0, t1):
    s = timeline.slices
    chosen = timeline.select(timeline.lane_mask(derived=False), DEVICE_WORK)
    first = first_event(timeline)
    start = np.clip(s.start_ns[chosen] - first, t0, t1)
    end = np.clip(s.end_ns[chosen] - first, t0, t1)
    order = np.argsort(start)
    start, end = start[order], end[order]
    reached = np.concatenate([[t0], np.maximum.accumulate(end)[:-1]])
    return int(np.maximum(end - np.maximum(start, reached), 0).sum())


@pytest.fixture(scope="module")
def trace():
    trace = synthetic(6_000, streams=3)
    # Shorter slices leave the device idle between them: an interval's edges then matter.
    return replace(trace, slices=replace(trace.slices, duration_ns=trace.slices.duration_ns // 5))


@pytest.fixture(scope="module")
def page_file(trace, tmp_path_factory):
    hostile = replace(trace, names=(HOSTILE, *trace.names[1:]))
    file = tmp_path_factory.mktemp("viewer") / "page.html"
    file.write_text(timeline_page.to_html([hostile]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def page(browser, page_file):
    with open_viewer(browser, page_file.as_uri(), width=1200, height=900) as (page, log):
        yield page
        assert log.errors == []
        assert log.requests == [page_file.as_uri()]


def view(page):
    return page.evaluate("[stage.view.from, stage.view.to]")


def plot(page):
    """The plot's box: left, top, width, height."""
    return page.evaluate("(b => [b.left, b.top, b.width, b.height])(stage.plot.getBoundingClientRect())")


@pytest.fixture
def whole(page):
    """The page with everything in view and nothing chosen."""
    page.evaluate(
        "app.measure = null, app.setMeasuring(false), app.choose(stage, -1), app.find(''), stage.showAll(),"
        "scrollTo(0, 0)"
    )
    return page


def test_the_browser_decodes_every_slice(whole, trace):
    sums = whole.evaluate("""(({ count, start, duration, correlation }) => [
        count, start.reduce((a, b) => a + b, 0), duration.reduce((a, b) => a + b, 0),
        correlation.reduce((a, b) => a + b - 1, 0)])(stage.timeline)""")
    s = trace.slices
    assert sums == [
        len(s),
        int((s.start_ns - first_event(trace)).sum()),
        int(s.duration_ns.sum()),
        int(s.correlation.sum()),
    ]


@pytest.mark.parametrize("text", ["kernel_3", "OPERATOR_61", "img src=x", "/_(1|2)_fused/", "no such name"])
def test_search_counts_what_numpy_counts(whole, trace, text):
    names = (HOSTILE, *trace.names[1:])
    pattern = re.compile(text.strip("/") if text.startswith("/") else re.escape(text), re.I)
    expected = np.isin(trace.slices.name, [i for i, name in enumerate(names) if pattern.search(name)]).sum()
    assert whole.evaluate(f"app.find({json.dumps(text)})") == expected
    hits = whole.evaluate("[...stage.search.hits].map((i) => stage.timeline.start[i])")
    assert hits == sorted(hits)


def test_search_is_typed_and_enter_goes_on(whole):
    whole.locator("#search").focus()
    whole.keyboard.insert_text("kernel_36_")
    whole.keyboard.press("Enter")
    whole.keyboard.press("Enter")
    assert whole.locator("#hits").text_content().startswith("2 of ")
    assert "kernel_36_" in whole.locator("#selected .name").text_content()
    whole.evaluate("document.getElementById('search').value = ''")


def test_a_hit_in_another_timeline_is_scrolled_to(browser, tmp_path):
    first, second = (
        a_timeline([(0, 0, 5, name, "kernel", 0, -1), (1, 0, 5, "host", "host_call", 0, -1)], name=name)
        for name in ("first", "second")
    )
    file = tmp_path / "two.html"
    file.write_text(timeline_page.to_html([first, *[first] * 5, second]), encoding="utf-8")
    visible = (
        "(b => b.top >= 0 && b.bottom <= innerHeight + 1)(app.stages[6].element.getBoundingClientRect())"
    )
    with open_viewer(browser, file.as_uri(), width=900, height=600) as (page, _):
        assert not page.evaluate(visible)
        page.locator("#search").focus()
        page.keyboard.insert_text("second")
        page.keyboard.press("Enter")
        assert page.evaluate("app.stages[6].selected") >= 0
        assert page.evaluate(visible)


@pytest.mark.parametrize("seed", range(4))
def test_a_measured_interval_is_what_numpy_says(whole, trace, seed):
    s = trace.slices
    t0, t1 = np.sort(np.random.default_rng(seed).integers(0, trace.span_ns, 2)).tolist()
    found = whole.evaluate(f"fuseproof.measured(stage.timeline, {t0}, {t1})")
    start, end = s.start_ns - first_event(trace), s.end_ns - first_event(trace)
    within = (start < t1) & ((end > t0) | ((start == end) & (start >= t0)))
    work = trace.select(trace.lane_mask(derived=False), DEVICE_WORK)
    assert found["slices"] == within.sum()
    (device,) = found["devices"]
    assert device["slices"] == (within & work).sum()
    assert device["busy"] == busy_union(trace, t0, t1)


def test_the_kernel_table_agrees_with_the_timeline(whole, trace):
    (device,) = trace.devices()
    found = whole.evaluate(
        "(({ busy, rows }) => [busy, rows.length, rows.reduce((n, r) => n + r.count, 0)])"
        "(fuseproof.byName(stage.timeline, 0, Infinity))"
    )
    names = np.unique(trace.slices.name[trace.select(kinds=DEVICE_WORK)])
    assert found == [device.busy_ns, len(names), device.kernels]


def test_wheel_drag_and_keys_move_the_view(whole):
    left, top, width, height = plot(whole)
    x, y = left + width / 4, top + height / 2
    before = view(whole)
    whole.mouse.move(x, y)
    whole.mouse.wheel(0, -200)
    wait_until(whole, f"stage.view.from !== {before[0]}")
    zoomed = view(whole)
    assert zoomed[1] - zoomed[0] < (before[1] - before[0]) * 0.8
    # What is under the pointer stays under it.
    under = [v[0] + (v[1] - v[0]) / 4 for v in (before, zoomed)]
    assert under[0] == pytest.approx(under[1], abs=(before[1] - before[0]) / width)
    whole.mouse.down()
    whole.mouse.move(x - 100, y)
    whole.mouse.up()
    panned = view(whole)
    assert panned[0] - zoomed[0] == pytest.approx((zoomed[1] - zoomed[0]) * 100 / width, rel=1e-6)
    whole.evaluate("stage.scroller.focus()")
    for key, check in {
        "d": lambda a, b: b[0] > a[0],
        "a": lambda a, b: b[0] < a[0],
        "w": lambda a, b: b[1] - b[0] < a[1] - a[0],
        "s": lambda a, b: b[1] - b[0] > a[1] - a[0],
    }.items():
        before = view(whole)
        whole.keyboard.press(key, delay=80)
        assert check(before, view(whole)), key
    whole.keyboard.press("0")
    assert whole.evaluate("stage.view.from") < 0


def test_two_fingers_zoom(whole):
    left, top, width, height = plot(whole)
    y = top + height / 2
    before = view(whole)

    protocol = whole.context.new_cdp_session(whole)

    def touch(kind, *xs):
        points = [{"x": x, "y": y, "id": i} for i, x in enumerate(xs)]
        protocol.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    middle = left + width / 2
    touch("touchStart", middle - 50, middle + 50)
    touch("touchMove", middle - 100, middle + 100)
    touch("touchEnd")
    protocol.detach()
    after = view(whole)
    assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 2, rel=0.05)


def test_a_drag_with_shift_measures(whole, trace):
    left, top, width, height = plot(whole)
    y = top + height - 3  # over no lane: nothing to snap to
    whole.keyboard.down("Shift")
    whole.mouse.move(left + 200, y)
    whole.mouse.down()
    whole.mouse.move(left + 500, y)
    whole.mouse.up()
    whole.keyboard.up("Shift")
    at = whole.evaluate("app.measure.at")
    shown = view(whole)
    assert at[1] - at[0] == pytest.approx((shown[1] - shown[0]) * 300 / width, rel=0.02)
    busy = whole.evaluate("fuseproof.measured(stage.timeline, ...stage.interval).devices[0].busy")
    assert busy == pytest.approx(busy_union(trace, *(int(t) for t in at)), abs=len(trace.lanes))
    assert "busy" in whole.locator("#measured").text_content()


def test_click_and_arrow_keys_select(whole):
    whole.evaluate("stage.showSlice(stage.timeline.work[0].order[50])")
    left, top, width, _ = plot(whole)
    y = whole.evaluate(
        "(b => b.y - stage.scroll + b.height / 2)(stage.bandOf(stage.timeline.work[0].order[50]))"
    )
    whole.mouse.click(left + width / 2, top + y)
    assert whole.evaluate("stage.selected === stage.timeline.work[0].order[50]")
    whole.evaluate("stage.scroller.focus()")
    whole.keyboard.press("ArrowRight")
    assert whole.evaluate("stage.selected === stage.timeline.work[0].order[50] + 1")
    assert "Duration" in whole.locator("#live").text_content()


def point_at(page, i):
    """Move the pointer to the middle of slice `i`, shown large; its place on the page."""
    page.evaluate(f"stage.showSlice({i})")
    left, top, width, _ = plot(page)
    y = page.evaluate(f"(b => b.y - stage.scroll + b.height / 2)(stage.bandOf({i}))")
    page.mouse.move(left + width / 2, top + y)
    page.locator("#details").wait_for(state="visible")
    return left + width / 2, top + y


def test_what_is_pointed_at_is_described_with_memory_at_that_moment(whole, trace):
    i = whole.evaluate("stage.timeline.work[0].order[70]")
    x, _ = point_at(whole, i)
    details = whole.locator("#details").text_content()
    packed = unpack(packing.pack(trace))
    middle = packed.start_ns[i] + packed.duration_ns[i] / 2
    (counter,) = trace.counters
    value = counter.value[np.searchsorted(counter.time_ns - first_event(trace), middle, side="right") - 1]
    assert packed.name[i] in details and "Registers" in details and "Shared memoryunknown" in details
    assert f"{value / 2**30:.2f} GiB" in details
    assert details.count(counter.name) == 1  # a chart with one series of its own name
    # A line through lanes and charts stands where the pointer is, and goes with it.
    assert whole.evaluate("stage.cross.getBoundingClientRect().left") == pytest.approx(x, abs=1)
    assert whole.evaluate("(([c, i]) => c.bottom === i.bottom - 1)([stage.cross, stage.cross.parentNode]"
                          ".map((one) => one.getBoundingClientRect()))")  # fmt: skip
    whole.mouse.move(5, 5)
    assert whole.locator("#details").is_hidden()
    wait_until(whole, "stage.cross.hidden")


def test_two_clicks_measure_from_edge_to_edge(whole):
    """Near the edge of a slice a point snaps to it: the measured interval is the slice."""
    i = whole.evaluate("stage.timeline.work[0].order[90]")
    _, y = point_at(whole, i)
    whole.evaluate("stage.scroller.focus()")
    whole.keyboard.press("m")
    left = plot(whole)[0]
    edges = whole.evaluate(
        f"[0, 1].map((k) => stage.xOf(stage.timeline.start[{i}] + k * stage.timeline.duration[{i}]))"
    )
    for edge, inward in zip(edges, (3, -3), strict=True):
        whole.mouse.click(left + edge + inward, y)
    assert whole.evaluate("app.measure.at.map((t) => t + stage.zero)") == whole.evaluate(
        f"[stage.timeline.start[{i}], stage.timeline.start[{i}] + stage.timeline.duration[{i}]]"
    )
    whole.keyboard.press("Escape")
    assert whole.evaluate("app.measure") is None


def test_no_slice_is_lost_where_many_share_a_pixel(whole, trace):
    """Every pixel in which a slice starts is painted, every pixel that none touches is paper."""
    drawn = whole.evaluate("""(() => {
      app.render();
      const { width, height } = stage.base;
      const band = stage.layout.bands[0];
      const y = Math.round((band.y + band.height / 2 - stage.scroll) * stage.ratio);
      const line = new Uint32Array(stage.contexts.base.getImageData(0, y, width, 1).data.buffer);
      const painted = [...line].map((pixel) => pixel !== app.colours.paperPixel);
      return { painted, from: band.row.from, to: band.row.to, t0: stage.start, t1: stage.end };
    })()""")
    packed = unpack(packing.pack(trace))
    painted = np.array(drawn["painted"])
    scale = len(painted) / (drawn["t1"] - drawn["t0"])
    rows = slice(drawn["from"], drawn["to"])
    left = (packed.start_ns[rows] - drawn["t0"]) * scale
    right = left + packed.duration_ns[rows] * scale
    assert len(left) > len(painted)  # or nothing would share a pixel
    assert painted[left.astype(int)].all()
    touched = np.zeros(len(painted) + 2, np.int64)
    np.add.at(touched, left.astype(int), 1)
    np.add.at(touched, np.ceil(right).astype(int) + 1, -1)
    assert not painted[np.cumsum(touched)[: len(painted)] == 0].any()


def test_a_lane_and_a_group_fold(whole):
    height = whole.evaluate("stage.layout.height")
    whole.evaluate("document.querySelector('.gutter .group').click()")
    folded = whole.evaluate("stage.layout.height")
    whole.evaluate("document.querySelector('.gutter .group').click()")
    assert folded < height == whole.evaluate("stage.layout.height")


def test_a_phone_shows_it_without_sideways_scrolling(browser, page_file):
    with open_viewer(browser, page_file.as_uri(), width=390, height=844, ratio=2, phone=True) as (page, log):
        assert page.evaluate("stage.element.classList.contains('narrow')")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert log.errors == []


def test_a_window_made_narrow_and_wide_again_is_laid_out_anew(whole):
    whole.set_viewport_size({"width": 390, "height": 844})
    try:
        wait_until(whole, "stage.element.classList.contains('narrow')")
        assert whole.evaluate("document.documentElement.scrollWidth") == 390
    finally:
        whole.set_viewport_size({"width": 1200, "height": 900})
        wait_until(whole, "!stage.element.classList.contains('narrow')")


def test_two_timelines_are_compared_and_move_together_or_not(browser, tmp_path):
    def with_call(name, at, kernels, warm=()):
        rows = [(0, at + 10 * i, 5, kernel, "kernel", 0, -1) for i, kernel in enumerate(kernels)]
        return a_timeline(
            [*warm, *rows, (1, at - 1, 100, "call", "user_range", 0, -1), (1, 0, 1, "x", "other", 0, -1)],
            name=name,
        )

    eager = with_call(
        "eager", 1_000, ["add", "mul", "mul", "norm"], warm=[(0, 100, 5, "add", "kernel", 0, -1)]
    )
    compiled = with_call("compiled", 500_000, ["fused", "norm"])
    file = tmp_path / "two.html"
    file.write_text(timeline_page.to_html([eager, compiled], call="call"), encoding="utf-8")
    with open_viewer(browser, file.as_uri()) as (page, log):
        assert page.evaluate("app.stages.map((s) => s.zero)") == [999, 499_999]
        # The line above the canvases is of the call, not of what the trace holds before it.
        facts = page.evaluate("app.stages.map((s) => s.facts.textContent)")
        assert "GPU 0, the call at zero: 4 kernels, busy 20.0 ns of 100 ns (20.0 %)" in facts[0]
        page.evaluate("app.align('start', true)")
        facts = page.evaluate("app.stages.map((s) => s.facts.textContent)")
        assert "GPU 0: 5 kernels" in facts[0]
        page.evaluate("app.align('call:call', true)")
        # Neither are a name of the table and the first hit.
        of_second = "app.stages[0].timeline.start[app.stages[0].selected] - app.stages[0].zero"
        page.evaluate("document.getElementById('kernel-scope').value = 'call'; app.kernels.render()")
        page.evaluate(
            "[...document.querySelectorAll('#kernel-table tbody button')]"
            ".find((one) => one.title === 'add').click()"
        )
        assert page.evaluate(of_second) == 1
        page.evaluate("app.choose(app.stages[0], -1), app.find('add'), app.go(1)")
        assert page.evaluate(of_second) == 1
        assert page.locator("#hits").text_content() == "2 of 2"
        words = page.locator("#difference-summary").text_content()
        assert words.startswith("2 names vanished, 1 appeared, 1 in both. Kernels 4 → 2;")
        page.evaluate("app.stages[0].zoom(0.5)")
        assert page.evaluate("app.stages[0].view === app.stages[1].view")
        page.evaluate("document.getElementById('link').click(); app.stages[0].zoom(0.5)")
        assert page.evaluate("(([a, b]) => a.view.to - a.view.from < b.view.to - b.view.from)(app.stages)")
        assert log.errors == []


@pytest.mark.parametrize(
    "name", ["h100_bert.kineto.json.gz", "mi300_jax_conv.xplane.pb", "h100_memory_timeline.raw.gz"]
)
def test_sample_traces_show_their_busy_time(browser, tmp_path, name):
    timeline = readers.load(shared.sample(name))
    text = timeline_page.to_html([timeline])
    file = tmp_path / "trace.html"
    file.write_text(text, encoding="utf-8")
    with open_viewer(browser, file.as_uri()) as (page, log):
        assert page.evaluate("app.stages[0].timeline.count") == len(timeline.slices)
        found = page.evaluate("fuseproof.measured(app.stages[0].timeline, 0, 1e18).devices")
        expected = [(d.name, d.kernels, d.busy_ns) for d in timeline.devices() if d.kernels]
        assert [(one["name"], one["slices"], one["busy"]) for one in found] == expected
        assert log.errors == []
