"""The page, JSON and text of `fuseproof profile --target tpu-…`: the compiler's schedules, an estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import Implementation
from fuseproof.profiling.ahead_of_time.tpu import programs
from fuseproof.profiling.ahead_of_time.tpu.results import Result
from fuseproof.profiling.ahead_of_time.tpu.text import render_text
from fuseproof.profiling.analysis import summary
from fuseproof.profiling.pages import timeline_page
from fuseproof.profiling.readers import xla_schedule
from fuseproof.profiling.timeline.model import Timeline


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """The schedules of a case: `timelines` of implementations that have one, `failures` of the others."""

    group: str
    target: str
    results: Sequence[Result]
    timelines: Sequence[Timeline]
    failures: Sequence[tuple[str, str]]  # implementation, reason

    def to_json(self) -> dict[str, Any]:
        """The document of `fuseproof profile --target … --json`."""
        return {
            "case": self.group,
            "target": self.target,
            "estimate": True,
            "implementations": [
                {"implementation": one.name, **summary.document(one)} for one in self.timelines
            ],
            "failures": [{"implementation": name, "reason": reason} for name, reason in self.failures],
        }

    def to_text(self) -> str:
        """The same for the terminal."""
        return render_text(self.results)

    def to_html(self) -> str:
        """One self-contained page."""
        return timeline_page.to_html(
            self.timelines,
            title=f"{self.group} on {self.target}",
            notes=(
                f"Estimated by the compiler for {self.target}, not measured: no {self.target} was needed.",
            ),
            page=timeline_page.Page(
                kind="static schedule, an estimate", failures=self.failures, failed="Not compiled"
            ),
        )


def compile_schedules(
    case: Case,
    target: str,
    chosen: Sequence[Implementation],
    *,
    folder: Path,
    progress: Callable[[str], None],
) -> Schedules:
    """Compile each of `chosen` for a TPU, keeping the compiler's files in `folder`.

    Raises UserError for an unknown target, if libtpu is missing, and if nothing could be compiled.
    """
    results = programs.compile_all([target], [case], chosen, output=folder, progress=progress)
    failures: list[tuple[str, str]] = []
    timelines: list[Timeline] = []
    for result in results:
        if result.figures is not None and result.figures.schedule:
            timelines.append(xla_schedule.to_timeline(result.to_json(), result.implementation))
        else:
            reason = result.reason if result.figures is None else result.figures.warning
            failures.append((result.implementation, str(reason)))
    if not timelines:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures)
        raise UserError(f"nothing was compiled: {reasons or 'no implementation matches'}")
    return Schedules(group=case.group, target=target, results=results, timelines=timelines, failures=failures)
