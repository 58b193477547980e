"""Progress of a run on the terminal: a bar with the time left and the speedups so far, or lines in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichBar
from rich.table import Table

from fuseproof.runs import statistics
from fuseproof.runs.records import Run

# Of what `speedups` gives.
HEADINGS: Final = ("implementation", "against", "pass", "metric", "cases", "speedup")


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """The pieces of one kind that are left; `guess`: seconds of a piece, used until one is done."""

    count: int
    guess: float


class Progress(Protocol):
    """What the runner reports while it works."""

    def begin(self, left: Mapping[str, Pieces]) -> None: ...
    def piece(self, kind: str, what: str) -> contextlib.AbstractContextManager[None]: ...
    def show(self, run: Run) -> None: ...


class TimeLeft:
    """Time left: for each kind of piece, those that are left times the mean seconds of those done."""

    def __init__(self, left: Mapping[str, Pieces]) -> None:
        self._left = {kind: pieces.count for kind, pieces in left.items()}
        self._guess = {kind: pieces.guess for kind, pieces in left.items()}
        self._seconds: dict[str, list[float]] = {kind: [] for kind in left}

    @property
    def total(self) -> int:
        return sum(self._left.values()) + self.done

    @property
    def done(self) -> int:
        return sum(len(seconds) for seconds in self._seconds.values())

    @property
    def seconds(self) -> float:
        return sum(count * self._mean(kind) for kind, count in self._left.items())

    def finished(self, kind: str, seconds: float) -> None:
        self._seconds[kind].append(seconds)
        self._left[kind] = max(0, self._left[kind] - 1)  # blocks beyond the minimum are not foreseen

    def _mean(self, kind: str) -> float:
        seconds = self._seconds[kind]
        return sum(seconds) / len(seconds) if seconds else self._guess[kind]


class LineProgress:
    """One line for each piece, for logs and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._left = TimeLeft({})

    def begin(self, left: Mapping[str, Pieces]) -> None:
        self._left = TimeLeft(left)

    def show(self, run: Run) -> None:
        """Print nothing: the report has the speedups."""

    @contextlib.contextmanager
    def piece(self, kind: str, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._left.finished(kind, seconds)
        self._console.print(
            f"[{self._left.done}/{self._left.total}] {what}: {seconds:.1f} s, "
            f"about {minutes(self._left.seconds)} left",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class LiveProgress:
    """A bar with the time left, and a table of the speedups so far after each block.

    keep_table: leave the last table on the terminal at the end.
    """

    def __init__(self, console: Console, *, keep_table: bool = False) -> None:
        self._console = console
        self._keep_table = keep_table
        self._left = TimeLeft({})
        self._bar = RichBar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._table: Table | None = None
        self._live = Live(console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> LiveProgress:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.__exit__(None, None, None)
        if self._keep_table and self._table is not None:
            self._console.print(self._table)

    def begin(self, left: Mapping[str, Pieces]) -> None:
        self._left = TimeLeft(left)
        self._task = self._bar.add_task("starting", total=self._left.total, left="")
        self._draw()

    def show(self, run: Run) -> None:
        self._table = speedup_table(run)
        self._draw()

    @contextlib.contextmanager
    def piece(self, kind: str, what: str) -> Iterator[None]:
        self._bar.update(self._task, description=what, left=f"about {minutes(self._left.seconds)} left")
        started = time.monotonic()
        yield
        self._left.finished(kind, time.monotonic() - started)
        self._bar.update(self._task, completed=self._left.done, total=self._left.total)

    def _draw(self) -> None:
        self._live.update(Group(self._bar, self._table) if self._table is not None else self._bar)


def speedup_table(run: Run) -> Table:
    """`speedups` for the terminal."""
    table = Table(title="speedup so far (geometric mean, 95 % interval over blocks)", title_style="")
    for column in HEADINGS:
        table.add_column(column, justify="right" if column in ("cases", "speedup") else "left")
    for row in speedups(run):
        table.add_row(*row)
    return table


def speedups(run: Run) -> Iterator[tuple[str, ...]]:
    """Geometric mean of each implementation's speedup over its baseline, by pass and metric."""
    run = run.as_asked()
    pairs: dict[tuple[str, str, str, str], list[statistics.Comparison]] = {}
    for benchmark in run.benchmarks:
        baseline = run.baseline_of(benchmark)
        if baseline is None or benchmark.is_baseline or benchmark.implementation is None:
            continue
        key = (benchmark.implementation, benchmark.baseline or "", benchmark.pass_ or "", benchmark.metric)
        pairs.setdefault(key, []).append((baseline, benchmark))
    for key, comparisons in pairs.items():
        mean = statistics.geometric_mean(comparisons)
        interval = f" [{mean.ci95[0]:.2f}, {mean.ci95[1]:.2f}]" if mean.blocks > 1 else ""
        yield *key, str(len(comparisons)), f"{mean.value:.2f}×{interval}"


def minutes(seconds: float) -> str:
    """`42 s`, `3 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
