import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from fuseproof.errors import UserError
from fuseproof.files import write_json
from fuseproof.reports import gate
from fuseproof.reports.gate import judge
from fuseproof.reports.gate.junit import write_junit
from fuseproof.runs.merging import load_all
from fuseproof.runs.records import Benchmark, Failure
from fuseproof.runs.run_file import run_to_json


@pytest.fixture(scope="session")
def a_suite(a_run, a_benchmark):
    """`slowdowns` of the benchmarks of a run, with noise between and within processes."""

    def build(slowdowns, *, process_noise=0.01, round_noise=0.02, seed=0, blocks=5, **run):
        rng = np.random.default_rng(seed)
        noise = {"process_noise": process_noise, "round_noise": round_noise, "blocks": blocks, "rng": rng}
        return a_run(
            [
                a_benchmark(case=f"matmul[{n}x8-float32-forward]", seconds=1e-3 * slowdown, legs=4, **noise)
                for n, slowdown in enumerate(slowdowns)
            ],
            **run,
        )

    return build


@pytest.fixture(scope="session")
def block_values():
    """A benchmark whose blocks have exactly these times."""

    def build(name, seconds):
        return Benchmark(
            name=name,
            group="",
            seconds=np.asarray(seconds, dtype=float),
            block=np.arange(len(seconds)),
            leg=np.zeros(len(seconds), dtype=np.int64),
        )

    return build


def verdicts(result):
    return {row.name: row.verdict for row in result.rows}


def error(benchmark, **fields):
    known = {"kind": "error", "stage": "check", "message": "wrong: all zeros"}
    return Failure(group=benchmark.group, implementation=benchmark.implementation, **(known | fields))


def test_identical_code_passes(a_suite):
    result = gate.compare(a_suite([1.0] * 8), a_suite([1.0] * 8, seed=1))
    assert (result.verdict, result.exit_code, result.suspects) == ("pass", 0, ())
    assert all(row.slowdown == pytest.approx(1.0, abs=0.02) for row in result.rows)
    assert result.null.rows == 8


def test_a_copy_of_a_run_says_nothing(a_suite):
    run = a_suite([1.0] * 2)
    result = gate.compare(run, run)
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    assert "a copy is no second measurement" in result.rows[0].reason


def test_copies_of_a_block_are_one_block(a_run, block_values):
    base, copies = block_values("b", [1.0, 1.01, 0.99, 1.0001]), block_values("b", [1.03] * 5)
    result = gate.compare(a_run([base]), a_run([copies]))
    assert result.verdict == "inconclusive"
    assert "the 5 blocks of head are copies of one" in result.rows[0].reason


def test_slowdown_and_interval_are_welchs(a_run, block_values):
    base, head = [1.0, 1.1, 0.9, 1.05], [1.2, 1.3, 1.25]
    (row,) = gate.compare(a_run([block_values("b", base)]), a_run([block_values("b", head)])).rows
    reference = stats.ttest_ind(np.log(head), np.log(base), equal_var=False).confidence_interval(0.95)
    assert row.slowdown == pytest.approx(math.exp(np.mean(np.log(head)) - np.mean(np.log(base))))
    assert np.log(row.ci) == pytest.approx(tuple(reference))


def test_the_value_of_a_block_is_the_median_over_its_legs(a_run):
    def run(legs):
        seconds = np.outer([1.0, 1.0001, 0.9999, 1.0002, 0.9998], legs).ravel()
        block, leg = np.repeat(np.arange(5), len(legs)), np.tile(np.arange(len(legs)), 5)
        return a_run([Benchmark(name="b", group="", seconds=seconds, block=block, leg=leg)])

    (row,) = gate.compare(run([1, 2, 99]), run([2, 3, 3.001])).rows
    assert (row.slowdown, row.verdict) == (pytest.approx(1.5), "regression")


def test_false_alarms_over_a_suite_of_identical_code(a_suite):
    """1 % between processes, 2 % between rounds, 20 benchmarks: at most 5 % of gates may raise an alarm."""
    gates = [
        gate.compare(a_suite([1.0] * 20, seed=n), a_suite([1.0] * 20, seed=1000 + n)) for n in range(100)
    ]
    alarms = sum(result.verdict == "regression" for result in gates)
    assert stats.binomtest(alarms, len(gates), 0.05, alternative="greater").pvalue > 0.01
    assert sum(result.verdict == "pass" for result in gates) >= 90  # and it does not evade the question
    null_alarms = sum(len(result.null.alarms) > 0 for result in gates)
    assert stats.binomtest(null_alarms, len(gates), 0.05, alternative="greater").pvalue > 0.01


def test_power_for_a_slowdown_of_10_percent(a_suite):
    slowed = [1.0] * 19 + [1.10]
    found = 0
    for n in range(40):
        result = gate.compare(a_suite([1.0] * 20, seed=n), a_suite(slowed, seed=1000 + n))
        row = next(row for row in result.rows if row.name.startswith("matmul[19x8"))
        found += row.verdict == "regression"
        if row.verdict == "regression":
            assert row.ci[0] > 1 + row.margin
            assert row.name in result.suspects
    assert found >= 36


def test_a_gain_passes(a_suite):
    assert gate.compare(a_suite([1.0] * 3), a_suite([0.5] * 3)).verdict == "pass"


def test_margin_is_tolerated(a_suite):
    base, head = (
        a_suite([slowdown], process_noise=1e-5, round_noise=1e-5, seed=n)
        for n, slowdown in enumerate((1.0, 1.04))
    )
    assert gate.compare(base, head, margin=0.05).verdict == "pass"
    assert gate.compare(base, head, margin=0.03).verdict == "regression"


def test_holm_needs_more_evidence_in_a_larger_suite(a_run, block_values):
    quiet = np.array([1.0, 1.01, 0.99, 1.0001, 0.9999])
    base, head = block_values("b", quiet), block_values("b", 1.04 * quiet)
    before, after = ([block_values(f"other {n}", s * quiet) for n in range(40)] for s in (1.0, 1.000001))
    assert gate.compare(a_run([base]), a_run([head])).verdict == "regression"
    crowded = gate.compare(a_run([base, *before]), a_run([head, *after]))
    assert verdicts(crowded)["b"] == "pass"
    assert "b" in crowded.suspects  # its own interval clears the margin: worth measuring again


def test_holm_adjustment():
    assert judge._holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert judge._holm([]) == []


def test_margin_is_raised_to_the_noise_of_base_only(a_run, block_values):
    logs = np.array([-0.04, 0.04, -0.0401, 0.0401, 0.0])
    noisy, quiet = block_values("b", np.exp(logs)), block_values("b", 1 + 1e-6 * np.arange(1, 6))
    (row,) = gate.compare(a_run([noisy]), a_run([quiet])).rows
    assert row.margin == pytest.approx(math.expm1(logs.std(ddof=1)))
    (row,) = gate.compare(a_run([quiet]), a_run([noisy])).rows
    assert row.margin == 0.02


@pytest.mark.parametrize("slowdown", [1.2, 1.5, 3.0, 10.0])
def test_noise_of_base_cannot_hide_a_large_slowdown(a_run, block_values, slowdown):
    base = np.exp([-0.5, -0.3, 0.5, 0.3, 0.0])
    result = gate.compare(a_run([block_values("b", base)]), a_run([block_values("b", base * slowdown)]))
    (row,) = result.rows
    assert row.margin <= 0.10
    assert row.verdict == ("regression" if slowdown > 2 else "inconclusive")
    assert result.exit_code != 0


def test_too_noisy_is_inconclusive(a_run, block_values):
    noisy = [1.0, 1.3, 0.8, 1.2, 0.9]
    head = block_values("b", [value + 0.001 for value in noisy])
    result = gate.compare(a_run([block_values("b", noisy)]), a_run([head]))
    assert (result.verdict, result.exit_code, result.suspects) == ("inconclusive", 3, ("b",))


def test_null_control_sees_a_base_that_disagrees_with_itself(a_run, block_values):
    base = block_values("b", [1.0, 1.3, 1.001, 1.301, 0.999, 1.299])
    head = block_values("b", 1.2 + 1e-6 * np.arange(5))
    result = gate.compare(a_run([base]), a_run([head]))
    assert (result.null.rows, result.null.alarms) == (1, ("b",))
    assert result.rows[0].margin == pytest.approx(0.3, abs=0.01)
    assert result.verdict == "inconclusive"


@pytest.mark.parametrize(("base_blocks", "head_blocks"), [(1, 5), (5, 1), (1, 1)])
def test_one_block_is_inconclusive_with_a_remedy(a_suite, base_blocks, head_blocks):
    result = gate.compare(a_suite([1.0], blocks=base_blocks), a_suite([3.0], blocks=head_blocks))
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    assert result.rows[0].ci is None
    assert "5 blocks" in result.rows[0].reason


def test_missing_renamed_and_new(a_suite):
    base, again = a_suite([1.0] * 3), a_suite([1.0] * 3, seed=1)
    first, second, third = again.benchmarks
    head = replace(again, benchmarks=(first, replace(second, name=second.name.replace("eager", "eager2"))))
    result = gate.compare(base, head)
    assert (result.verdict, result.exit_code) == ("regression", 1)
    new = head.benchmarks[1].name
    assert verdicts(result) == {first.name: "pass", second.name: "missing", third.name: "missing", new: "new"}
    renamed = next(row for row in result.rows if row.name == second.name)
    assert new in renamed.reason


def test_new_benchmarks_do_not_fail(a_suite):
    head, base = a_suite([1.0] * 3), a_suite([1.0] * 2, seed=1)
    assert gate.compare(base, head).verdict == "pass"


def test_nothing_in_common_but_new_is_not_a_pass(a_suite):
    head = a_suite([1.0])
    base = replace(head, benchmarks=(), failures=(error(head.benchmarks[0]),))
    assert gate.compare(base, head).verdict == "inconclusive"


def test_failed_in_head(a_suite):
    base, head = a_suite([1.0] * 3), a_suite([1.0] * 3, seed=1)
    gone, partial, _ = base.benchmarks
    head = replace(
        head,
        benchmarks=head.benchmarks[1:],
        failures=(error(gone), error(partial, stage="measure", message="killed by signal 9")),
    )
    result = gate.compare(base, head)
    assert (result.verdict, result.exit_code) == ("regression", 1)
    assert [verdicts(result)[b.name] for b in base.benchmarks] == ["failed", "failed", "pass"]


def test_failures_of_base_are_known(a_suite):
    before, run = a_suite([1.0] * 2), a_suite([1.0] * 2, seed=1)
    known, still = (
        replace(each, benchmarks=each.benchmarks[:1], failures=(error(each.benchmarks[1]),))
        for each in (before, run)
    )
    result = gate.compare(known, still)
    assert result.verdict == "pass"
    assert sorted(verdicts(result).values()) == ["failed-before", "pass"]
    mended = gate.compare(known, run)
    assert (mended.verdict, sorted(verdicts(mended).values())) == ("pass", ["new", "pass"])
    unknown = gate.compare(replace(known, failures=()), still)
    assert (unknown.verdict, sorted(verdicts(unknown).values())) == ("regression", ["failed", "pass"])


def test_skipped_in_head_is_missing(a_suite):
    base = a_suite([1.0] * 2)
    skipped = error(base.benchmarks[0], kind="skipped", stage="plan", message="no GPU")
    result = gate.compare(base, replace(base, benchmarks=base.benchmarks[1:], failures=(skipped,)))
    assert result.exit_code == 1
    assert "no GPU" in result.rows[0].reason


def test_a_stopped_head_is_inconclusive(a_suite):
    base = a_suite([1.0] * 2)
    result = gate.compare(base, replace(base, benchmarks=base.benchmarks[1:], complete=False))
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)


@pytest.mark.parametrize("slowdown", [1.0, 3.0])
def test_differing_fingerprints_never_pass_and_never_confirm(a_suite, slowdown):
    base = a_suite([1.0] * 2, fingerprint="a", fingerprint_fields={"torch": "2.13", "cpu": "X"})
    head = a_suite([slowdown] * 2, fingerprint="b", fingerprint_fields={"torch": "2.14", "cpu": "X"}, seed=1)
    result = gate.compare(base, head)
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    assert set(verdicts(result).values()) == {"inconclusive"}
    assert result.fingerprint_differences == (("torch", "2.13", "2.14"),)
    assert all(row.slowdown == pytest.approx(slowdown, rel=0.05) for row in result.rows)
    missing = gate.compare(base, replace(head, benchmarks=head.benchmarks[1:]))
    assert missing.exit_code == 1


def test_without_any_field_nothing_is_known_to_be_equal(a_suite):
    one, other = (a_suite([1.0], fingerprint_fields={}, seed=seed) for seed in (0, 1))
    result = gate.compare(one, other)
    assert [field for field, _, _ in result.fingerprint_differences] == ["fingerprint"]
    assert result.verdict == "inconclusive"


@pytest.mark.parametrize("unknown", [None, ""])
def test_what_is_unknown_on_both_sides_is_not_equal(a_suite, unknown):
    fields = {"cpu": unknown, "cores": 2}
    result = gate.compare(*(a_suite([1.0], fingerprint_fields=fields, seed=seed) for seed in (0, 1)))
    assert (result.verdict, result.fingerprint_differences) == ("inconclusive", (("cpu", unknown, unknown),))
    assert "cpu is not known of base and head" in gate.render_text(result).replace("\n", " ")


def test_a_package_that_a_benchmark_never_used_does_not_matter_to_it(a_suite):
    """`make test` between two runs installs libtpu: the times of PyTorch's rows on the CPU are as before."""
    packages = {"torch": "2.13.0", "jax": "0.10.2"}
    base = a_suite([1.0], fingerprint_fields={"cpu": "X", "packages": packages})
    more = {**packages, "libtpu": "0.0.42", "jax": "0.11"}
    head = a_suite([1.0], fingerprint_fields={"cpu": "X", "packages": more}, fingerprint="b", seed=1)
    assert {b.framework for b in head.benchmarks} == {"torch"}
    assert gate.compare(base, head).verdict == "pass"
    newer = replace(head, fingerprint_fields={"cpu": "X", "packages": {**packages, "torch": "2.14.0"}})
    result = gate.compare(base, newer)
    assert (result.verdict, result.fingerprint_differences) == (
        "inconclusive",
        (("packages.torch", "2.13.0", "2.14.0"),),
    )


def test_another_cache_regime_is_not_compared(a_suite):
    base = a_suite([1.0])
    result = gate.compare(base, replace(base, benchmarks=(replace(base.benchmarks[0], cache="cold"),)))
    assert (result.verdict, result.rows[0].slowdown) == ("inconclusive", None)


def test_bad_input_is_a_user_error(a_run, a_suite, block_values):
    good = a_suite([1.0])
    with pytest.raises(UserError, match="no benchmarks"):
        gate.compare(good, a_run([]))
    for seconds in ([], [1.0, math.nan], [1.0, 0.0]):
        with pytest.raises(UserError, match="samples"):
            gate.compare(a_run([block_values("b", seconds)]), good)
    for margin in (-0.01, math.nan, math.inf):
        with pytest.raises(UserError, match="margin"):
            gate.compare(good, good, margin=margin)
    assert gate.EXIT_CODES["error"] == 2


@pytest.fixture
def mixed(a_suite):
    """A result with a row of every verdict."""
    rows = [
        gate.GateRow(name=f"{verdict} | <&\x00\x1b[31m>", verdict=verdict, reason=f"because\x0b {verdict}")
        for verdict in gate.SEVERITY
    ]
    result = gate.compare(a_suite([1.0]), a_suite([1.5], seed=1))
    differences = (("torch", "2.13", None),)
    return replace(result, rows=(*result.rows, *rows), fingerprint_differences=differences)


def test_json_document(mixed):
    document = json.loads(json.dumps(mixed.to_json(), allow_nan=False))
    assert document["verdict"] == "regression"
    assert {"name", "slowdown", "ci", "verdict"} <= set(document["rows"][0])
    assert document["rows"][0]["ci"][0] > 1.02
    assert document["rows"][-1]["ci"] is None
    assert document["fingerprint_differences"] == [{"field": "torch", "base": "2.13", "head": None}]
    assert document["null"] == {"rows": 1, "false_alarms": 0, "names": []}


def test_text_and_markdown_name_every_row_that_is_not_a_pass(a_suite):
    base = a_suite([1.0] * 30)
    head = a_suite([1.5] + [1.0] * 29, seed=1)
    result = gate.compare(base, replace(head, benchmarks=head.benchmarks[:29]))
    for text in (gate.render_text(result), gate.render_markdown(result)):
        assert all(row.name in text for row in result.rows if row.verdict != "pass")
        assert text.index(base.benchmarks[29].name) < text.index(result.rows[5].name)  # failures first


def test_text_fits_a_terminal_of_80_columns_and_cuts_no_name(a_suite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    base = a_suite([1.0] * 4)
    head = a_suite([1.5, 1.0, 1.0, 1.0], seed=1)
    names = {
        b.name: f"attention[b1_h12_s128_d64_causal-float32-forward-{n}-wall]"
        for n, b in enumerate(base.benchmarks)
    }
    base, head = (
        replace(run, benchmarks=tuple(replace(b, name=names[b.name]) for b in run.benchmarks))
        for run in (base, replace(head, benchmarks=head.benchmarks[:3]))
    )
    lines = gate.render_text(gate.compare(base, head)).splitlines()
    assert set(names.values()) <= set(lines)
    assert all(len(line) <= 80 for line in lines if "fuseproof run" not in line)
    assert any(line.split()[:1] == ["regression"] and "+50" in line for line in lines)


def test_junit_is_read_back(mixed, tmp_path):
    file = tmp_path / "gate.xml"
    write_junit(mixed, file)
    suite = ElementTree.parse(file).getroot().find("testsuite")
    cases = {case.get("name"): case for case in suite}
    assert len(cases) == len(mixed.rows) + 1 == int(suite.get("tests"))

    def tags(tag):
        return {case.find(tag).get("type") for case in suite if case.find(tag) is not None}

    assert tags("failure") == {"regression", "missing", "failed"}
    assert tags("error") == {"fingerprint", "inconclusive"}  # a red job has a red report
    counts = [int(suite.get(name)) for name in ("failures", "errors")]
    assert counts == [len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error")]
    assert counts == [4, 2]
    assert not any(ord(character) < 32 for name in cases for character in name)


def test_junit_that_cannot_be_written(mixed, tmp_path):
    for path in (tmp_path, tmp_path / "absent" / "gate.xml"):
        with pytest.raises(UserError, match="cannot write"):
            write_junit(mixed, path)


def test_hostile_names_and_messages_are_inert(a_run, a_benchmark, tmp_path):
    """In a terminal, in a step summary, in JUnit; as a file would bring them."""
    texts = (
        "<script>alert(1)</script>",
        "![pixel](https://evil.example/p.png)",
        "\n::error file=x::no",
        "##[error]no",
        "]]>",
        "\x1b[2J\x07\x00",
        "\u202egnp \udc80",
        "a|b",
        "[bold]x[/]",
    )
    names = [f"{text}{number}" for number, text in enumerate(texts)]
    more = {"blocks": 5, "legs": 2, "rounds": 1, "process_noise": 0.001}
    benchmarks = [a_benchmark(**more)]
    benchmarks += [replace(a_benchmark(**more), name=name, implementation=name) for name in names]
    failures = [Failure(group="g", implementation=n, kind="error", stage="check", message=n) for n in names]
    paths = tmp_path / "base.json", tmp_path / "head.json"
    for path, failed in zip(paths, ((), failures), strict=True):
        write_json(path, run_to_json(a_run(benchmarks[: 3 if failed else None], failures=failed)))
    result = replace(gate.compare(*map(load_all, map(str, paths))), base=names[2], remeasure_command=names[2])
    write_junit(result, tmp_path / "junit.xml")
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert len(root.findall(".//testcase")) == len(result.rows) > len(names)
    for text in (
        gate.render_text(result),
        gate.render_markdown(result),
        (tmp_path / "junit.xml").read_text(),
    ):
        text.encode()
        assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
        assert not re.search(r"^\s*::|##\[", text, re.MULTILINE)
    summary = gate.render_markdown(result)
    assert not re.search(r"<script|!\[", summary)
    rows = [line for line in summary.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
    assert "[bold]x[/]8" in gate.render_text(result), "no markup either"
