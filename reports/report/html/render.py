"""The HTML format: one self-contained file that works from disk, with and without JavaScript.

The page is complete as rendered here; report.js only filters, sorts and shows details. Its data is one
escaped JSON block of formatted text, so that no number is computed or rounded twice.
"""

from __future__ import annotations

import base64
import functools
import math
import statistics
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from jinja2 import Environment
from markupsafe import Markup

from fuseproof import offline_page, units
from fuseproof.fusion.programs.operations import counted
from fuseproof.reports.claims import band_words
from fuseproof.reports.claims.audit import tally
from fuseproof.reports.claims.sentence import not_one_line
from fuseproof.reports.report import headlines, wording
from fuseproof.reports.report.html import page, plots
from fuseproof.reports.report.summary import Summary
from fuseproof.runs.records import OWN

_FOLDER = "fuseproof.reports.report.html"


def to_html(summary: Summary, others: Mapping[str, Summary] | None = None) -> str:
    """The page.

    others: the same measurements compared with other baselines, by name, which its reader may choose.
    """
    script = offline_page.read(_FOLDER, "report.js")
    pages = {name: _page(other, script, chosen=name) for name, other in (others or {}).items()}
    return _page(summary, script, pages=pages, chosen=_common_baseline(summary))


def _common_baseline(summary: Summary) -> str:
    """What all runs are compared with; empty if they differ."""
    names = {run.baseline for run in summary.runs}
    return names.pop() if len(names) == 1 else ""


def _packed(page: str) -> str:
    """As a page holds another: deflated, in base64."""
    return base64.b64encode(zlib.compress(page.encode(), 9)).decode()


def _page(summary: Summary, script: str, *, chosen: str, pages: Mapping[str, str] | None = None) -> str:
    """One page.

    chosen: the baseline. pages: those of the other baselines, by name; they hold no others themselves.
    """
    lines = list(page.lines(summary))
    bands = page.bands(summary.claims)
    payback = page.payback(summary)
    strips = list(page.strips(summary))
    details = dict(page.details(summary))
    scale = plots.forest_scale(
        [line.speedup for line in lines],
        [0.9, 1.1, *(edge for band in bands for edge in (band.low, band.high))],
    )
    template = _environment().get_template("report.html")
    text = template.render(
        security_policy=offline_page.security_policy(script),
        script=Markup(script),
        summary=summary,
        baselines=list(pages or {}),
        more_baselines=not {row.implementation for row in summary.rows} <= {*(pages or {})},
        chosen=chosen,
        own=OWN,
        headlines=headlines.headlines(summary),
        caveats=wording.caveats(summary),
        glances=list(page.glances(summary)),
        bands=bands,
        bands_at=[(scale.x(band.low), scale.x(band.high)) for band in bands],
        scale=scale,
        means=[line for line in lines if line.id is None],
        cases=page.by_operator(lines),
        filters=page.filters(lines),
        tables=page.tables(summary),
        claim_lines=wording.verdicts(summary, pooled=False),
        meanings=wording.meanings(summary),
        whys=page.whys(summary),
        deployments=[(row, wording.case_name(row.case, summary)) for row in wording.deployments(summary)],
        what_deployment_takes=wording.WHAT_DEPLOYMENT_TAKES,
        payback=payback,
        calls_scale=plots.scale_over(point.value for one in payback for point, _ in one.points),
        strips=strips,
        # A reader who doubts should meet the worst first.
        shown=max(range(len(strips)), key=lambda i: strips[i].width, default=0),
        null_scale=plots.null_scale(summary.null_control),
        populations=[wording.population(each, summary) for each in summary.populations],
        doubts=wording.doubts(summary),
        failures=wording.grouped(m for m in summary.missing if m.kind == "error"),
        skipped=wording.grouped(m for m in summary.missing if m.kind != "error"),
        data=offline_page.embed(
            {
                "details": details,
                "strips": [{"ticks": s.ticks, "lines": [asdict(line) for line in s.lines]} for s in strips],
                "pages": {name: _packed(page) for name, page in (pages or {}).items()},
            }
        ),
    )
    return text.strip() + "\n"


@functools.cache
def _environment() -> Environment:
    environment = offline_page.templates(_FOLDER)
    environment.globals |= {
        "mark": plots.mark,
        "rug_width": plots.RUG_WIDTH,
        "times": units.times,
        "bracket": units.bracket,
        "significant": units.significant,
        "duration": units.duration,
        "memory": units.memory,
        "percent": units.percent,
        "by_rounds": wording.by_rounds,
        "graphs": wording.graphs,
        "calls": wording.calls,
        "counted": counted,
        "command": wording.command,
        "speedup_text": wording.speedup,
        "null_text": wording.null_control,
        "signs": wording.SIGNS,
        "population_columns": wording.POPULATION_COLUMNS,
        "population_says": wording.WHAT_A_POPULATION_SAYS,
        "speedup_is_of": wording.WHAT_A_SPEEDUP_IS_OF,
        "readings": wording.READINGS,
        "band": band_words,
        "not_one_line": not_one_line,
        "tally": tally,
        "isfinite": math.isfinite,
        "median": statistics.median,
        "style": lambda: offline_page.style(_FOLDER, "report.css"),
    }
    environment.filters |= {
        "words": wording.words,
        "when": _when,
        "count": units.count,
    }
    return environment


def _when(timestamp: str) -> str:
    try:
        return datetime.fromisoformat(timestamp).strftime("%-d %B %Y, %H:%M %Z").strip()
    except ValueError:
        return timestamp
