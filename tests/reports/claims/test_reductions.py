"""Claims about kernels and memory: one ratio for each case, measured or estimated, never mixed."""

import json
import math

import numpy as np
import pytest

from fuseproof.cli import main
from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.reports import claims, report
from fuseproof.reports.claims import reductions
from fuseproof.runs import statistics
from fuseproof.runs.records import Failure
from fuseproof.runs.run_file import run_to_json

MIB = 2**20
OPERATORS = ("attention", "matmul", "layer_norm", "rms_norm", "softmax")
CLAIM = "xla-fuses-and-saves-memory"


@pytest.fixture
def xla_run(a_run, a_benchmark):
    """A run of tf.function and tf.xla: for each case kernels and peak memory of both."""

    def make(figures, *, pass_="forward", dtype="float32", operators=OPERATORS, **more):
        benchmarks = []
        for index, (kernels, memory) in enumerate(figures):
            case = f"{operators[index % len(operators)]}[{index + 1}x64-{dtype}-{pass_}]"
            for side, name in enumerate(("tf.function", "tf.xla")):
                benchmarks.append(
                    a_benchmark(
                        name,
                        case=case,
                        legs=2,
                        rounds=1,
                        framework="tensorflow",
                        device="cpu",
                        baseline="tf.eager",
                        kernels=kernels[side],
                        peak_memory_bytes=memory[side],
                    )
                )
        return a_run(benchmarks, **more)

    return make


def judged(run, metric):
    (row,) = [row for row in claims.evaluate([run]) if row.metric == metric]
    assert (row.claim, row.reading, row.candidate) == (CLAIM, "reduction", "tf.xla")
    return row


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        pytest.param([(9, 3)] * 5, "supported", id="a third in every case"),
        pytest.param([(9, 3), (8, 1), (7, 2), (5, 4), (6, 3)], "supported", id="fewer in every case"),
        pytest.param([(3, 3)] * 6, "refuted-low", id="as many"),
        pytest.param([(3, 4)] * 6, "refuted-low", id="more"),
        pytest.param([(30, 3)] * 7 + [(3, 3)] * 5, "mean-only", id="fewer in the mean, most not shown"),
        pytest.param([(4, 3), (3, 4), (3, 3)] * 2, "inconclusive", id="fewer here, more there"),
        pytest.param([(9, 3)] * 4, "insufficient", id="four cases"),
    ],
)
def test_verdicts_on_counts(xla_run, ratios, verdict):
    row = judged(xla_run([(pair, (2 * MIB, MIB)) for pair in ratios]), "kernels")
    assert row.verdict == verdict
    assert row.geomean == pytest.approx(math.prod(a / b for a, b in ratios) ** (1 / len(ratios)))
    assert row.ci95[0] <= row.ci90[0] <= row.geomean <= row.ci90[1] <= row.ci95[1]
    assert row.band == (1.0, math.inf)
    assert row.share_in_band == sum(a > b for a, b in ratios) / len(ratios)
    assert row.text in claims.verdict_sentence(row)
    document = row.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["metric"], document["estimate"], document["device"]) == ("kernels", False, "cpu")


def test_the_interval_of_equal_ratios_is_a_point_and_of_one_case_unknown():
    equal = statistics.geometric_mean_of_counts([3.1] * 7, (*OPERATORS, "matmul", "softmax"))
    assert {equal.value, *equal.ci95, *equal.ci90} == {3.1}
    assert statistics.geometric_mean_of_counts([3.0], ["matmul"]).ci95 == (0.0, math.inf)
    with pytest.raises(ValueError, match="no ratios"):
        statistics.geometric_mean_of_counts([], [])


def test_the_interval_covers_the_mean_of_cases_like_these():
    """Cases of one operator resemble each other: operators are drawn, then their cases."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        levels = np.repeat(rng.normal(0.5, 0.3, size=8), 3) + rng.normal(0, 0.1, size=24)
        names = [str(operator) for operator in np.repeat(np.arange(8), 3)]
        low, high = statistics.geometric_mean_of_counts(list(np.exp(levels)), names).ci95
        hits += low <= math.exp(0.5) <= high
    assert 88 <= hits <= 99


def test_alike_cases_of_few_operators_are_no_evidence_for_most(xla_run):
    """Six of six show it, and are of three operators: "typically" is not shown."""
    run = xla_run([((9, 3), (2 * MIB, MIB))] * 6, operators=OPERATORS[:3])
    assert judged(run, "kernels").verdict == "mean-only"


def test_memory_of_one_call_is_compared_per_case(xla_run):
    row = judged(xla_run([((5, 5), (6 * MIB, 2 * MIB))] * 5), "peak_memory")
    assert (row.verdict, row.geomean, row.blocks) == ("supported", pytest.approx(3), 1)
    assert judged(xla_run([((5, 5), (6 * MIB, 6 * MIB))] * 5), "peak_memory").verdict == "refuted-low"


def test_what_was_not_counted_is_listed_with_the_remedy(xla_run):
    run = xla_run([((None, None), (None, 5))] * 6)
    for metric, says in (("kernels", "kernels were not counted"), ("peak_memory", "cannot be measured here")):
        row = judged(run, metric)
        assert (row.verdict, row.cases, row.missing, row.failed) == ("insufficient", 0, 6, 0)
        assert math.isnan(row.geomean)
        assert says in row.problems[0]
        assert says in claims.verdict_sentence(row)


def test_wrong_results_save_nothing(xla_run):
    run = xla_run([((9, 3), (2 * MIB, MIB))] * 6)
    wrong = [
        Failure(group=b.group, implementation="tf.xla", kind="error", stage=stage, message="all zeros")
        for b, stage in zip(run.benchmarks[:4:2], ("check", "measure"), strict=True)
    ]
    row = judged(type(run)(**{**vars(run), "failures": tuple(wrong)}), "kernels")
    # Losing a leg takes nothing from what was counted before.
    assert (row.cases, row.failed) == (5, 1)
    assert row.share_in_band == pytest.approx(5 / 6)


def test_memory_below_the_resolution_of_the_machine_counts_as_its_least(a_run, a_benchmark):
    def run(before, after):
        return a_run(
            [
                a_benchmark(name, device="cpu", framework="jax", peak_memory_bytes=memory)
                for name, memory in (("jax.eager", before), ("jax.jit", after))
            ]
        )

    def ratio(before, after):
        (found,) = reductions.measured(run(before, after), "jax.eager", "jax.jit", "peak_memory")
        return found

    assert ratio(4 * MIB, 2**14).ratio == ratio(4 * MIB, MIB // 2).ratio == 4.0
    assert ratio(8 * MIB, 4 * MIB).ratio == 2.0
    assert "too little to tell apart" in ratio(MIB, MIB // 2).problem
    # The layer norm of 64x64 float32 has 16 KiB of results.
    assert "is less than the results, 16,384" in ratio(4 * MIB, 2**14 - 1).problem


def test_slices_are_judged_separately_and_dtypes_together(xla_run, a_run):
    parts = [
        xla_run([((4, 2), (2 * MIB, MIB))] * 5, pass_=pass_, dtype=dtype)
        for pass_ in ("forward", "forward_backward")
        for dtype in ("float32", "bfloat16")
    ]
    rows = claims.evaluate([a_run([b for part in parts for b in part.benchmarks])])
    found = {(row.metric, row.pass_, row.dtype): row.cases for row in rows}
    assert found == {
        (metric, pass_, dtype): 10 if dtype == "all" else 5
        for metric in ("kernels", "peak_memory")
        for pass_ in ("forward", "forward_backward")
        for dtype in ("float32", "bfloat16", "all")
    }


def test_reports_say_it_in_words(xla_run):
    figures = [((9, 3), (MIB, 2 * MIB))] * 5
    summary = report.summarise([xla_run(figures)])
    text = report.render(summary, "md")
    assert "launched 3.00× fewer kernels than tf.function" in text
    assert "took 2.00× more memory at its peak than tf.function" in text
    assert "read as any reduction, over 1.00×" in text
    page = report.render(summary, "html")
    assert "launched 3.00× fewer kernels than tf.function" in page
    assert {claim["row"]["metric"] for claim in json.loads(report.render(summary, "json"))["claims"]} == {
        "kernels",
        "peak_memory",
    }
    assert "no sound count of kernels" in report.render(
        report.summarise([xla_run([((None, None), (MIB, MIB))] * 5)]), "md"
    )
    assert "over 1.00×" in claims.render_text(claims.evaluate([xla_run(figures)]))


def an_estimate(case="matmul[8x8x8-bfloat16-forward]", target="tpu-v5e", **more):
    fields = {
        "target": target, "topology": "1x1", "chips": 1, "case": case, "implementation": "jax.jit",
        "estimate": True, "status": "ok", "computing_instructions": 2, "peak_bytes": 300,
        "argument_bytes": 100, "without_fusion": {"computing_instructions": 8, "peak_bytes": 900},
    }  # fmt: skip
    return fields | more


@pytest.fixture
def estimates_file(tmp_path):
    def write(results):
        file = tmp_path / "tpu.json"
        file.write_text(json.dumps(results))
        return file

    return write


def test_estimates_have_rows_of_their_own(xla_run, estimates_file):
    results = [
        an_estimate(case=f"{operator}[{n}x8-bfloat16-forward]", target=target)
        for target in ("tpu-v5e", "tpu-v6e")
        for n in (1, 2)
        for operator in OPERATORS
    ]
    estimates = reductions.load_estimates(estimates_file(results))
    rows = claims.evaluate([xla_run([((9, 3), (MIB, MIB))] * 5)], estimates=[estimates])
    estimated = [row for row in rows if row.estimate]
    assert {row.baseline for row in rows if not row.estimate} == {"tf.function"}
    assert {(row.device, row.metric, row.cases, row.verdict) for row in estimated} == {
        (target, metric, 10, "supported")
        for target in ("tpu-v5e", "tpu-v6e")
        for metric in ("kernels", "peak_memory")
    }
    for row in estimated:
        assert row.geomean == pytest.approx(4)  # 8 over 2 instructions, 800 bytes over 200 beyond arguments
        assert (row.baseline, row.run) == ("jax.jit without fusion", estimates.source)
        assert "estimated by the compiler" in claims.verdict_sentence(row)
    assert "estimated" in claims.render_text(rows)


@pytest.mark.parametrize(
    ("changed", "problem", "failed"),
    [
        ({"without_fusion": None}, "add --without-fusion", False),
        ({"without_fusion": {"reason": "it does not compile: no room"}}, "no room", False),
        ({"status": "skipped", "reason": "has no forward pass"}, "has no forward pass", False),
        ({"status": "failed", "reason": "SIGABRT"}, "SIGABRT", True),
        ({"peak_bytes": 100}, "have no ratio", False),
    ],
    ids=["not asked for", "does not fit", "skipped", "crashed", "nothing beyond the arguments"],
)
def test_an_estimate_that_is_missing_says_why(estimates_file, changed, problem, failed):
    estimates = reductions.load_estimates(estimates_file([an_estimate(), an_estimate(**changed)]))
    _, found = reductions.estimated(estimates, "tpu-v5e", "jax.jit", "peak_memory")
    assert (found.ratio, found.failed) == (None, failed)
    assert problem in found.problem


def test_many_chips_are_a_separate_target(estimates_file):
    results = [an_estimate(), an_estimate(topology="2x2", chips=4)]
    assert reductions.load_estimates(estimates_file(results)).targets == ("tpu-v5e", "tpu-v5e 2x2")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("{}", "not a list of estimates"),
        ("[3]", "not a list of estimates"),
        (json.dumps([an_estimate(peak_bytes="many")]), "not a list of estimates"),
        (json.dumps([an_estimate(estimate=False)]), "not a list of estimates"),
        (json.dumps([an_estimate(without_fusion=[1])]), "not a list of estimates"),
        (json.dumps([{k: v for k, v in an_estimate().items() if k != "without_fusion"}]), "nothing compiled"),
        (json.dumps([an_estimate(target="sm_90")]), "nothing compiled without fusion"),
        ("[]", "nothing compiled without fusion"),
    ],
)
def test_a_foreign_file_of_estimates_is_one_clear_line(tmp_path, capsys, text, problem):
    file = tmp_path / "tpu.json"
    file.write_text(text)
    assert main(["claims", "--estimates", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line and str(file) in line
    with pytest.raises(UserError, match="cannot read"):
        reductions.load_estimates(tmp_path / "absent.json")


def test_the_command_takes_runs_and_estimates(tmp_path, capsys, xla_run, estimates_file):
    run = xla_run([((9, 3), (2 * MIB, MIB))] * 5)
    write_json(tmp_path / "run.json", run_to_json(run))
    file = estimates_file([an_estimate()])
    assert main(["claims", "--estimates", str(file), "--json"]) == 0
    assert {row["estimate"] for row in json.loads(capsys.readouterr().out)} == {True}
    assert main(["claims", str(tmp_path / "run.json"), "--estimates", str(file), "--json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if row["verdict"] != "undecidable"]
    assert [row["estimate"] for row in rows] == [False, False, True, True]
    assert {row["verdict"] for row in rows[:2]} == {"supported"}, "counts go through the run file"
