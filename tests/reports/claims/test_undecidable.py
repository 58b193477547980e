"""Which cases a claim speaks of, what a run cannot decide and why, and the counts in words."""

import pytest

from fuseproof.reports import claims
from fuseproof.runs.records import Failure

NOISE = {"process_noise": 0.002, "round_noise": 0.004, "legs": 6, "rounds": 2}


@pytest.fixture
def judged(tmp_path):
    """The rows of one claim with these keys, on a run."""

    def judge(run, more="", gain="low = 0.3\nhigh = 0.6"):
        (tmp_path / "claims.toml").write_text(
            f'[[claim]]\nid = "c"\ntext = "t"\nsource = "s"\n{gain}\n{more}\n'
            'comparisons = [{baseline = "torch.eager", candidate = "torch.compile"}]\n'
        )
        return claims.matrix([run], tmp_path / "claims.toml")

    return judge


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('population.devices = ["cuda"]', "it speaks of cuda; this run was on cpu"),
        ('population.suites = ["models"]', "it speaks of the suite models; this run is demo"),
        ('population.passes = ["inference"]', "passes inference; this run has forward"),
        ('population.dtypes = ["bfloat16"]', "dtypes bfloat16; this run has float32"),
        ("population.batch = { at_least = 32 }", "batch 32 or more; the names of this run's cases hold no"),
    ],
)
def test_a_run_outside_the_population_cannot_decide(judged, a_run, comparisons, more, reason):
    rows = judged(a_run(comparisons([1.45] * 6, device="cpu", **NOISE)), more + '\nundecidable = "so it is"')
    assert {row.verdict for row in rows} == {"undecidable"}
    assert {row.reading for row in rows} == set(claims.READINGS)
    for row in rows:
        assert reason in row.undecidable and row.undecidable.endswith("(so it is)")
        assert row.undecidable in row.sentence and row.undecidable in claims.verdict_sentence(row)
        assert row.to_json()["geomean"] is None
    assert reason.split("; ")[0] in " ".join(claims.render_text(rows).split())


def test_cases_outside_the_population_are_left_out(judged, a_run, comparisons):
    run = a_run([*comparisons([1.45] * 6, **NOISE), *comparisons([3.0] * 6, dtype="bfloat16", **NOISE)])
    for row in judged(run, 'population.dtypes = ["float32"]'):
        assert (row.cases, row.dtype, row.verdict, row.population) == (
            6, "float32", "supported", "dtypes float32",
        )  # fmt: skip


def test_the_batch_size_is_read_from_the_name_of_the_case(judged, a_run, a_benchmark):
    names = ["attention[b1_h12_s1024_d64-float32-forward]", "mine[batch64_dim8-float32-forward]"]
    run = a_run([a_benchmark(i, case=case) for case in names for i in ("torch.eager", "torch.compile")])
    for batch, case in (("at_least = 32", names[1]), ("at_most = 8", names[0])):
        (row, _) = judged(run, f"population.batch = {{ {batch} }}")
        assert row.worst == row.best == (case, pytest.approx(1))


def test_what_was_skipped_everywhere_says_why(judged, a_run, comparisons):
    measured = comparisons([1.45] * 6)
    skipped = [
        Failure(group=b.group, implementation="torch.compile", kind="skipped", stage="plan", message="no C++")
        for b in measured[1::2]
    ]
    rows = judged(a_run(measured[::2], failures=skipped))
    assert {row.undecidable for row in rows} == {"torch.compile was skipped: no C++"}


def test_an_implementation_that_was_not_measured_is_named(judged, a_run, a_benchmark):
    rows = judged(a_run([a_benchmark("torch.eager")]))
    assert {row.undecidable for row in rows} == {"torch.compile is not in this run"}


def test_a_wrong_implementation_is_a_verdict_and_not_undecidable(judged, a_run, comparisons):
    measured = comparisons([1.45] * 6)
    wrong = [
        Failure(group=b.group, implementation="torch.compile", kind="error", stage="check", message="wrong")
        for b in measured[1::2]
    ]
    rows = judged(a_run(measured[::2], failures=wrong))
    assert {(row.verdict, row.failed, row.undecidable) for row in rows} == {("insufficient", 6, None)}
    assert "in 0 of 6" in rows[1].sentence or "0 of 6" in rows[0].sentence


def test_every_claim_has_a_row_for_every_run(a_run, comparisons, a_benchmark):
    runs = [
        a_run(comparisons([1.45] * 6), source="one"),
        a_run([a_benchmark("triton")], source="two"),
        a_run([], source="three"),
    ]
    ids = {claim.id for claim in claims.load_claims()}
    rows = claims.matrix(runs)
    for source in ("one", "two", "three"):
        assert {row.claim for row in rows if row.run == source} == ids
    assert not [row for row in claims.evaluate(runs) if row.verdict == "undecidable"]


def test_the_counts_in_words(judged, a_run, comparisons):
    measured = comparisons([1.45, 1.5, 1.1, 0.8, 2.0, 1.4, 1.4], **NOISE)
    lost = [
        Failure(group=measured[11].group, implementation="torch.compile", kind="error", stage="check",
                message="wrong: zeros."),
        Failure(group=measured[13].group, implementation="torch.compile", kind="skipped", stage="plan",
                message="no"),
    ]  # fmt: skip
    kept = [b for b in measured if b not in (measured[11], measured[13])]
    throughput, less_time = judged(a_run(kept, failures=lost))
    sentence = throughput.sentence.replace("\u00a0", " ")
    assert sentence.startswith(
        "On this machine torch.compile made 2 of 7 cases faster than torch.eager by 30–60 %, "
        "1 by more, 1 by less, 1 slower (worst attention[3x64-float32-forward] 0."
    )
    assert "best matmul[4x64-float32-forward] 2." in sentence
    assert sentence.endswith("wrong: zeros. … and 1 more.") and "1 failed, 1 not measured: " in sentence
    assert (throughput.inside, throughput.above, throughput.below, throughput.slower) == (2, 1, 2, 1)
    assert less_time.sentence.replace("\u00a0", " ").startswith(
        "On this machine torch.compile took 30–60 % less time than torch.eager in "
    )


@pytest.mark.parametrize(
    ("gain", "speedup", "verdict", "words"),
    [
        ('direction = "faster"', 1.05, "supported", "made 6 of 6 cases faster than torch.eager ("),
        (
            'direction = "faster"',
            0.95,
            "refuted-low",
            "made 0 of 6 cases faster than torch.eager, 6 slower (",
        ),
        ("at_least = 0.43", 3.0, "supported", "made 6 of 6 cases faster than torch.eager by 43 % or more ("),
        ("at_least = 0.43", 1.2, "refuted-low", "by 43 % or more, 6 by less ("),
    ],
)
def test_directions_and_least_gains(judged, a_run, comparisons, gain, speedup, verdict, words):
    run = a_run(comparisons([speedup] * 6, **NOISE))
    row = judged(run, gain=gain)[0]
    assert (row.verdict, row.reading) == (verdict, "throughput")
    assert words in row.sentence.replace("\u00a0", " ")


def test_compile_times_are_compared_case_by_case(judged, a_run, comparisons, a_benchmark):
    measured = comparisons([1.0] * 6, **NOISE)
    given = [
        a_benchmark(
            b.implementation, case=b.group, compile_seconds=4.0 if b.implementation == "torch.eager" else 2.0
        )
        for b in measured
    ]
    (row,) = judged(a_run(given), 'quantity = "compile_time"', gain='direction = "less"')
    assert (row.verdict, row.metric, row.quantity) == ("supported", "compile_time", "compile_time")
    assert row.geomean == pytest.approx(2) and "compiled faster than torch.eager in 6 of 6" in row.sentence
    (unknown,) = judged(a_run(measured), 'quantity = "compile_time"', gain='direction = "less"')
    assert (unknown.cases, unknown.missing) == (0, 6) and "no compile time" in unknown.problems[0]
