"""A comparison: a run as an object with speedups, checks, failures, data frames, a report and profiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseproof.api import display, frames, records
from fuseproof.api.records import Check, Speedup
from fuseproof.api.table import Table
from fuseproof.cases import Case
from fuseproof.errors import UserError, require_known
from fuseproof.reports import report
from fuseproof.runs import merging, run_file
from fuseproof.runs.directory import RunDirectory
from fuseproof.runs.records import Benchmark, Failure, Run

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from fuseproof.profiling.pages.profile_page import Profile


def load(runs: str | Path | Iterable[str | Path]) -> Comparison:
    """The comparison in a run directory, a `run.json`, or a stock pytest-benchmark file.

    runs: a path, a glob of files, or several paths. Several files become one run, the blocks of each after
    those of the one before; they must be of one machine and environment.

    Raises UserError, in one line, if there is no run, it cannot be read, or several do not belong together.
    """
    if isinstance(runs, str | Path):
        return Comparison(merging.load_all(str(runs)), directory=_directory_of(Path(runs)))
    paths = list(runs)
    if not paths:
        raise UserError("no run to load: name a run directory, a run.json or a pytest-benchmark file")
    if len(paths) == 1:
        return load(paths[0])
    source = ", ".join(map(str, paths))
    return Comparison(merging.merge_as_blocks([run_file.load(path) for path in paths], source=source))


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Which implementations are faster, by how much, and whether their results are right.

    run:       all samples, as the run file has them.
    directory: the run's directory; None for a run that is a single file, which cannot be profiled.
    baseline:  the implementation that all others are compared with; `own`: each with its own; None: as the
        run was asked to.

    It is as long as its `speedups`, iterates over them, and `comparison["torch.compile"]` is the one of that
    implementation. An implementation that was wrong has none: `check` and `failures` say why.
    """

    run: Run
    directory: Path | None = None
    baseline: str | None = None

    @cached_property
    def summary(self) -> report.Summary:
        """The contents of its report as plain data: means over cases, claims, break-even points, A/A."""
        return report.summarise([self.run], baseline=self.baseline)

    def against(self, baseline: str) -> Comparison:
        """The same measurements compared with one implementation, of whatever framework.

        baseline: its name; `own` compares each with its own baseline again.

        Raises UserError if it was not measured.
        """
        self.run.against(baseline)
        return dataclasses.replace(self, baseline=baseline)

    @cached_property
    def speedups(self) -> tuple[Speedup, ...]:
        """Of each implementation, case, metric and cache regime that was timed beside its baseline."""
        return tuple(records.speedups(self.summary))

    @cached_property
    def check(self) -> tuple[Check, ...]:
        """Of each implementation and case whether its results were right, and what vouches for that."""
        return tuple(records.checks(self.run, self.summary, self._cases))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What was skipped because it cannot run here, and what was wrong, crashed or was disqualified."""
        return self.run.failures

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the failures."""
        return self.run.notes

    @property
    def complete(self) -> bool:
        """False if the run was stopped before its end: what it had measured is here."""
        return self.run.complete

    @property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """The samples of each implementation as arrays: seconds per call, block and leg of each round."""
        return self.run.benchmarks

    @cached_property
    def samples(self) -> Table:
        """All samples as a table, one row for each: case, implementation, block, leg and seconds."""
        return frames.samples(self.run)

    @cached_property
    def table(self) -> Table:
        """What the data frames hold: a row for each implementation, case and metric, failed ones too."""
        return frames.measurements(self.run, self.summary)

    def __len__(self) -> int:
        return len(self.speedups)

    def __iter__(self) -> Iterator[Speedup]:
        return iter(self.speedups)

    def __contains__(self, implementation: object) -> bool:
        return any(each.implementation == implementation for each in self.speedups)

    def __getitem__(self, implementation: str) -> Speedup:
        """The speedup of an implementation. Raises UserError unless it has exactly one."""
        found = [each for each in self.speedups if each.implementation == implementation]
        if len(found) == 1:
            return found[0]
        if found:
            where = ", ".join(dict.fromkeys(f"{each.case} ({each.metric})" for each in found[:3]))
            raise UserError(
                f"{implementation} has {len(found)} speedups: in {where}{', …' if len(found) > 3 else ''}; "
                "choose from .speedups"
            )
        checks = [each for each in self.check if each.implementation == implementation]
        require_known("implementation", [implementation], [each.implementation for each in self.check])
        reasons = dict.fromkeys(each.message for each in checks if each.message)
        why = "; ".join(reasons) or "nothing was measured that it could be compared with"
        if any(row.is_baseline for row in self.summary.rows if row.implementation == implementation):
            why = "it is a baseline, with which others are compared; .table has its times"
        raise UserError(f"{implementation} has no speedup: {why}")

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each row of `table`; needs no library."""
        return self.table.to_dicts()

    def to_pandas(self) -> pandas.DataFrame:
        """`table` as a pandas DataFrame. Raises UserError, with the command, if pandas is not installed."""
        return self.table.to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """`table` as a polars DataFrame. Raises UserError, with the command, if polars is not installed."""
        return self.table.to_polars()

    def to_arrow(self) -> pyarrow.Table:
        """`table` as a PyArrow table. Raises UserError, with the command, if PyArrow is not installed."""
        return self.table.to_arrow()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface, by which other libraries take `table`; needs PyArrow."""
        return self.table.__arrow_c_stream__(requested_schema)

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report as `fuseproof report` does, and return where it is.

        path: its ending says the format: `.md` and `.json`, else HTML.

        Raises UserError if the file cannot be written.
        """
        return report.write([self.run], Path(path), baseline=self.baseline)

    def profile(
        self,
        case: str | None = None,
        *,
        only: Sequence[str] = (),
        calls: int = 5,
        stacks: bool = False,
        page: str | Path | None = None,
    ) -> Profile:
        """Capture what runs in a call of each implementation, as `fuseproof profile` does.

        case:   name of the case; not needed where there is one.
        only:   implementations; by default all whose results are right.
        calls:  profiled calls of each.
        stacks: record Python frames too, which slows every call.
        page:   file of the HTML page; by default `profile-<case>-<device>.html` in the current folder.

        Nothing that it says is a timing. Interrupted, it gives what was captured until then.
        Raises UserError without a run directory, on another machine, for changed sources, and if nothing
        could be captured.
        """
        from fuseproof.api import profiles  # profilers and readers of traces: slow to import

        if self.directory is None:
            raise UserError(
                f"{self.run.label} is a file, and what it measured is not in it: load the run's directory, "
                "or capture a case with `fuseproof profile CASE`"
            )
        return profiles.take(
            self.run,
            RunDirectory.open(self.directory),
            case,
            only=only,
            calls=calls,
            stacks=stacks,
            page=None if page is None else Path(page),
        )

    @property
    def _cases(self) -> dict[str, Case]:
        """Those of the plan, by name; none where there is no plan that can be read."""
        if self.directory is None or not (self.directory / "plan.json").is_file():
            return {}
        try:
            plan = RunDirectory.open(self.directory).plan
        except UserError:  # damaged, or of a newer version; the run file has all numbers
            return {}
        return {case.group: case for case in plan.cases}

    def __repr__(self) -> str:
        return display.to_text(self.run, self.summary)

    def _repr_html_(self) -> str:
        return display.to_html(self.run, self.summary)

    def _repr_markdown_(self) -> str:
        return display.to_markdown(self.run, self.summary)


def _directory_of(path: Path) -> Path | None:
    """The run directory that was named, or that the named run.json lies in."""
    if path.is_dir():
        return path
    return path.parent if path.name == "run.json" and (path.parent / "plan.json").is_file() else None
