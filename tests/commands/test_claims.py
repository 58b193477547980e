"""`fuseproof claims`: verdicts as JSON and as text, `--require`, bad input in one line."""

from __future__ import annotations

import shlex

import pytest
from support.command_line import FAST, longest, strict

from fuseproof.reports import claims
from fuseproof.runs.records import Failure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a --require perfect", "unknown verdict 'perfect'"),
        ("a --claims absent.toml", "absent.toml"),
        ("a --claims file", "file is not TOML"),
    ],
)
def test_bad_input_is_one_line(here, a_run, refused, arguments, message):
    (here / "file").write_text("no TOML")
    assert message in refused("claims", *shlex.split(arguments))


def test_claims(here, a_run, fuseproof):
    code, out, err = fuseproof("claims", "a", "--json")
    assert (code, err) == (0, "")
    everything = strict(out)
    assert {row["claim"] for row in everything} == {claim.id for claim in claims.load_claims()}
    for row in everything:
        assert (row["verdict"] == "undecidable") == bool(row["undecidable"]) and row["sentence"]
    rows = [row for row in everything if row["verdict"] != "undecidable"]
    assert {row["reading"] for row in rows} == {"throughput", "time_reduction"}
    for row in rows:
        assert {
            "claim", "reading", "metric", "pass", "dtype", "cases", "geomean", "ci95", "ci90",
            "share_in_band", "share_lower", "verdict",
            "quantity", "population", "inside", "above", "below", "worst", "best", "sentence", "undecidable",
        } <= row.keys()  # fmt: skip
        assert row["geomean"] == pytest.approx(2, rel=1e-3)
        assert row["verdict"] == "insufficient", "one case proves no claim"
    assert fuseproof("claims", "a", "--require", "insufficient")[0] == 0
    assert fuseproof("claims", "a", "--require", "supported")[0] == 1
    assert fuseproof("claims", "a", "--require", "undecidable")[0] == 1, "some are judged"
    code, out, err = fuseproof("claims", "a")
    assert (code, err) == (0, "")
    assert "insufficient" in out
    assert longest(out) <= 80


def test_claims_of_a_run_without_samples_are_strict_json(here, write_run, fuseproof):
    group = "layer_norm[64x128-float32-forward]"
    failed = Failure(
        group=group, implementation="torch.compile", kind="error", stage="check", message="wrong"
    )
    write_run(here / "run.json", {"torch.eager": FAST}, failures=[failed])
    code, out, _ = fuseproof("claims", "run.json", "--json")
    assert code == 0
    # Coverage needs no samples: none of one case is a share.
    assert all(row["geomean"] is None for row in strict(out) if row["quantity"] != "coverage")


def test_what_no_run_decides_is_no_verdict_that_is_required(here, a_run, fuseproof):
    (here / "mine.toml").write_text(
        """
        [[claim]]
        id = "first"
        text = "the first result comes sooner"
        source = "s"
        quantity = "time_to_first_result"
        direction = "less"
        comparisons = [{baseline = "torch.eager", candidate = "torch.compile"}]
        """
    )
    code, out, _ = fuseproof("claims", "a", "--claims", "mine.toml")
    assert code == 0 and "first result comes sooner" in out and "no time to a first result" in out
    assert fuseproof("claims", "a", "--claims", "mine.toml", "--require", "supported")[0] == 1
    assert fuseproof("claims", "a", "--claims", "mine.toml", "--require", "undecidable")[0] == 0


def test_the_audit_answers_each_question_in_text_and_json(here, a_run, fuseproof, refused):
    code, out, err = fuseproof("claims", "a", "--audit", "--json")
    assert (code, err) == (0, "")
    (audited,) = strict(out)
    assert {check["answer"] for check in audited["checks"]} <= {"yes", "no", "not known"}
    assert len(audited["checks"]) == 8 and all(check["basis"] for check in audited["checks"])
    code, out, _ = fuseproof("claims", "a", "--audit")
    assert code == 0 and all(check["question"] in out for check in audited["checks"])
    assert longest(out) <= 80
    assert "--audit" in refused("claims", "a", "--audit", "--require", "supported")
