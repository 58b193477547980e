"""Writes timelines as one HTML page that works from disk and draws them on canvases.

Each timeline is in its own script block, packed by `packing`, in base64. All text of a trace is in that
stream or escaped: no browser parses it as HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

from fuseproof import offline_page
from fuseproof.errors import UserError
from fuseproof.profiling.analysis import kernel_diff
from fuseproof.profiling.analysis.kernel_diff import Difference, Row
from fuseproof.profiling.pages.packing import SOURCES, pack
from fuseproof.profiling.pages.viewer_script import viewer_script
from fuseproof.profiling.timeline.model import CALLS_LANE, DEVICE_WORK, KIND, Timeline
from fuseproof.units import count, number

_FOLDER: Final = "fuseproof.profiling.pages.html"
# Label, sentence, and whether it is a reason to doubt.
Line = tuple[str, str, bool]

_MOST_ROWS: Final = 150  # in a table of kernels that became others
_MOST_NAMES: Final = 6  # shown in one of its rows; the others unfold
_STATIC: Final = (
    "Nothing here was measured: this is the compiler's schedule. Widths are its estimated cycles, memory is "
    "its assignment; a loop's body is drawn once, and waiting for memory is not included."
)
_CALLS: Final = (
    f"{CALLS_LANE}: marked by Fuseproof with the clock of the calling process, from just before a call until "
    "its results are ready; drawn, never counted."
)
_NO_WIDTH: Final = (
    "Pale instructions, such as hand-written kernels, have no estimate: their width means nothing, and the "
    "lengths of timelines with them do not compare."
)


@dataclass(frozen=True, kw_only=True)
class Glance:
    """One line of the table at the head of a profile: an implementation's numbers per call, and a bar.

    bar:    its call, and the busy time within, as shares of the longest call; None if unknown.
    cells:  text under `Page.head`.
    doubts: number of reasons to doubt it.
    anchor: index of its timeline.
    """

    name: str
    tags: Sequence[str]
    bar: tuple[float, float] | None
    cells: Sequence[str]
    doubts: int
    anchor: int


@dataclass(frozen=True, kw_only=True)
class Page:
    """The parts of a page beyond its timelines.

    trust:       for each timeline, lines shown before those of `trust`.
    differences: (before, after) indices and their difference; None compares the first with every other.
    failures:    (implementation, reason).
    """

    kind: str = "timeline"
    head: Sequence[str] = ()  # titles of the columns of `glance`
    glance: Sequence[Glance] = ()
    failures: Sequence[tuple[str, str]] = ()
    failed: str = "Not profiled"  # the heading of `failures`
    trust: Sequence[Sequence[Line]] = ()
    differences: Sequence[tuple[int, int, Difference]] | None = None


def to_html(
    timelines: Sequence[Timeline],
    *,
    title: str | None = None,
    notes: Sequence[str] = (),
    call: str | None = None,
    page: Page | None = None,
) -> str:
    """One page with all `timelines`, one above the other, their zeros aligned.

    notes: sentences under the title.
    call:  name of a user range that marks a call: if every timeline has it, they are aligned at its first
           start, and the page opens on that call.
    Raises UserError for a timeline too long for a browser's numbers, and for a static schedule, which counts
    cycles, beside a measured trace.
    """
    units = {one.time_unit for one in timelines}
    if len(units) > 1:
        raise UserError(
            "a static schedule counts cycles, a trace nanoseconds: they have no common axis; write two pages"
        )
    if title is None:
        more = " and more" if len(timelines) > 3 else ""
        title = " and ".join(one.name for one in timelines[:3]) + more
    page = page or Page()
    differences = page.differences
    if differences is None:
        compared = ((0, k, kernel_diff.compare(timelines[0], timelines[k])) for k in range(1, len(timelines)))
        differences = [one for one in compared if one[2].before.count and one[2].after.count]
    environment = offline_page.templates(_FOLDER)
    scripts = offline_page.read(_FOLDER, "old_browser.js"), viewer_script()
    text = environment.get_template("viewer.html").render(
        security_policy=offline_page.security_policy(*scripts),
        title=title,
        notes=[*notes, *([_NO_WIDTH] if any(map(_has_unestimated, timelines)) else [])],
        page=page,
        differences=[_difference(*one) for one in differences],
        is_static="cycles" in units,
        most_names=_MOST_NAMES,
        trust=_shared(
            [one.name for one in timelines],
            [
                [*first, *trust(one)]
                for one, first in zip(timelines, page.trust or [()] * len(timelines), strict=True)
            ],
        ),
        trace_notes=[dict(one.notes) for one in timelines],
        style=offline_page.style(_FOLDER, "viewer.css"),
        old_browser=Markup(scripts[0]),
        script=Markup(scripts[1]),
        settings=offline_page.embed({"call": call, "unit": next(iter(units), "ns")}),
        blocks=[Markup(base64.b64encode(pack(one)).decode("ascii")) for one in timelines],
    )
    return text.strip() + "\n"


def _difference(before: int, after: int, found: Difference) -> dict[str, Any]:
    joined = [row for row in found.rows if row.before and row.after]
    rows = [*_alone(found), *joined]
    rows.sort(key=lambda row: kernel_diff.RELATIONS.index(row.relation))
    rows, left_out = rows[:_MOST_ROWS], len(rows) - _MOST_ROWS
    return {
        "per": found.per,
        "before": found.before.name,
        "after": found.after.name,
        "sentence": found.sentence(),
        "unlike": _unlike(found),
        "left_out": max(0, left_out),
        "rows": [
            {
                "relation": row.relation,
                "joined_by": row.joined_by,
                "sides": [
                    {
                        "timeline": place,
                        "count": number(sum(k.count for k in side)) if side else "",
                        "time": kernel_diff.total(side, unit),
                        "kernels": [
                            (number(kernel.count), kernel.name, kernel_diff.total([kernel], unit))
                            for kernel in side
                        ],
                    }
                    for place, side, unit in (
                        (before, row.before, found.before.time_unit),
                        (after, row.after, found.after.time_unit),
                    )
                ],
            }
            for row in rows
        ],
    }


def _alone(found: Difference) -> Iterator[Row]:
    """The kernels of one side only, in one row for each side."""
    before = tuple(k for row in found.rows if row.relation == "only-before" for k in row.before)
    after = tuple(k for row in found.rows if row.relation == "only-after" for k in row.after)
    if before:
        yield Row(relation="only-before", before=before)
    if after:
        yield Row(relation="only-after", after=after)


def _has_unestimated(timeline: Timeline) -> bool:
    return bool((timeline.slices.kind == KIND["unestimated"]).any())


def _unlike(found: Difference) -> str:
    if found.before.unit != found.after.unit:
        return f"Different things are compared: {found.before.unit}s before, {found.after.unit}s after."
    if found.before.source != found.after.source:
        return "Two profilers: they differ in what a kernel is, and only names of operators join kernels."
    return ""


def _shared(names: Sequence[str], lines: Sequence[Sequence[Line]]) -> dict[str, Any]:
    """Each line once: lines of all timelines, lines of several with their names, and the rest by timeline.

    A doubt that not all timelines share is shown with each timeline that has it.
    """
    having: dict[Line, list[int]] = {}
    for i, mine in enumerate(lines):
        for line in dict.fromkeys(mine):
            having.setdefault(line, []).append(i)
    several = {line: who for line, who in having.items() if 1 < len(who) < len(lines) and not line[2]}
    all_have = [line for line, who in having.items() if len(who) == len(lines) > 1]
    shown_before = {*several, *all_have}
    return {
        "all": all_have,
        "several": [
            (label, text, ", ".join(names[i] for i in who)) for (label, text, _), who in several.items()
        ],
        "each": [
            (name, [line for line in dict.fromkeys(mine) if line not in shown_before])
            for name, mine in zip(names, lines, strict=True)
        ],
    }


def trust(timeline: Timeline) -> Iterator[Line]:
    """The facts that decide how far to trust a timeline."""
    yield "Source", SOURCES[timeline.source], False
    if timeline.source == "tpu-static":
        yield "Estimate", _STATIC, True
    if timeline.origin_is_unix:
        yield "Recorded", _date(timeline.origin_ns // 10**9), False
    dropped = timeline.dropped_events
    if timeline.source == "tpu-static":
        yield from (("Rule", warning, True) for warning in timeline.warnings)
        return
    if dropped is None:
        yield "Dropped events", "The trace does not say whether any were dropped.", False
    else:
        yield "Dropped events", f"{dropped:,}" if dropped else "none", dropped > 0
    overlaps = timeline.overlaps
    if overlaps:
        began = f"{count(overlaps, 'slice')} began before an earlier one of the same stream ended"
        text = f"{began}; drawn in sub-lanes, and busy time is a union."
        yield "Overlaps", text, False
    else:
        yield "Overlaps", "none between slices of one stream", False
    yield from (("Warning", warning, True) for warning in timeline.warnings)
    if any(one.derived and one.name == CALLS_LANE for one in timeline.lanes):
        yield "Marks of calls", _CALLS, False
    derived = [one.name for one in timeline.lanes if one.derived and one.name != CALLS_LANE]
    if derived:
        shown = ", ".join(derived[:12]) + (f" and {len(derived) - 12} more" if len(derived) > 12 else "")
        yield "Derived lanes", f"{shown}: made by a tool from other lanes; drawn, never counted.", False
    clocks = list(dict.fromkeys(one.clock for one in timeline.lanes))
    if len(clocks) > 1:
        yield "Clocks", f"{', '.join(clocks)}: times of different clocks must not be compared.", True
    unseen = list(_unseen(timeline))
    if unseen:
        yield "Not recorded", "; ".join(unseen), False


def _date(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:,} s after 1970, by the trace"


def _unseen(timeline: Timeline) -> Iterator[str]:
    columns = timeline.slices.columns
    work = timeline.select(timeline.lane_mask(derived=False), DEVICE_WORK)
    if not work.any():
        yield "no kernel of any device; the table of kernels shows framework operators instead"
    elif any(one.kind == "device" and not one.derived for one in timeline.lanes):
        missing = [name for name in ("grid", "block", "registers", "shared_memory") if name not in columns]
        if missing and timeline.source in ("kineto", "xplane"):
            yield f"{', '.join(missing).replace('_', ' ')} of kernels"
    if not timeline.memory and not any(one.unit == "bytes" for one in timeline.counters):
        yield "memory"
