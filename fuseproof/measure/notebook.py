"""Progress in a notebook: one output that changes, where a terminal has a bar.

It needs nothing but IPython: no widgets, which not every frontend has, no thread, and no event loop of its
own, as a notebook's is running while a cell is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Template

from fuseproof import escaping, offline_page, units
from fuseproof.measure import progress
from fuseproof.measure.progress import Pieces, TimeLeft
from fuseproof.runs.records import Run


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the output says: as HTML, and as one line where a frontend shows only text.

    total: pieces to do; 0 shows no bar. rows: the speedups so far, below `progress.HEADINGS`.
    """

    text: str
    done: int = 0
    total: int = 0
    rows: tuple[tuple[str, ...], ...] = ()

    def __repr__(self) -> str:
        counted = f"[{self.done}/{self.total}] " if self.total else ""
        return escaping.terminal(escaping.line(f"{counted}{self.text}"))

    def _repr_html_(self) -> str:
        return _template().render(shown=self, headings=progress.HEADINGS)


class Output:
    """One output of the current cell."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, shown: Shown) -> None:
        if self._handle is None:
            from IPython.display import display

            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)


class NotebookProgress:
    """Pieces done and the time left, the speedups so far after each block, and at the end one line."""

    def __init__(self) -> None:
        self._output = Output()
        self._left = TimeLeft({})
        self._rows: tuple[tuple[str, ...], ...] = ()
        self._what = "starting"
        self._started = time.monotonic()

    def __enter__(self) -> NotebookProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        done, total = self._left.done, self._left.total
        took = f"in {progress.minutes(time.monotonic() - self._started)}"
        pieces = units.count(total, "piece")
        text = f"{pieces} {took}" if kind is None else f"stopped after {done} of {pieces}, {took}"
        self._output.show(Shown(text=text))

    def begin(self, left: Mapping[str, Pieces]) -> None:
        self._left = TimeLeft(left)
        self._draw()

    def show(self, run: Run) -> None:
        self._rows = tuple(progress.speedups(run))
        self._draw()

    @contextlib.contextmanager
    def piece(self, kind: str, what: str) -> Iterator[None]:
        self._what = what
        self._draw()
        started = time.monotonic()
        yield
        self._left.finished(kind, time.monotonic() - started)

    def _draw(self) -> None:
        self._output.show(
            Shown(
                text=f"{self._what}, about {progress.minutes(self._left.seconds)} left",
                done=self._left.done,
                total=self._left.total,
                rows=self._rows,
            )
        )


@cache
def _template() -> Template:
    return offline_page.templates(__package__).get_template("notebook.html")
