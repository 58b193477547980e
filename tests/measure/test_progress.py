"""Progress with a fake clock: what it reports, not how it looks."""

import contextlib
import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from fuseproof.measure import progress
from fuseproof.measure.progress import LineProgress, LiveProgress, Pieces, TimeLeft
from fuseproof.runs import run_file


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


LEFT = {"torch": Pieces(count=2, guess=7.0), "block": Pieces(count=3, guess=4.0)}


def test_time_left_is_guessed_until_it_is_known():
    left = TimeLeft(LEFT)
    assert (left.done, left.total, left.seconds) == (0, 5, 2 * 7 + 3 * 4)
    left.finished("torch", 10.0)
    assert (left.done, left.total, left.seconds) == (1, 5, 10 + 3 * 4)
    left.finished("torch", 20.0)
    assert left.seconds == 3 * 4
    left.finished("block", 1.0)
    left.finished("block", 3.0)
    assert left.seconds == 2.0


def test_blocks_that_were_not_foreseen_are_counted():
    left = TimeLeft({"block": Pieces(count=1, guess=4.0)})
    for _ in range(3):
        left.finished("block", 2.0)
    assert (left.done, left.total, left.seconds) == (3, 3, 0)


def test_a_log_has_a_line_for_each_piece(clock):
    text = io.StringIO()
    lines = LineProgress(Console(file=text, width=40))
    lines.begin(LEFT)
    with lines.piece("torch", "checking [red]attention[/] in torch, which has a long name"):
        clock.now += 30
    (line,) = text.getvalue().splitlines()
    assert line.startswith("[1/5] checking [red]attention[/] in torch, which has a long name: 30.0 s")
    assert "42 s left" in line, "one more check of 30 s and three blocks of 4 s"


def test_a_piece_that_fails_is_not_done(clock):
    text = io.StringIO()
    lines = LineProgress(Console(file=text))
    lines.begin(LEFT)
    with contextlib.suppress(KeyboardInterrupt), lines.piece("torch", "checking"):
        raise KeyboardInterrupt
    assert text.getvalue() == ""


def test_the_terminal_shows_the_speedups_so_far(clock, tmp_path, write_run):
    run = run_file.load(
        write_run(tmp_path / "run.json", {"torch.eager": [2.0, 2.0], "torch.compile": [1.0, 1.0]})
    )
    text = io.StringIO()
    with LiveProgress(Console(file=text, force_terminal=True, width=120)) as live:
        live.begin(LEFT)
        with live.piece("block", "block 1 of 3"):
            clock.now += 1
        live.show(run)
    table = progress.speedup_table(run)
    assert [list(column.cells) for column in table.columns][:2] == [["torch.compile"], ["torch.eager"]]
    assert next(iter(table.columns[5].cells)).startswith("2.00×")
    assert "torch.compile" in text.getvalue(), "the table stays when the bar goes"


def test_one_block_has_no_interval(tmp_path, write_run):
    run = run_file.load(write_run(tmp_path / "run.json", {"torch.eager": [2.0], "torch.compile": [1.0]}))
    assert list(progress.speedup_table(run).columns[5].cells) == ["2.00×"]
