"""The page of timelines as written: nothing is fetched, text is inert, doubts are said."""

import re
from dataclasses import replace

import numpy as np
from support.pages import HOSTILE, Page
from support.timelines import a_timeline
from support.unpacking import unpack

from fuseproof.profiling.pages import packing, timeline_page
from fuseproof.profiling.timeline.model import CALLS_LANE, Column, Lane


def test_nothing_is_fetched(small):
    page = Page(timeline_page.to_html([small]))
    links = [value for name, value in page.attributes if name in ("src", "href", "action", "data", "poster")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\(|@import|https?:", " ".join(page.styles))
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?:|innerHTML|eval\(", page.code)


def hostile_timeline():
    rows = [(0, i * 10, 5, HOSTILE, "kernel", 0, i) for i in range(3)]
    lanes = (Lane(name=HOSTILE, kind="device", device=HOSTILE, process=HOSTILE, thread=HOSTILE),)
    more = {"warnings": (HOSTILE,), "notes": {HOSTILE: HOSTILE}, "lanes": lanes, "name": HOSTILE}
    columns = {HOSTILE: Column(index=np.array([0]), value=np.array([0]), names=True, origin=HOSTILE)}
    return a_timeline(rows, columns=columns, **more)


def test_hostile_names_are_inert(small):
    usual = Page(timeline_page.to_html([small], notes=["a"]))
    page = Page(timeline_page.to_html([hostile_timeline()], title=HOSTILE, notes=[HOSTILE], call=HOSTILE))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in usual.elements}
    assert len(page.scripts) == len(usual.scripts)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE.replace("\u2028", " ") in page.words.replace("\u2028", " ")


def test_a_lone_surrogate_does_not_lose_the_page():
    timeline = a_timeline([(0, 0, 1, "bad \ud800 name", "kernel", 0, -1)])
    timeline_page.to_html([timeline]).encode()
    assert unpack(packing.pack(timeline)).name == ("bad ? name",)


def test_the_page_says_what_to_doubt(small):
    lines = {label: (text, doubt) for label, text, doubt in timeline_page.trust(small)}
    assert lines["Dropped events"] == ("3", True)
    assert lines["Warning"] == ("the trace was cut short", True)
    assert lines["Overlaps"][0].startswith("1 slice began")
    assert "block, shared memory" in lines["Not recorded"][0]
    assert lines["Recorded"][0].startswith("2023-11-14")
    untold = {label: text for label, text, _ in timeline_page.trust(replace(small, dropped_events=None))}
    assert "does not say" in untold["Dropped events"]
    words = Page(timeline_page.to_html([small], notes=["Profiling made it 1.2× slower."])).words
    for expected in ("the trace was cut short", "Profiling made it 1.2× slower.", "cupti"):
        assert expected in words


def test_fuseproof_s_own_lane_of_calls_is_not_a_device(small):
    calls = Lane(name=CALLS_LANE, kind="device", device="CPU", derived=True)
    derived = Lane(name="Steps", kind="device", device="CPU", derived=True)
    host = Lane(name="thread 1", kind="host", device="CPU")
    rows = [
        (0, 0, 9, "profiled call 1", "user_range", 0, -1),
        (1, 0, 9, "step", "user_range", 0, -1),
        (2, 1, 5, "add", "kernel", 0, -1),
    ]
    lines = {
        label: text for label, text, _ in timeline_page.trust(a_timeline(rows, lanes=(calls, derived, host)))
    }
    assert lines["Marks of calls"].startswith("profiled calls: marked by Fuseproof")
    assert lines["Derived lanes"].startswith("Steps: made by a tool")
    assert "grid" not in lines["Not recorded"]
