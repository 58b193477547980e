"""The fixture `fuseproof` in a user's project, with made-up times: what it asserts, refuses and stores."""

from __future__ import annotations

import json
import platform
import textwrap

import pytest
from support import fake_compare, inner_pytest

from fuseproof import privacy, pytest_plugin
from fuseproof.reports import gate
from fuseproof.runs import run_file

CONFTEST = """
import fuseproof.api.compare
from support import fake_compare

fuseproof.api.compare.compare = fake_compare.compare
"""

FUNCTIONS = """
import pytest


def function(name, **fields):
    def made(x):
        return x
    made.__name__ = name
    vars(made).update(fields)
    return made


eager = function("eager", seconds=3e-3)
fast = function("fast", seconds=2e-3)
"""

MEASURED = """
def test_fast_enough(fuseproof):
    found = fuseproof(fast, 3, baseline=eager, at_least=1.4999)
    assert {each.implementation for each in found} == {"fast"}

def test_too_slow(fuseproof):
    fuseproof(fast, 3, baseline=eager, at_least=1.5001)

def test_undecided(fuseproof):
    fuseproof(function("unsteady", seconds=2e-3, noise=0.2), 3, baseline=eager, at_least=1.2)

def test_nothing_asked(fuseproof):
    fuseproof(fast, inputs=lambda seed: seed, baseline=eager, reference=abs)

@pytest.mark.benchmark(group="of the user")
def test_with_a_group(fuseproof):
    fuseproof(fast, 3, baseline=eager)

def test_of_the_user(benchmark):
    assert benchmark(sum, [1, 2]) == 3
"""

WITHOUT_TIMES = """
def test_wrong(fuseproof):
    fuseproof(function("own", wrong="output is wrong: 0.1"), 3, baseline=eager, at_least=1.2)

def test_wrong_baseline(fuseproof):
    fuseproof(fast, 3, baseline=function("other", wrong="it died"), at_least=1.2)

def test_cannot_run_here(fuseproof):
    fuseproof(function("own", skipped="needs cuda"), 3, baseline=eager)

def test_refused(fuseproof):
    fuseproof(function("own", refused="own cannot travel"), 3, baseline=eager)

def test_two_fixtures(fuseproof, benchmark):
    pass

def test_unknown_keyword(fuseproof):
    fuseproof(fast, 3, baseline=eager, sedonds=3)

def test_no_arguments(fuseproof):
    fuseproof(fast, baseline=eager)

def test_arguments_twice(fuseproof):
    fuseproof(fast, 3, baseline=eager, inputs=lambda seed: 3)

def test_two_passes(fuseproof):
    fuseproof(fast, 3, baseline=eager, passes=("forward", "forward_backward"))

@pytest.mark.parametrize("limit", [0, -1.2, float("nan"), "1.2", True])
def test_limit(fuseproof, limit):
    fuseproof(fast, 3, baseline=eager, at_least=limit)

def test_limit_of_one_block(fuseproof):
    fuseproof(fast, 3, baseline=eager, at_least=1.2, blocks=1)

@pytest.mark.fuseproof(cache="hot")
def test_marker_of_a_wrong_value(fuseproof):
    pass

@pytest.mark.fuseproof(sedonds=3)
def test_marker_of_an_unknown_name(fuseproof):
    pass

@pytest.mark.fuseproof(3)
def test_marker_without_a_name(fuseproof):
    pass

@pytest.mark.fuseproof(device="cuda")
def test_on_a_gpu(fuseproof):
    raise AssertionError("there is one")
"""


def make_project(folder, tests):
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_mine.py").write_text(FUNCTIONS + textwrap.dedent(tests))
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")
    return folder


def compared(folder):
    return [json.loads(line) for line in (folder / fake_compare.LOG).read_text().splitlines()]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("measured"), MEASURED)
    return folder, inner_pytest.run(folder, "--benchmark-json=out.json", "--benchmark-autosave")


@pytest.fixture(scope="module")
def without_times(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("without_times"), WITHOUT_TIMES)
    return folder, inner_pytest.run(folder)


@pytest.mark.parametrize(
    ("test", "kind", "message"),
    [
        ("test_fast_enough", "passed", ""),
        ("test_nothing_asked", "passed", ""),
        ("test_too_slow", "failed", "too slow: fast is 1.5 times as fast as eager (95 % interval 1.5 to 1.5"),
        ("test_undecided", "failed", "inconclusive: unsteady is "),
        ("test_undecided", "failed", "blocks that spread as these do would decide it: blocks="),
        ("test_with_a_group", "passed", ""),
        ("test_of_the_user", "passed", ""),
    ],
)
def test_the_limit_of_the_interval_decides(measured, test, kind, message):
    _, session = measured
    assert session.tests[test].kind == kind
    assert message in session.tests[test].message


def test_pytest_benchmark_has_the_rounds_of_every_test_that_measured(measured):
    folder, _ = measured
    document = json.loads((folder / "out.json").read_text())
    entries = {entry["name"]: entry for entry in document["benchmarks"]}
    assert entries.keys() == {line.split("(")[0][4:] for line in MEASURED.splitlines() if "def " in line}
    fast = entries["test_too_slow"]
    assert set(fast["stats"]["data"]) == {2e-3}, "the host's clock, not the GPU's"
    assert len(fast["stats"]["data"]) == len(fast["extra_info"]["block"]) == len(fast["extra_info"]["leg"])
    info = fast["extra_info"]["fuseproof"]
    assert (info["implementation"], info["baseline"], info["blocks"]) == ("fast", "eager", 5)
    assert info["low"] <= info["speedup"] <= info["high"]
    assert entries["test_with_a_group"]["group"] == "of the user", "its marker keeps its meaning"
    assert set(entries["test_with_a_group"]["stats"]["data"]) == {2e-3}, "and does not take the timer away"
    own = entries["test_of_the_user"]
    assert own["extra_info"] == {} and own["options"]["timer"] != "fuseproof.replay"
    assert document["machine_info"]["node"] == privacy.machine_id(), "not the host's name"


def test_the_end_of_the_session_has_a_line_for_each_speedup(measured):
    _, session = measured
    line = "fast is 1.5 times as fast as eager (95 % interval 1.5 to 1.5, 5 blocks)"
    assert f"test_mine.py::test_fast_enough: {line}" in session.output
    assert session.tests["test_fast_enough"].properties == {"fuseproof": line}
    assert "fuseproof" not in session.tests["test_of_the_user"].properties


def test_the_gate_reads_what_pytest_benchmark_wrote(measured):
    folder, _ = measured
    (saved,) = folder.glob(".benchmarks/*/*.json")
    for file in (folder / "out.json", saved):
        run = run_file.load(file)
        result = gate.compare(run, run)
        assert {row.name for row in result.rows} >= {"test_mine.py::test_too_slow"}


def test_a_regression_against_a_saved_run_fails_the_session(measured):
    folder, _ = measured
    (saved,) = folder.glob(".benchmarks/*/0001_*.json")
    whole = saved.read_text()
    compare = ("-k", "fast_enough", "--benchmark-compare=0001", "--benchmark-compare-fail=median:5%")
    same = inner_pytest.run(folder, *compare)
    assert same.returncode == 0 and "(0001" in same.output, "the saved one is in the table"
    document = json.loads(whole)
    for entry in document["benchmarks"]:
        entry["stats"]["median"] /= 1.06
    saved.write_text(json.dumps(document))
    slower = inner_pytest.run(folder, *compare)
    saved.write_text(whole)
    assert slower.returncode != 0 and "Performance has regressed" in slower.output


def test_a_histogram_is_drawn(measured):
    pytest.importorskip("pygal", reason="pip install pytest-benchmark[histogram]")
    folder, _ = measured
    session = inner_pytest.run(folder, "-k", "fast_enough", "--benchmark-histogram=drawn")
    assert session.returncode == 0, session.output
    assert "test_fast_enough" in (folder / "drawn.svg").read_text()


def test_the_profiler_of_pytest_benchmark_finds_nothing_to_trip_over(measured):
    folder, _ = measured
    session = inner_pytest.run(folder, "-k", "fast_enough", "--benchmark-cprofile=tottime")
    assert session.returncode == 0, session.output


@pytest.mark.parametrize(
    ("saved", "then"),
    [
        (privacy.machine_id(), privacy.machine_id()),
        (platform.node(), platform.node()),
        ("another", platform.node()),
    ],
)
def test_pytest_benchmark_knows_this_machine_by_its_name_and_its_number(saved, then):
    here = {"node": platform.node()}
    pytest_plugin.pytest_benchmark_compare_machine_info(here, {"machine_info": {"node": saved}})
    assert here == {"node": then}


def test_arguments_seeds_and_references_reach_the_comparison(measured):
    folder, _ = measured
    by_test = {each["name"]: each for each in compared(folder)}
    assert by_test["test_fast_enough"]["inputs"] == "(3,)"
    assert not by_test["test_fast_enough"]["reference"]
    assert "<lambda>" in by_test["test_nothing_asked"]["inputs"]
    assert by_test["test_nothing_asked"]["reference"]
    assert by_test["test_nothing_asked"]["functions"] == ["eager", "fast"]
    assert by_test["test_nothing_asked"]["baseline"] == "eager"


@pytest.mark.parametrize(
    ("test", "kind", "message"),
    [
        ("test_wrong", "failed", "own failed in the stage check: output is wrong: 0.1"),
        ("test_wrong_baseline", "failed", "the baseline other failed in the stage check: it died"),
        ("test_cannot_run_here", "skipped", "own: needs cuda"),
        ("test_refused", "failed", "own cannot travel"),
        ("test_two_fixtures", "error", "takes `benchmark` beside a fixture of Fuseproof"),
        ("test_unknown_keyword", "failed", "fuseproof takes no 'sedonds'; it takes seconds, cache, device"),
        ("test_no_arguments", "failed", "give the function's arguments after it, or else inputs="),
        ("test_arguments_twice", "failed", "give the function's arguments after it, or else inputs="),
        ("test_two_passes", "failed", "passes is one pass, by name"),
        ("test_limit[0]", "failed", "at_least is a speedup above 0, such as 1.2, not 0"),
        ("test_limit[-1.2]", "failed", "not -1.2"),
        ("test_limit[nan]", "failed", "not nan"),
        ("test_limit[1.2]", "failed", "not '1.2'"),
        ("test_limit[True]", "failed", "not True"),
        ("test_limit_of_one_block", "failed", "one block has none; measure 3 blocks or more"),
        ("test_marker_of_a_wrong_value", "error", "cache is 'warm' or 'cold', not 'hot'"),
        ("test_marker_of_an_unknown_name", "error", "the marker fuseproof takes no 'sedonds'; it takes"),
        ("test_marker_without_a_name", "error", "by keyword, not 3"),
    ],
)
def test_what_has_no_times_says_why_and_nothing_else(without_times, test, kind, message):
    _, session = without_times
    assert session.tests[test].kind == kind, "and no warning at its end"
    assert message in session.tests[test].message
    assert "Traceback" not in session.tests[test].message


def test_nothing_that_is_wrong_is_measured_or_stored(without_times):
    folder, session = without_times
    assert [each["name"] for each in compared(folder)] == [
        *("test_wrong", "test_wrong_baseline", "test_cannot_run_here", "test_refused")
    ]
    assert "benchmark: " not in session.output.partition("short test summary")[0].partition("defaults:")[2]
    assert "times as fast as" not in session.output


def test_a_test_of_a_device_that_is_not_here_is_skipped_before_it_begins(without_times):
    _, session = without_times
    found = session.tests["test_on_a_gpu"]
    if "there is one" in found.message:
        pytest.skip("there is a GPU here")
    assert (found.kind, "no driver of a GPU is loaded here" in found.message) == ("skipped", True)


def test_a_second_measurement_in_a_test_is_refused(tmp_path):
    twice = "def test_twice(fuseproof):\n" + "    fuseproof(fast, 3, baseline=eager)\n" * 2
    session = inner_pytest.run(make_project(tmp_path, twice))
    assert session.tests["test_twice"].kind == "failed"
    assert "test_twice measures twice, and a test is one benchmark" in session.tests["test_twice"].message
    assert len(compared(tmp_path)) == 1


def test_a_benchmark_that_another_fixture_made_is_not_stored(tmp_path):
    changed = """
    @pytest.fixture(autouse=True)
    def first(benchmark):
        pass

    def test_changed(fuseproof):
        fuseproof(fast, 3, baseline=eager)
    """
    session = inner_pytest.run(make_project(tmp_path, changed), "--benchmark-json=out.json")
    assert session.tests["test_changed"].kind == "failed"
    assert "did not get what was measured" in session.tests["test_changed"].message
    assert json.loads((tmp_path / "out.json").read_text())["benchmarks"] == []


def test_the_command_line_comes_before_the_call_and_the_call_before_the_nearest_marker(tmp_path):
    settings = """
    pytestmark = pytest.mark.fuseproof(seconds=9, cache="cold", threads=1, blocks=7)

    @pytest.mark.fuseproof(seconds=8, precision=0.5)
    class TestIt:
        @pytest.mark.fuseproof(precision=0.25)
        def test_nearest(self, fuseproof):
            fuseproof(fast, 3, baseline=eager, threads=2, palindromes=3, blocks=6)
    """
    session = inner_pytest.run(make_project(tmp_path, settings), "--fuseproof-blocks=5")
    assert session.tests["test_nearest"].kind == "passed"
    (found,) = compared(tmp_path)
    expected = {"seconds": 8, "cache": "cold", "threads": 2, "precision": 0.25, "blocks": 5, "palindromes": 3}
    assert {key: found[key] for key in expected} == expected
    assert "device" not in found
