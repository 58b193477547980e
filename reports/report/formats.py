"""The formats of a report: functions from a Summary to text, by name in FORMATS."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fuseproof import files
from fuseproof.errors import UserError
from fuseproof.reports.report.html.render import to_html
from fuseproof.reports.report.markdown import to_markdown
from fuseproof.reports.report.summarise import summarise, with_baseline
from fuseproof.reports.report.summary import Summary
from fuseproof.runs.records import OWN, Run, is_twin

SCHEMA = 1  # of the JSON format
# Of all that a page's reader may choose: a thousand take some seconds to compute.
_MOST_COMPARISONS: Final = 2000
_ENDINGS: Final[Mapping[str, str]] = {".md": "md", ".json": "json"}


class Format(Protocol):
    """How a summary becomes one text document."""

    def __call__(self, summary: Summary, /) -> str: ...


def render(summary: Summary, format: str, others: Mapping[str, Summary] | None = None) -> str:
    """`summary` as html, md or json. Raises UserError for any other format.

    others: the same with other baselines, by name, of which the reader of an HTML page may choose.
    """
    if format not in FORMATS:
        raise UserError(f"unknown report format {format!r}; choose one of {', '.join(FORMATS)}")
    return to_html(summary, others) if format == "html" else FORMATS[format](summary)


def format_of(path: Path) -> str:
    """The format that the ending of a file says; html for any other ending."""
    return _ENDINGS.get(path.suffix.lower(), "html")


def write(runs: Sequence[Run], path: Path, format: str | None = None, *, baseline: str | None = None) -> Path:
    """Write the report on `runs`, by default in the format of the file's ending; where it is, absolute.

    baseline: as in `summarise`. The reader of an HTML page may choose another.

    Raises UserError for an unknown format or baseline, and if the file cannot be written.
    """
    summary = summarise(runs, beside=path.parent, baseline=baseline)
    format = format or format_of(path)
    names = _baselines(runs, baseline) if format == "html" else []
    others = {name: with_baseline(summary, runs, name) for name in names}
    files.write_text(path, render(summary, format, others))
    return path.resolve()


def _baselines(runs: Sequence[Run], chosen: str | None) -> list[str]:
    """What everything can be compared with in all of the runs: each with its own, or one implementation.

    Where that would be too many comparisons, only those that some are compared with by themselves, and what
    was chosen.
    """
    measured = [
        dict.fromkeys(
            b.implementation for b in run.benchmarks if b.implementation and not is_twin(b.implementation)
        )
        for run in runs
    ]
    names = [name for name in measured[0] if all(name in each for each in measured)]
    if len(names) * sum(len(run.benchmarks) for run in runs) > _MOST_COMPARISONS:
        own = {b.baseline for run in runs for b in run.benchmarks} | {chosen}
        own |= {run.asked_baseline for run in runs}
        names = [name for name in names if name in own]
    return [OWN, *names] if len(names) > 1 else []


def to_json(summary: Summary) -> str:
    """Every field of the summary; what is unbounded or unknown is null, so that any JSON reader takes it."""
    document = {"schema": SCHEMA, **_plain(summary)}
    return json.dumps(document, allow_nan=False, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name.removesuffix("_"): _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


FORMATS: Mapping[str, Format] = {"html": to_html, "md": to_markdown, "json": to_json}
