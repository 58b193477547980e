"""Progress suits where it is looked at: one output of a notebook that changes, a bar, or lines."""

from __future__ import annotations

import asyncio
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from rich.console import Console
from support.pages import HOSTILE, Page

from fuseproof.measure import display
from fuseproof.measure.notebook import NotebookProgress, Shown
from fuseproof.measure.progress import LineProgress, LiveProgress, Pieces
from fuseproof.runs import run_file

LEFT = {"torch": Pieces(count=1, guess=7.0), "block": Pieces(count=2, guess=4.0)}


@pytest.fixture
def outputs(monkeypatch):
    """What a notebook shows, output by output, each with all that it showed one after the other."""
    shown = []

    class Handle:
        def __init__(self, first):
            self.history = [first]
            shown.append(self.history)

        def update(self, what):
            self.history.append(what)

    module = ModuleType("IPython.display")
    module.display = lambda what, display_id: Handle(what)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def in_notebook():
    return Console(file=io.StringIO(), force_jupyter=True)


def test_what_suits_is_chosen(outputs):
    terminal = Console(file=io.StringIO(), force_terminal=True, force_jupyter=False)
    quiet = Console(file=io.StringIO(), force_jupyter=True, quiet=True)
    log = Console(file=io.StringIO(), force_terminal=False, force_jupyter=False)
    for console, kind in (
        (in_notebook(), NotebookProgress),
        (terminal, LiveProgress),
        (log, LineProgress),
        (quiet, LineProgress),
    ):
        with display.progress(console) as progress:
            assert type(progress) is kind


def test_one_output_changes_with_every_piece_and_ends_as_one_line(outputs, tmp_path, write_run):
    blocks = {"torch.eager": [2.0, 2.0], "torch.compile": [1.0, 1.0]}
    run = run_file.load(write_run(tmp_path / "run.json", blocks))
    with display.progress(in_notebook()) as progress:
        progress.begin(LEFT)
        with progress.piece("torch", "checking"):
            pass
        for number in (1, 2):
            with progress.piece("block", f"block {number} of 2"):
                pass
            progress.show(run)
    (history,) = outputs
    texts = [repr(each) for each in history]
    assert [text.partition(",")[0] for text in texts] == [
        "[0/3] starting",
        "[0/3] checking",
        "[1/3] block 1 of 2",
        "[2/3] block 1 of 2",
        "[2/3] block 2 of 2",
        "[3/3] block 2 of 2",
        "3 pieces in 0 s",
    ]
    assert "about 15 s left" in texts[0]
    page = Page(history[-2]._repr_html_())
    (bar,) = (attributes for tag, attributes in page.elements if tag == "progress")
    assert (bar["max"], bar["value"]) == ("3", "3")
    assert "torch.compile torch.eager forward wall 1 2.00× [2.00, 2.00]" in page.words


def test_interrupted_it_says_how_far_it_came(outputs):
    with pytest.raises(KeyboardInterrupt), display.progress(in_notebook()) as progress:
        progress.begin(LEFT)
        with progress.piece("torch", "checking"):
            pass
        with progress.piece("block", "block 1"):
            raise KeyboardInterrupt
    assert repr(outputs[0][-1]) == "stopped after 1 of 3 pieces, in 0 s"


def test_it_works_while_an_event_loop_runs(outputs):
    async def cell():
        with display.progress(in_notebook()) as progress:
            progress.begin(LEFT)
            with progress.piece("torch", "checking"):
                pass

    with ThreadPoolExecutor() as threads:  # another test's browser may have a loop in this one
        threads.submit(lambda: asyncio.run(cell())).result()
    assert len(outputs[0]) == 3


def test_names_are_only_text():
    shown = Shown(text=HOSTILE + "\x1b[31m\nx", done=1, total=2, rows=((HOSTILE,) * 6,))
    page = Page(shown._repr_html_())
    assert page.scripts == [] and {tag for tag, _ in page.elements}.isdisjoint({"img"})
    assert "\x1b" not in repr(shown) and "\n" not in repr(shown)


def test_a_status_is_one_output_of_a_notebook_and_lines_of_a_log(outputs):
    text = io.StringIO()
    for console in (in_notebook(), Console(file=text, force_jupyter=False, width=20)):
        with display.status(console, "profiling") as say:
            say("torch.eager [red] (1 of 2)")
            say("torch.compile (2 of 2)")
    assert [repr(each) for each in outputs[0]] == text.getvalue().splitlines()
    assert text.getvalue().splitlines()[0] == "profiling torch.eager [red] (1 of 2)"


def test_a_status_of_a_terminal_goes_when_it_ends():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, force_jupyter=False)
    with display.status(console, "profiling") as say:
        say("torch.eager (1 of 1)")
    assert "profiling" in text.getvalue()
