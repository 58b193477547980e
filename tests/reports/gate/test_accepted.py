"""Known changes: accepted until a date, and never silently."""

import datetime
from dataclasses import replace

import numpy as np
import pytest

from fuseproof.errors import UserError
from fuseproof.reports import gate
from fuseproof.reports.gate import accepted

TODAY = datetime.date(2026, 11, 27)
NAME = "layer_norm[64x64-float32-forward-torch.eager-wall]"
ACCEPT = f"""
[[accept]]
benchmark = "{NAME}"
reason = "checks its input now"
until = 2026-12-31
"""


@pytest.fixture(scope="session")
def measured(a_run, a_benchmark):
    def build(*, slowdown=1.0, seed=0, **fields):
        rng = np.random.default_rng(seed)
        row = a_benchmark(seconds=1e-3 * slowdown, process_noise=0.001, rng=rng)
        return a_run([replace(row, **fields)])

    return build


@pytest.fixture
def judged(tmp_path, measured):
    def judge(text, *, base=None, head=None, today=TODAY):
        file = tmp_path / "known.toml"
        file.write_text(text)
        known = accepted.load(file)
        return gate.compare(
            base or measured(), head or measured(slowdown=1.2, seed=1), known=known, today=today
        )

    return judge


def test_an_accepted_slowdown_passes_and_is_shown(judged):
    result = judged(ACCEPT)
    (row,) = result.rows
    assert (result.verdict, row.verdict) == ("pass", "accepted")
    assert "checks its input now (until 2026-12-31)" in row.reason
    assert row.slowdown == pytest.approx(1.2, abs=0.01)
    assert "accepted" in gate.render_text(result)


def test_after_its_date_nothing_is_accepted(judged):
    result = judged(ACCEPT, today=datetime.date(2027, 1, 1))
    assert result.verdict == "regression"
    assert "it was accepted until 2026-12-31" in result.rows[0].reason


def test_no_more_is_accepted_than_was_said(judged):
    assert judged(ACCEPT + "at_most = 0.3").verdict == "pass"
    result = judged(ACCEPT + "at_most = 0.1")
    assert result.verdict == "regression"
    assert "only 10% is accepted" in result.rows[0].reason


def test_a_pattern_accepts_what_is_gone(judged, measured):
    head = measured(seed=1, name="another")
    assert judged(ACCEPT, head=head).verdict == "pass"
    assert judged(ACCEPT.replace(NAME, "layer_norm*"), head=head).verdict == "pass"
    assert judged(ACCEPT.replace(NAME, "matmul*"), head=head).verdict == "regression"


def test_an_acceptance_that_nothing_needs_is_told(judged, measured):
    result = judged(ACCEPT, head=measured(seed=1))
    assert result.verdict == "pass"
    assert any("nothing needed the acceptance" in note for note in result.notes)


def test_a_renamed_benchmark_is_compared(judged, measured):
    text = f'[[rename]]\nbase = "{NAME}"\nhead = "another"'
    assert judged(text, head=measured(seed=1, name="another")).verdict == "pass"
    slower = judged(text, head=measured(slowdown=1.2, seed=1, name="another"))
    assert (slower.verdict, slower.rows[0].name) == ("regression", "another")
    with pytest.raises(UserError, match="no benchmark of"):
        judged(text.replace(NAME, "never was"))


def test_a_rename_that_base_has_reached_is_told(judged, measured):
    text = f'[[rename]]\nbase = "old"\nhead = "{NAME}"'
    assert judged(text).verdict == "regression"
    result = judged(text, head=measured(seed=1))
    assert result.verdict == "pass"
    assert f"nothing needed the rename of old: it is {NAME} in base already" in result.notes


def test_a_rename_of_what_head_holds_by_both_names_is_refused(judged, measured):
    """The benchmark of the old name would be new, which never fails."""
    slower, other = measured(slowdown=1.2, seed=1), measured(seed=2, name="another")
    head = replace(slower, benchmarks=(*slower.benchmarks, *other.benchmarks))
    with pytest.raises(UserError, match="still holds beside 'another'"):
        judged(f'[[rename]]\nbase = "{NAME}"\nhead = "another"', head=head)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[accept", "is not TOML"),
        (ACCEPT.replace("until = 2026-12-31", ""), "until must be a date"),
        (ACCEPT.replace("2026-12-31", "2026-12-31T10:00:00"), "until must be a date"),
        (ACCEPT.replace('reason = "checks its input now"', ""), "reason must be a text"),
        (ACCEPT + "at_most = '20%'", "at_most must be a slowdown as a fraction"),
        (ACCEPT + "at_least = 1", "unknown key at_least"),
        ("accept = 1", r"must be written \[\[accept\]\]"),
        ("[[ignore]]", "unknown key ignore"),
    ],
)
def test_a_file_that_says_something_else_is_one_line(judged, text, says):
    with pytest.raises(UserError, match=says) as error:
        judged(text)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        accepted.load(tmp_path / "absent.toml")
