"""A comparison in a notebook, in Markdown and on a terminal: the same figures, each with its interval.

An implementation that was wrong, crashed or was skipped has its reason in place of figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from jinja2 import Template
from markupsafe import Markup

from fuseproof import escaping, offline_page, units
from fuseproof.reports.report import Summary, markdown, wording
from fuseproof.reports.report.html import plots
from fuseproof.reports.report.summary import Interval, Mean, Row
from fuseproof.runs.records import Run
from fuseproof.units import count

# A cell of a notebook is no place for thousands of lines; what is left out is said.
MOST_LINES: Final = {"html": 200, "md": 60, "text": 40}
_NOT_KNOWN: Final = "no baseline"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A measurement as it is shown, or a geometric mean over cases, which has no time.

    heading: the case, or what a mean is over; empty where it is that of the line before.
    """

    heading: str
    implementation: str
    time: str
    speedup: str
    against: str
    interval: Interval | None
    mark: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What all forms show. left_out: measurements beyond the limit of the form."""

    title: str
    banner: str
    means: tuple[Line, ...]
    cases: tuple[Line, ...]
    left_out: int
    failures: tuple[wording.Group, ...]
    notes: tuple[str, ...]
    caveats: tuple[str, ...]


def to_html(run: Run, summary: Summary) -> str:
    """A fragment for a notebook's output: no script, nothing fetched, in the colours of its surroundings."""
    shown = _shown(run, summary, "html")
    intervals = [line.interval for line in (*shown.means, *shown.cases) if line.interval is not None]
    scale = plots.forest_scale(intervals, [0.95, 1.05]) if intervals else None
    return _template().render(
        shown=shown,
        scale=scale,
        style=Markup(offline_page.read(__package__, "comparison.css")),
        count=count,
    )


def to_markdown(run: Run, summary: Summary) -> str:
    """A table of the measurements, then what failed and what limits the conclusions."""
    shown = _shown(run, summary, "md")
    lines = [f"**{escaping.markdown(shown.title)}**", ""]
    if shown.banner:
        lines += [f"**{escaping.markdown(shown.banner)}**", ""]
    header = ("case", "implementation", "time per call [95 %]", "speedup [95 %]", "against")
    heading, body = "", []
    for line in (*shown.means, *shown.cases):
        heading = line.heading or heading
        body.append((heading, line.implementation, line.time, line.speedup, line.against))
    if body:
        lines += [*markdown.table(header, body), ""]
    lines += [f"- {escaping.markdown(text)}" for text in _remarks(shown)]
    return "\n".join(lines).rstrip() + "\n"


def to_text(run: Run, summary: Summary) -> str:
    """The same for a terminal: nothing in it moves the cursor."""
    shown = _shown(run, summary, "text")
    lines = [shown.title, *([shown.banner] if shown.banner else [])]
    every = (*shown.means, *shown.cases)
    name, time, speedup = (
        max((len(getattr(line, field)) for line in every), default=0)
        for field in ("implementation", "time", "speedup")
    )
    for line in every:
        if line.heading:
            lines.append(line.heading)
        against = f"against {line.against}" if line.against else ""
        figures = f"{line.time:<{time}}  {line.speedup:<{speedup}}  {against}"
        lines.append(f"  {line.implementation:<{name}}  {figures}".rstrip())
    lines += _remarks(shown)
    return "\n".join(escaping.terminal(escaping.visible(line)) for line in lines)


def _remarks(shown: Shown) -> Iterator[str]:
    if shown.left_out:
        yield _left_out(shown)
    yield from shown.caveats
    for group in shown.failures:
        yield _failure(group)
    for note in shown.notes:
        yield f"note: {note}"


def _left_out(shown: Shown) -> str:
    return (
        f"… and {count(shown.left_out, 'more measurement')}: .speedups, .to_pandas() and .report() have all"
    )


def _failure(group: wording.Group) -> str:
    word = group.kind if group.kind == "skipped" else "FAILED"
    cases = ", ".join(group.cases) if len(group.cases) < 3 else count(len(group.cases), "case")
    return f"{word} {group.implementation} at {group.stage}, in {cases}: {group.message}"


def _shown(run: Run, summary: Summary, form: str) -> Shown:
    (of_run,) = summary.runs
    most = MOST_LINES[form]
    banner = ""
    if not run.complete:
        banner = f"Incomplete run: it was stopped after {count(of_run.blocks, 'block')}."
    return Shown(
        title=f"{of_run.suite or of_run.source}: {of_run.machine}",
        banner=banner,
        means=tuple(_of_means(summary)),
        cases=tuple(_of_cases(summary, summary.rows[:most])),
        left_out=max(len(summary.rows) - most, 0),
        failures=tuple(wording.grouped(summary.missing)),
        notes=run.notes,
        caveats=(
            *wording.caveats(summary),
            *(f"doubted: {which}: {why}." for which, why in wording.doubts(summary)),
        ),
    )


def _of_means(summary: Summary) -> Iterator[Line]:
    """Geometric means over all cases of a pass, metric and cache regime that has several."""
    before = None
    for mean in summary.means:
        if mean.operator is None and mean.dtype is None and mean.cases > 1:
            heading = _scope(mean, summary)
            yield Line(
                heading="" if heading == before else heading,
                implementation=mean.implementation,
                time="",
                speedup=wording.speedup(mean.speedup),
                against=mean.baseline,
                interval=mean.speedup,
                mark=plots.mark(mean.speedup),
            )
            before = heading


def _scope(mean: Mean, summary: Summary) -> str:
    parts = (f"geometric mean of {count(mean.cases, 'case')}", wording.words(mean.pass_))
    return ", ".join(part for part in (*parts, wording.timing(mean, summary)) if part)


def _of_cases(summary: Summary, rows: tuple[Row, ...]) -> Iterator[Line]:
    before = None
    for row in rows:
        heading = ", ".join(part for part in (row.case.group, wording.timing(row.case, summary)) if part)
        alone = "baseline" if row.is_baseline else _NOT_KNOWN
        yield Line(
            heading="" if heading == before else heading,
            implementation=row.implementation,
            time=_time(row.median_seconds),
            speedup=wording.speedup(row.speedup) if row.speedup else alone,
            against=(row.baseline or "") if row.speedup else "",
            interval=row.speedup,
            mark=plots.mark(row.speedup) if row.speedup else "",
        )
        before = heading


def _time(seconds: Interval) -> str:
    """`1.23 ms [1.20–1.26]`."""
    size, _ = units.time_unit(seconds.value)
    value = units.duration(seconds.value)
    if seconds.low is None or seconds.high is None:
        return f"{value} (one block: no interval)"
    return f"{value} {units.bracket(seconds.low / size, seconds.high / size)}".rstrip()


@cache
def _template() -> Template:
    return offline_page.templates(__package__).get_template("comparison.html")
