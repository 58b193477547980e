import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from support.runs import OPERATORS

from fuseproof import privacy, units
from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.reports import report
from fuseproof.reports.claims import MEANINGS
from fuseproof.reports.report import wording
from fuseproof.runs.records import Failure
from fuseproof.runs.run_file import load, run_to_json

NOISE = {"process_noise": 0.004, "round_noise": 0.01, "legs": 8, "rounds": 2}
CASE = "layer_norm[64x64-float32-forward]"
COLD = "layer_norm[64x64-float32-forward-cold]"


def failure(implementation, *, kind="error", stage="check", message="wrong: all zeros", group=CASE):
    return Failure(group=group, implementation=implementation, kind=kind, stage=stage, message=message)


def strict(text):
    """As json.loads, but NaN and Infinity, which are not JSON, are refused."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def pair(a_benchmark):
    """torch.eager of 2 ms and torch.compile of 1 ms, with everything a run records of them."""
    more = {**NOISE, "flops": 4_000_000, "bytes": 2_000_000, "error_relative_rms": 1e-8, "error_limit": 1e-7}
    return [
        a_benchmark("torch.eager", seconds=2e-3, **more),
        a_benchmark("torch.compile", seconds=1e-3, compile_seconds=5.0, rng=np.random.default_rng(1), **more),
    ]


def test_what_deployment_takes_is_in_every_form(a_run, a_benchmark):
    took = {"export_seconds": 12.5, "load_seconds": 0.25, "first_call_seconds": 3e-3, "artifact_bytes": 3072}
    pair = [a_benchmark("torch.eager", **NOISE), a_benchmark("onnxruntime", **took, **NOISE)]
    summary = report.summarise([a_run(pair)])
    row = by_name(summary)["onnxruntime"]
    assert {name: getattr(row, name) for name in took} == took
    assert by_name(summary)["torch.eager"].export_seconds is None
    says = ("Deployment runtimes", *map(units.duration, (12.5, 0.25, 3e-3)), units.memory(3072))
    for form in ("md", "html"):
        text = report.render(summary, form).replace("\\", "")  # Markdown escapes a dot
        assert [each for each in says if each not in text] == []
        assert "Deployment runtimes" not in report.render(report.summarise([a_run(pair[:1])]), form)


def by_name(summary):
    return {row.implementation: row for row in summary.rows}


def test_a_row_says_what_was_measured(a_run, pair):
    rows = by_name(report.summarise([a_run(pair)]))
    row = rows["torch.compile"]
    assert row.speedup.value == pytest.approx(2.0, rel=0.02)
    assert row.speedup.low < row.speedup.value < row.speedup.high
    assert row.median_seconds.value == pytest.approx(1e-3, rel=0.02)
    assert row.flops_per_second == pytest.approx(4e6 / row.median_seconds.value)
    assert row.bytes_per_second == pytest.approx(2e6 / row.median_seconds.value)
    assert row.break_even_calls.value == pytest.approx(5000, rel=0.1)
    assert (row.error, row.error_limit, row.rounds) == (1e-8, 1e-7, 5 * 8 * 2)
    assert [len(block.palindromes) for block in row.blocks] == [4] * 5
    assert rows["torch.eager"].is_baseline
    assert rows["torch.eager"].speedup is None


def test_graphs_breaks_and_recompilations_are_shown(a_run, a_benchmark):
    counts = {"graphs": 3, "graph_breaks": 2, "recompiles": 1}
    run = a_run(
        [
            a_benchmark("torch.eager", seconds=2e-3, **NOISE),
            a_benchmark("torch.compile", seconds=1e-3, compile_seconds=5.0, **counts, **NOISE),
            a_benchmark("whole", seconds=1e-3, graphs=1, graph_breaks=0, recompiles=0, **NOISE),
        ]
    )
    summary = report.summarise([run])
    rows = {row["implementation"]: row for row in strict(report.render(summary, "json"))["rows"]}
    assert {name: rows["torch.compile"][name] for name in counts} == counts
    assert rows["torch.eager"]["graphs"] is None
    for format in ("md", "html"):
        text = report.render(summary, format)
        assert "3 graphs, 2 breaks, 1 recompilation" in text
        assert "1 graph" in text.replace("1 graph,", "")


def test_the_block_values_are_the_replicates_of_the_estimate(a_run, pair):
    row = by_name(report.summarise([a_run(pair)]))["torch.compile"]
    mean = math.exp(sum(math.log(block.speedup) for block in row.blocks) / len(row.blocks))
    assert mean == pytest.approx(row.speedup.value)
    for block in row.blocks:
        assert min(block.palindromes) <= block.speedup <= max(block.palindromes)


@pytest.mark.parametrize("stage", ["plan", "check"])
def test_a_wrong_implementation_has_a_reason_and_no_speedup(a_run, pair, stage):
    summary = report.summarise([a_run(pair, failures=[failure("torch.compile", stage=stage)])])
    assert set(by_name(summary)) == {"torch.eager"}
    assert not summary.means
    assert [m.message for m in summary.missing] == ["wrong: all zeros"]


def test_nothing_is_compared_with_a_wrong_baseline(a_run, pair):
    summary = report.summarise([a_run(pair, failures=[failure("torch.eager")])])
    assert by_name(summary)["torch.compile"].speedup is None
    assert by_name(summary)["torch.compile"].break_even_calls is None


def test_a_leg_lost_while_measuring_leaves_the_speedup_and_is_listed(a_run, pair):
    lost = failure("torch.compile", stage="measure", message="worker killed in block 3")
    summary = report.summarise([a_run(pair, failures=[lost])])
    assert by_name(summary)["torch.compile"].speedup is not None
    assert [m.message for m in summary.missing] == ["worker killed in block 3"]


def test_twins_appear_in_the_null_control_only(a_run, a_benchmark, pair):
    twin = a_benchmark("torch.eager-null", seconds=2e-3, **NOISE)
    summary = report.summarise([a_run([*pair, twin])])
    assert set(by_name(summary)) == {"torch.eager", "torch.compile"}
    assert {mean.implementation for mean in summary.means} == {"torch.compile"}
    assert {claim.row.candidate for claim in summary.claims} == {"torch.compile"}
    assert summary.null_control.total == 1
    assert summary.null_control.contained == 1
    assert summary.null_control.twins[0].ratio.value == pytest.approx(1.0)


def test_metrics_and_cache_regimes_are_never_compared(a_run, a_benchmark):
    run = a_run(
        [
            a_benchmark("torch.eager", metric="wall", **NOISE),
            a_benchmark("torch.compile", metric="device", **NOISE),
            a_benchmark("torch.eager", case=COLD, name="cold", cache="cold", **NOISE),
        ]
    )
    summary = report.summarise([run])
    assert all(row.speedup is None for row in summary.rows)
    assert {wording.timing(row.case, summary) for row in summary.rows} == {
        "wall time, warm cache",
        "device time, warm cache",
        "wall time, cold cache",
    }


def test_one_block_has_no_interval(a_run, a_benchmark):
    one = {**NOISE, "blocks": 1}
    run = a_run([a_benchmark(**one), a_benchmark("torch.compile", seconds=5e-4, **one)])
    summary = report.summarise([run])
    row = by_name(summary)["torch.compile"]
    assert (row.speedup.low, row.speedup.high) == (None, None)
    assert "no interval" in wording.speedup(row.speedup)
    assert any("Fewer than 5 blocks" in caveat for caveat in wording.caveats(summary))
    for format in report.FORMATS:
        assert report.render(summary, format)


def test_means_are_over_all_cases_and_per_operator_and_dtype(a_run, comparisons):
    run = a_run(comparisons([1.2] * 6, **NOISE) + comparisons([1.8] * 6, dtype="bfloat16", **NOISE))
    means = {(m.operator, m.dtype): m for m in report.summarise([run]).means}
    assert means[None, None].cases == 12
    assert means[None, None].speedup.value == pytest.approx(math.sqrt(1.2 * 1.8), rel=0.02)
    assert means[None, None].resampled[0] < means[None, None].speedup.low
    assert means[None, "bfloat16"].speedup.value == pytest.approx(1.8, rel=0.02)
    assert means["matmul", None].cases == 4


def test_the_listing_keeps_the_order_of_the_run(a_run, comparisons):
    run = a_run(comparisons([1.2, 1.3, 1.4], **NOISE))
    shuffled = replace(run, benchmarks=run.benchmarks[::-1])
    rows = report.summarise([shuffled]).rows
    assert [row.case.operator for row in rows] == ["layer_norm"] * 2 + ["matmul"] * 2 + ["attention"] * 2
    assert [row.is_baseline for row in rows] == [True, False] * 3


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (CASE, ("layer_norm", "64x64", "float32", "forward", "warm")),
        (COLD, ("layer_norm", "64x64", "float32", "forward", "cold")),
        (
            "attention[gpt2-b1-causal-bfloat16-forward_backward]",
            ("attention", "gpt2-b1-causal", "bfloat16", "forward_backward", "warm"),
        ),
        ("foreign name", ("foreign name", "", "", "", "")),
    ],
)
def test_a_failure_is_filed_under_its_case(a_run, group, expected):
    summary = report.summarise([a_run([], failures=[failure("triton", kind="skipped", group=group)])])
    (missing,) = summary.missing
    assert (missing.operator, missing.shape, missing.dtype, missing.pass_, missing.cache) == expected


def test_two_runs_are_kept_apart(a_run, pair):
    summary = report.summarise([a_run(pair), a_run(pair)])
    assert [row.case.run for row in summary.rows] == [0, 0, 1, 1]
    assert {mean.run for mean in summary.means} == {0, 1}
    assert "run 2" in wording.case_name(summary.rows[-1].case, summary)
    (verdicts,) = wording.verdicts(summary, pooled=True).values()
    assert ["run 1" in verdict.sentence for verdict in verdicts] == [True, False]
    assert ["run 2" in verdict.sentence for verdict in verdicts] == [False, True]


def test_a_verdict_sentence_has_both_readings_and_its_numbers(a_run, comparisons):
    summary = report.summarise([a_run(comparisons([1.05] * 6, **NOISE))])
    ((verdict,),) = wording.verdicts(summary, pooled=True).values()
    assert [row.verdict for row in verdict.readings] == ["refuted-low", "refuted-low"]
    assert units.times(verdict.readings[0].geomean) in verdict.sentence
    assert "6 cases" in verdict.sentence


@pytest.mark.parametrize(
    ("speedup", "blocks", "verdict"),
    [
        (1.05, 5, "refuted-low"),
        (1.45, 5, "supported"),
        (1.3, 5, "inconclusive"),
        (3.0, 5, "refuted-high"),
        (1.4, 2, "insufficient"),
    ],
)
def test_a_verdict_is_the_same_word_in_every_format_and_is_explained_once(
    a_run, comparisons, speedup, blocks, verdict
):
    noise = {"process_noise": 0.02, "round_noise": 0.01, "legs": 8, "rounds": 2, "blocks": blocks}
    noise["operators"] = OPERATORS
    summary = report.summarise([a_run(comparisons([speedup] * 6, **noise))])
    assert verdict in {claim.row.verdict for claim in summary.claims}
    meaning = MEANINGS[verdict]
    for format in ("html", "md"):
        text = report.render(summary, format).replace("\u00a0", " ")
        assert text.count(meaning) == 1
        assert f"{verdict}</strong>: {meaning}" in text or f"**{verdict}**: {meaning}" in text
    assert f'"verdict": "{verdict}"' in report.render(summary, "json")
    assert set(wording.SIGNS) == set(MEANINGS)


def test_pooled_verdicts_leave_out_single_dtypes(a_run, comparisons):
    run = a_run(comparisons([1.2] * 5, **NOISE) + comparisons([1.4] * 5, dtype="bfloat16", **NOISE))
    summary = report.summarise([run])
    assert [len(found) for found in wording.verdicts(summary, pooled=True).values()] == [1]
    assert [len(found) for found in wording.verdicts(summary, pooled=False).values()] == [3]


def test_json_is_strict_and_complete(a_run, a_benchmark):
    slower = a_benchmark("torch.compile", seconds=2e-3, compile_seconds=1.0, **NOISE)
    summary = report.summarise([a_run([a_benchmark(**NOISE), slower], failures=[failure("triton")])])
    assert math.isinf(by_name(summary)["torch.compile"].break_even_calls.value)
    document = strict(report.render(summary, "json"))
    rows = {row["implementation"]: row for row in document["rows"]}
    assert rows["torch.compile"]["break_even_calls"]["value"] is None
    assert rows["torch.compile"]["case"]["pass"] == "forward"
    assert rows["torch.compile"]["speedup"]["value"] == by_name(summary)["torch.compile"].speedup.value
    assert document["missing"][0]["message"] == "wrong: all zeros"
    assert document["claims"][0]["row"]["verdict"] == "insufficient"
    assert document["schema"] == 1


HOSTILE = (
    "<script>alert(1)</script>",
    "![pixel](https://evil.example/p.png) [click](https://evil.example)",
    "\n::error file=x::no",
    "##[error]no",
    "\x1b[31mred\x07",
    "\u202egnp",
    "lone \udc80 surrogate",
)


@pytest.mark.parametrize("format", ["html", "md", "json"])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_inert_wherever_it_stands(a_run, a_benchmark, write_json_run, format, text):
    hostile = {"group": text, "operator": text, "shape": text, "framework": text, "device": text}
    run = a_run(
        [a_benchmark(**NOISE), a_benchmark(text, seconds=9e-4, **NOISE, **hostile)],
        failures=[failure(text, message=text, stage=text), failure("triton", message=text, group=text)],
    )
    run = replace(run, suite=text, notes=(text,), environment={"cpu": {"model": text}, text: [text]})
    run = replace(run, settings={"command": ["fuseproof", text]}, commit_info={"branch": text})
    rendered = report.render(report.summarise([load(write_json_run(run))]), format)
    rendered.encode()
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", rendered)
    if format != "html":
        assert not re.search(r"^\s*::|##\[", rendered, re.MULTILINE)
    if format == "md":
        assert not re.search(r"<script|!\[|(?<!\\)\]\(", rendered)
    if format == "html":
        assert "<script>alert" not in rendered


@pytest.fixture
def write_json_run(tmp_path):
    def write(run):
        write_json(tmp_path / "run.json", run_to_json(run))
        return tmp_path / "run.json"

    return write


@pytest.mark.parametrize("format", ["html", "md", "json"])
def test_a_report_does_not_say_whose_machine_it_was(a_run, a_benchmark, write_json_run, monkeypatch, format):
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("USER", "alice")
    monkeypatch.setattr("platform.node", lambda: "alices-laptop")
    run = a_run(
        [a_benchmark(**NOISE)], failures=[failure("triton", message="/home/alice/x.py on alices-laptop")]
    )
    run = replace(
        run,
        settings={"command": ["fuseproof", "run", "--implementations", "/home/alice/x.py:ALL"]},
        notes=("log: /home/alice/log",),
        commit_info={"branch": "alice/fast"},
        environment={"variables": {"TF_TOKEN_x": "secret", "JAX_API_KEY": "secret", "OMP_NUM_THREADS": "2"}},
        machine_info={"node": privacy.machine_id()},
    )
    path = write_json_run(run)
    assert not re.search("alice|secret|TF_TOKEN", path.read_text())
    for source in ("/home/alice/runs/1/run.json", str(path)):
        rendered = report.render(report.summarise([replace(load(path), source=source)]), format)
        assert not re.search("alice|secret|TF_TOKEN|JAX_API_KEY", rendered)
        assert "~/x.py on host" in rendered.replace("\\", "")


def test_a_file_of_an_earlier_version_with_secrets_gives_a_report_without(tmp_path):
    added = {"schema": 1, "environment": {"variables": {"TF_VAR_password": "secret", "OMP_NUM_THREADS": "2"}}}
    (tmp_path / "run.json").write_text(json.dumps({"benchmarks": [], "fuseproof": added}))
    rendered = report.render(report.summarise([load(tmp_path)]), "html")
    assert (
        "secret" not in rendered
        and "TF_VAR" not in rendered
        and "OMP_NUM_THREADS" in rendered.replace(" ", "_")
    )


def test_a_stock_file_names_its_host_and_its_report_does_not(tmp_path):
    entry = {"name": "f", "fullname": "t.py::f", "stats": {"median": 1.0}}
    info = {"node": "alices-laptop", "system": "Linux"}
    (tmp_path / "stock.json").write_text(json.dumps({"machine_info": info, "benchmarks": [entry]}))
    rendered = report.render(report.summarise([load(tmp_path / "stock.json")]), "html")
    assert "Linux" in rendered and "alices-laptop" not in rendered


def test_markdown_tables_survive_hostile_names(a_run, a_benchmark):
    name = "evil|pipe\n<b>"
    run = a_run(
        [a_benchmark(**NOISE), a_benchmark(name, seconds=9e-4, **NOISE)],
        failures=[failure("triton", message="a|b\n# heading")],
        complete=False,
    )
    text = report.render(report.summarise([run]), "md")
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    cells = {line.replace("\\|", "").count("|") for line in tables}
    assert cells == {8, 10}  # of means, of cases
    assert "\n# heading" not in text
    assert "<b>" not in text
    assert "Incomplete run" in text


@pytest.mark.parametrize("format", ["html", "md", "json"])
def test_a_stock_pytest_benchmark_file_has_a_report(tmp_path, format):
    path = tmp_path / "stock.json"
    entry = {"name": "test_a", "fullname": "t.py::test_a", "group": None, "params": None, "extra_info": {}}
    stats = {"median": 0.0015, "data": [0.001, 0.002]}
    path.write_text(
        json.dumps(
            {"machine_info": {"cpu": {"brand_raw": "Abacus"}}, "benchmarks": [{**entry, "stats": stats}]}
        )
    )
    summary = report.summarise([load(path)])
    assert summary.runs[0].machine == "Abacus"
    assert summary.runs[0].file == privacy.anonymous(str(path))
    assert summary.rows[0].speedup is None
    assert "t.py::test" in report.render(summary, format).replace("\\", "")


@pytest.mark.parametrize("format", ["html", "md", "json"])
def test_an_empty_run_has_a_report(a_run, format):
    assert report.render(report.summarise([a_run([], complete=False)]), format)


def test_an_unknown_format_is_refused(a_run):
    with pytest.raises(UserError, match="html, md, json"):
        report.render(report.summarise([a_run([])]), "pdf")
