"""How progress is shown, by where it is looked at: a notebook, a terminal, or what is read later."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

from fuseproof.measure.notebook import NotebookProgress, Output, Shown
from fuseproof.measure.progress import LineProgress, LiveProgress, Progress


@contextlib.contextmanager
def progress(console: Console, *, keep_table: bool = False) -> Iterator[Progress]:
    """Of a run: one output of a notebook, a bar on a terminal, else a line for each piece.

    keep_table: leave the last table of speedups on the terminal at the end.
    """
    if console.is_jupyter and not console.quiet:
        with NotebookProgress() as in_notebook:
            yield in_notebook
    elif console.is_terminal and not console.quiet:
        with LiveProgress(console, keep_table=keep_table) as live:
            yield live
    else:
        yield LineProgress(console)


@contextlib.contextmanager
def status(console: Console, doing: str) -> Iterator[Callable[[str], None]]:
    """A function that says what is being done, where nobody knows how long that takes."""
    if console.is_jupyter:
        output = Output()
        yield lambda what: output.show(Shown(text=f"{doing} {what}"))
    elif console.is_terminal:
        with console.status(doing) as shown:
            yield lambda what: shown.update(f"{doing} {what}")
    else:
        yield lambda what: console.print(f"{doing} {what}", highlight=False, markup=False, soft_wrap=True)
