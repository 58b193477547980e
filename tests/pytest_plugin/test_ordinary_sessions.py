"""What an ordinary run of pytest has of the plugin: nothing to wait for, and its benchmarks as they were."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import inner_pytest

MIXED = """
import pytest


def eager(x):
    return x


def test_measured(fuseproof):
    fuseproof(eager, 3, baseline=lambda x: x)


def test_own(benchmark):
    benchmark(sum, [1, 2])


def test_ordinary():
    pass
"""
NO_MEASURING = """
import fuseproof.api.compare

def refuse(*arguments, **settings):
    raise AssertionError("measured")

fuseproof.api.compare.compare = refuse
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "conftest.py").write_text(NO_MEASURING)
    (tmp_path / "test_mixed.py").write_text(MIXED)
    return tmp_path


def test_the_plugin_loads_nothing_that_pytest_does_not():
    """Its own modules, and no more of the standard library either."""
    code = """
import json, sys
import pytest
before = set(sys.modules)
import fuseproof.pytest_plugin
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    added = json.loads(done.stdout)
    assert "fuseproof.pytest_plugin" in added
    assert {
        name for name in added if name != "fuseproof" and not name.startswith("fuseproof.pytest_plugin")
    } == set()


def test_a_session_without_its_fixtures_loads_no_more(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_ordinary(benchmark):\n"
        "    benchmark(sum, [1, 2])\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    assert not loaded & {'numpy', 'scipy', 'torch', 'jax', 'tensorflow', 'rich', 'msgspec'}\n"
        "    assert 'fuseproof.api' not in sys.modules and 'fuseproof.measure' not in sys.modules\n"
    )
    # jaxtyping, which Equinox brings, has a plugin that loads NumPy itself.
    session = inner_pytest.run(tmp_path, "--benchmark-json=out.json", "-p", "no:jaxtyping")
    assert session.tests["test_ordinary"].kind == "passed", session.tests["test_ordinary"].message
    assert "fuseproof" not in session.output.partition("plugins:")[2].partition("\n")[2]


def test_beside_other_workers_nothing_is_measured_and_the_session_says_so(project):
    session = inner_pytest.run(project, "-n2")
    assert session.returncode == 0, session.output
    assert session.tests["test_ordinary"].kind == session.tests["test_own"].kind == "passed"
    assert session.tests["test_measured"].kind == "skipped"
    line = "1 test not measured beside the tests of other workers of pytest-xdist; measure with -n 0"
    assert line in session.output


def test_one_worker_beside_none_measures(project):
    session = inner_pytest.run(project, "-n0", "-k", "measured")
    assert "measured" in session.tests["test_measured"].message, "as the conftest has it"
    assert session.tests["test_measured"].kind == "failed"


def test_disabled_benchmarks_are_not_measured_and_the_session_says_so(project):
    session = inner_pytest.run(project, "--benchmark-disable")
    assert {name: each.kind for name, each in session.tests.items()} == {
        "test_measured": "skipped",
        "test_own": "passed",
        "test_ordinary": "passed",
    }
    assert "1 test not measured with --benchmark-disable" in session.output


@pytest.mark.parametrize(
    ("option", "kinds"),
    [("--benchmark-only", "failed passed skipped"), ("--benchmark-skip", "skipped skipped passed")],
)
def test_pytest_benchmark_counts_its_tests_among_the_benchmarks(project, option, kinds):
    session = inner_pytest.run(project, option)
    names = ("test_measured", "test_own", "test_ordinary")
    assert [session.tests[name].kind for name in names] == kinds.split()


def test_without_pytest_benchmark_one_line_says_what_is_missing(project):
    session = inner_pytest.run(project, "-p", "no:benchmark", "-k", "measured or ordinary")
    assert session.tests["test_ordinary"].kind == "passed"
    found = session.tests["test_measured"]
    assert found.kind == "error"
    assert "pytest-benchmark is switched off; run without -p no:benchmark" in found.message


def test_the_marker_is_known_and_explained(project):
    session = inner_pytest.run(project, "--markers")
    assert "@pytest.mark.fuseproof(seconds=, cache=, device=" in session.output
