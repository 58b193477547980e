"""The page, the JSON and the text of `fuseproof profile`: captures of one case side by side.

A profile explains but does not time: its single calls are slowed by the profiler, and the page says so. The
page lists the reasons to doubt each capture.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuseproof import escaping, files, privacy
from fuseproof.errors import UserError
from fuseproof.profiling.analysis import kernel_diff
from fuseproof.profiling.analysis.kernel_diff import Difference
from fuseproof.profiling.analysis.kernels import Kernel
from fuseproof.profiling.capture import collection as captures
from fuseproof.profiling.capture import loading
from fuseproof.profiling.capture.collection import Collection, Failure
from fuseproof.profiling.capture.loading import CALL_NAME, LoadedCapture
from fuseproof.profiling.capture.record import CaptureRecord
from fuseproof.profiling.pages import timeline_page
from fuseproof.profiling.pages.timeline_page import Glance, Line, Page
from fuseproof.units import count, duration, memory

# NVML's clock event reasons (NVML API reference, nvmlClocksEventReasons): name, and whether to doubt.
CLOCK_EVENTS: Final[Mapping[int, tuple[str, bool]]] = {
    0x1: ("idle", False),
    0x2: ("clocks set by an application", False),
    0x4: ("software power cap", True),
    0x8: ("hardware slowdown", True),
    0x10: ("sync boost", True),
    0x20: ("software thermal slowdown", True),
    0x40: ("hardware thermal slowdown", True),
    0x80: ("hardware power brake", True),
    0x100: ("clocks set for a display", False),
}
# Above this ratio a profiled call shows mostly the profiler. A profiler makes nothing faster: below the
# inverse ratio something else slowed the calls without it.
_HEAVY_OVERHEAD: Final = 1.5
Pair = tuple[int, int, Difference]

NOTES: Final = (
    "Single calls with a profiler on, to see what runs and why. To compare speed, use fuseproof run.",
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Profile:
    """What was captured of one case, none of it a timing.

    case:     name of the case.
    profiles: the captures; `failures`: (implementation, reason) of those that could not be made.
    page:     the HTML page, with the timelines side by side.
    stopped:  the user interrupted it: the captures are those made until then.
    """

    case: str
    profiles: Sequence[LoadedCapture]
    failures: Sequence[Failure]
    page: Path
    stopped: bool

    @property
    def text(self) -> str:
        """Kernels, busy time and overhead of each implementation, for the terminal."""
        return render_text(self.case, self.profiles, self.failures)

    @property
    def document(self) -> dict[str, Any]:
        """The same, and which kernels became which, as `fuseproof profile --json` has it."""
        return document(self.case, self.profiles, self.failures)

    def __repr__(self) -> str:
        return escaping.terminal(f"{self.text}profile: {self.page}")


def draw(collection: Collection, page: Path | None = None) -> Profile:
    """Write the page of a collection; its default is `profile-<case>-<device>.html` in the current folder.

    Raises UserError if there is no capture or the page cannot be written, and KeyboardInterrupt if the user
    stopped it before the first.
    """
    failures = [(name, privacy.anonymous_document(reason)) for name, reason in collection.failures]
    if not collection.profiles:
        if collection.stopped:
            raise KeyboardInterrupt
        reasons = "; ".join(f"{name}: {reason}" for name, reason in collection.failures)
        raise UserError(f"nothing was profiled: {reasons or 'no implementation matches'}")
    device = collection.profiles[0].record.device
    page = page or Path(f"profile-{captures.plain(collection.group, device)}.html")
    try:
        html = to_html(collection.group, collection.profiles, failures)
    except UserError as error:
        folder = collection.profiles[0].folder.parent
        raise UserError(f"the captures in {folder} cannot be drawn: {error}") from None
    files.write_text(page, html)
    return Profile(
        case=collection.group,
        profiles=collection.profiles,
        failures=failures,
        page=page,
        stopped=collection.stopped,
    )


def to_html(group: str, profiles: Sequence[LoadedCapture], failures: Sequence[Failure] = ()) -> str:
    """One self-contained HTML page. Raises UserError as `timeline_page.to_html` does."""
    number = loading.typical_call(profiles)
    call = None if number is None else CALL_NAME.format(number + 1)
    notes = [*NOTES]
    if call is not None and len(profiles) > 1:
        notes.append(f"The timelines are aligned at the start of {call}, the call nearest to the median.")
    page = Page(
        kind="profile",
        head=("Call, profiler on", "Busy", "Kernels", "Memory a call adds", "Profiler on / off"),
        glance=_glance(profiles),
        failures=failures,
        trust=[list(trust(one)) for one in profiles],
        differences=differences(profiles),
    )
    timelines = [one.timeline for one in profiles]
    return timeline_page.to_html(timelines, title=group, notes=notes, call=call, page=page)


def differences(profiles: Sequence[LoadedCapture]) -> list[Pair]:
    """Pairs to compare: each with its baseline if that is captured, else with the first."""
    place = {one.name: i for i, one in enumerate(profiles)}
    pairs = [
        (place[one.record.implementation.baseline], i)
        for i, one in enumerate(profiles)
        if place.get(one.record.implementation.baseline, i) != i
    ]
    pairs += [(0, i) for i in range(1, len(profiles)) if all(after != i for _, after in pairs)]
    return [
        (
            before,
            after,
            kernel_diff.compare(
                profiles[before].timeline,
                profiles[after].timeline,
                before_calls=profiles[before].windows,
                after_calls=profiles[after].windows,
            ),
        )
        for before, after in pairs
    ]


def document(
    group: str, profiles: Sequence[LoadedCapture], failures: Sequence[Failure] = ()
) -> dict[str, Any]:
    """The document of `fuseproof profile --json`. Unknown is null."""
    return {
        "case": group,
        "implementations": [_described(one) for one in profiles],
        "failures": [{"implementation": name, "reason": reason} for name, reason in failures],
        "differences": [
            {
                "before": found.before.name,
                "after": found.after.name,
                "rows": [
                    {
                        "relation": row.relation,
                        "joined_by": row.joined_by,
                        "before": [_kernel(kernel) for kernel in row.before],
                        "after": [_kernel(kernel) for kernel in row.after],
                    }
                    for row in found.rows
                ],
            }
            for _, _, found in differences(profiles)
        ],
    }


def render_text(group: str, profiles: Sequence[LoadedCapture], failures: Sequence[Failure] = ()) -> str:
    """The same for the terminal."""
    lines = [f"{group}: single calls with a profiler on, not timings"]
    if profiles:
        lines.append(f"  {'':26}{'kernels':>8} {'busy':>10} {'call':>10} {'on / off':>9}")
    for one in profiles:
        record = one.record
        lines.append(
            f"  {one.name:26}{_count(record):>8} {duration(one.side.busy_ns, 'ns'):>10} "
            f"{_optional(one.call_ns):>10} {_overhead(record):>9}"
        )
    for before, after, found in differences(profiles):
        if profiles[after].record.implementation.baseline == profiles[before].name:
            lines.append(f"  {found.before.name} → {found.after.name}: {found.sentence()}")
    lines += [f"  {name}: not profiled: {reason}" for name, reason in failures]
    return "\n".join(lines) + "\n"


def trust(one: LoadedCapture) -> Iterator[Line]:
    """(label, sentence, whether it is a reason to doubt) for each fact in a capture's record."""
    record = one.record
    text = f"{len(record.calls)} calls on {record.device_name}, "
    text += f"{count(record.threads, 'CPU thread')}, seed {record.seed}"
    text += ", with Python stacks" if record.stacks else ""
    yield "Captured", text, False
    yield (
        "Versions",
        ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items())),
        False,
    )
    if record.overhead is None:
        yield "Profiler overhead", "unknown: calls with or without the profiler were not timed", True
    else:
        on, off = (
            duration(statistics.median(seconds))
            for seconds in (record.profiler_on_seconds, record.profiler_off_seconds)
        )
        text = f"a call takes {on} with the profiler, {off} without: {record.overhead:.2f} times (medians)"
        disturbed = record.overhead < 1 / _HEAVY_OVERHEAD
        if disturbed:
            text += "; calls without the profiler were disturbed"
        yield "Profiler overhead", text, disturbed or record.overhead > _HEAVY_OVERHEAD
    counts = record.kernel_counts
    if not counts:
        yield "Kernels per call", "the trace does not show which call a kernel belongs to", True
    elif record.kernels_per_call is None:
        yield "Kernels per call", f"differ from call to call: {', '.join(map(str, counts))}", True
    else:
        yield "Kernels per call", f"{counts[0]} in each of {len(counts)} calls", False
    if counts:
        yield "A kernel is", record.kernel_rule, False
    yield from _throttling(record)
    if record.energy is not None:
        energy = record.energy
        text = (
            f"{energy.joules_per_call:.3g} J a call: {energy.joules:.3g} J over {energy.calls:,} calls in "
            f"{energy.seconds:.2f} s, the profiler off, the whole board"
        )
        yield "Energy", text, energy.seconds < 1
    for doubt in (*one.doubts, *(text for text in record.warnings if text not in one.timeline.warnings)):
        yield "Doubt", doubt, True
    if record.samples:
        sources = dict.fromkeys(f"{each.name.replace('_', ' ')} ({each.source})" for each in record.samples)
        yield "Sampled", ", ".join(sources), False
    for text in record.not_seen:
        yield "Not seen", text, False


def _throttling(record: CaptureRecord) -> Iterator[Line]:
    series = [each for each in record.samples if each.name == "clock_event_reasons"]
    if not series:
        if record.device == "cuda":
            yield "Throttling", "unknown: the board's clock events were not sampled", True
        return
    first, last = (record.calls[0].start_ns, record.calls[-1].end_ns) if record.calls else (0, 1 << 63)
    for each in series:
        known = [
            int(value)
            for time, value in zip(each.time_ns, each.value, strict=True)
            if value is not None and first <= time <= last
        ]
        if not known:
            yield "Throttling", f"{each.device}: no sample during the calls", True
            continue
        seen = [
            (name, bad) for bit, (name, bad) in CLOCK_EVENTS.items() if any(value & bit for value in known)
        ]
        names = ", ".join(name for name, _ in seen) or "none"
        text = f"{each.device}: clock events during the calls: {names} ({len(known)} samples)"
        yield "Throttling", text, any(bad for _, bad in seen)


def _glance(profiles: Sequence[LoadedCapture]) -> list[Glance]:
    known = [one.call_ns for one in profiles if one.call_ns is not None]
    longest = max(known, default=0.0)
    baselines = {one.record.implementation.baseline for one in profiles}
    found = []
    for i, one in enumerate(profiles):
        record, call = one.record, one.call_ns
        tags = ["baseline"] if one.name in baselines else []
        rise = one.memory_rise
        found.append(
            Glance(
                name=one.name,
                tags=tags,
                bar=(call / longest, min(one.side.busy_ns, call) / longest) if call and longest else None,
                cells=(
                    _optional(call),
                    duration(one.side.busy_ns, "ns"),
                    _count(record),
                    "unknown" if rise is None else memory(rise.bytes),
                    _overhead(record),
                ),
                doubts=sum(doubt for *_, doubt in (*trust(one), *timeline_page.trust(one.timeline))),
                anchor=i,
            )
        )
    return found


def _described(one: LoadedCapture) -> dict[str, Any]:
    record, timeline = one.record, one.timeline
    return {
        "implementation": one.name,
        "framework": record.framework,
        "baseline": record.implementation.baseline,
        "device": record.device_name,
        "threads": record.threads,
        "stacks": record.stacks,
        "seed": record.seed,
        "calls": len(record.calls),
        "call_ns_profiler_on": one.call_ns,
        "kernels_per_call": record.kernels_per_call,
        "kernel_counts": list(record.kernel_counts),
        "busy_ns_per_call": one.side.busy_ns,
        "busy_unit": one.side.unit,
        "memory_rise_bytes": None if one.memory_rise is None else one.memory_rise.bytes,
        "memory_allocator": None if one.memory_rise is None else one.memory_rise.allocator,
        "profiler_overhead": record.overhead,
        "joules_per_call": record.energy.joules_per_call if record.energy else None,
        "overlaps": timeline.overlaps,
        "dropped_events": timeline.dropped_events,
        "trust": [
            {"label": label, "text": text, "doubt": doubt}
            for label, text, doubt in (*trust(one), *timeline_page.trust(timeline))
        ],
        "directory": str(one.folder),
    }


def _kernel(kernel: Kernel) -> dict[str, Any]:
    return {"name": kernel.name, "count_per_call": kernel.count, "time_ns_per_call": kernel.time_ns}


def _count(record: CaptureRecord) -> str:
    if record.kernels_per_call is not None:
        return f"{record.kernels_per_call:,}"
    counts = record.kernel_counts
    return f"{min(counts)} to {max(counts)}" if counts else "unknown"


def _overhead(record: CaptureRecord) -> str:
    return "unknown" if record.overhead is None else f"{record.overhead:.2f} ×"


def _optional(ns: float | None) -> str:
    return "unknown" if ns is None else duration(ns, "ns")
